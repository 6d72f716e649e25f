/* Executes the program again with tuned settings: see restart.h. */
#include "restart.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "../base/mem.h"

static const char *const spin = "GOMP_SPINCOUNT", *const tunables = "GLIBC_TUNABLES",
                         *const cache = "glibc.malloc.tcache_count";
static const char SPINS[] = "20000"; /* about a millisecond */

static int spin_is_set(void) { return getenv(spin) || getenv("OMP_WAIT_POLICY"); }

static int cache_is_set(void)
{
    const char *now = getenv(tunables);
    return now && strstr(now, cache);
}

static int cache_off(void)
{
    const char *now = getenv(tunables);
    char *all = now ? mem_format("%s:%s=0", now, cache) : mem_format("%s=0", cache);
    int failed = setenv(tunables, all, 1);
    free(all);
    return failed;
}

/* Executed by its path, since the kernel names a process after the file: through /proc/self/exe
 * every tool would be listed as "exe". Returns only on failure. */
static void execute_again(char **argv)
{
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n <= 0)
        return;
    path[n] = 0;
    execv(path, argv);
}

void restart_tuned(char **argv)
{
    const char *wanted = getenv("PARE_RESTART");
    /* a privileged program never sees the tunables and would restart for ever */
    if ((wanted && !strcmp(wanted, "0")) || getauxval(AT_SECURE))
        return;
    if (spin_is_set() && cache_is_set())
        return;
    if (!spin_is_set() && setenv(spin, SPINS, 1))
        return;
    if (!cache_is_set() && cache_off())
        return;
    execute_again(argv);
}
