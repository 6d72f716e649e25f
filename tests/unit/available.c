/* Memory that is left, in made-up trees of /proc and control groups. Prints "N passed, N failed".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../lib/base/available.h"
#include "../../lib/base/mem.h"
#include "check.h"

#define V2 "sys/fs/cgroup/"
#define V1 "sys/fs/cgroup/memory/"
/* Worked by hand. Files: path, text, ... */
static const struct {
    const char *what;
    int64_t left;
    const char *files[16];
} cases[] = {
    {"nothing", INT64_MAX, {"proc/other", ""}},
    {"a machine", 1024 * 1000, {"proc/meminfo", "MemTotal: 5000 kB\nMemAvailable:   1000 kB\n"}},
    {"no limit",
     2048,
     {"proc/meminfo", "MemAvailable: 2 kB\n", "proc/self/cgroup", "0::/a\n", V2 "a/memory.max",
      "max\n", V2 "a/memory.current", "77\n"}},
    {"version 2: 1000 - (700 - 200)",
     500,
     {"proc/meminfo", "MemAvailable: 2 kB\n", "proc/self/cgroup", "0::/a\n", V2 "a/memory.max",
      "1000\n", V2 "a/memory.current", "700\n", V2 "a/memory.stat",
      "anon 500\ninactive_file 200\n"}},
    {"the group that contains it allows less",
     300,
     {"proc/self/cgroup", "0::/a/b\n", V2 "a/memory.max", "1000\n", V2 "a/memory.current", "700\n",
      V2 "a/b/memory.max", "900\n", V2 "a/b/memory.current", "100\n"}},
    {"the host's path, in a container",
     900,
     {"proc/self/cgroup", "0::/host/c\n", V2 "memory.max", "1000\n", V2 "memory.current", "100\n"}},
    {"version 1: 1000 - (700 - 150)",
     450,
     {"proc/self/cgroup", "5:cpu:/x\n4:cpuset,memory:/a\n", V1 "a/memory.limit_in_bytes", "1000\n",
      V1 "a/memory.usage_in_bytes", "700\n", V1 "a/memory.stat",
      "inactive_file 20\ntotal_inactive_file 150\n"}},
    {"more than the limit is in use",
     0,
     {"proc/self/cgroup", "0::/\n", V2 "memory.max", "10\n", V2 "memory.current", "70\n"}},
};

static void put(const char *root, const char *name, const char *text)
{
    char *path = mem_format("%s/%s", root, name);
    for (char *at = path + strlen(root) + 1; (at = strchr(at, '/')); *at++ = '/') {
        *at = 0;
        mkdir(path, 0777);
    }
    FILE *f = fopen(path, "w");
    CHECK(f && fputs(text, f) >= 0 && !fclose(f), "cannot write %s", path);
    free(path);
}

int main(void)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char root[] = "/tmp/pare-available-XXXXXX";
        CHECK(mkdtemp(root), "cannot make %s", root);
        for (int k = 0; cases[i].files[k]; k += 2)
            put(root, cases[i].files[k], cases[i].files[k + 1]);
        int64_t left = available_bytes(root);
        CHECK(left == cases[i].left, "%s: %lld", cases[i].what, (long long)left);
        char *remove = mem_format("rm -r %s", root);
        CHECK(!system(remove), "%s", remove);
        free(remove);
    }
    CHECK(available_bytes("") > 1 << 20, "this machine has nothing left");
    return check_report();
}
