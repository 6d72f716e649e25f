/* A tool as one of several processes (lib/base/world.h): rank 0 speaks and writes; an error of any
 * ends all. See tool.h. */
#include "../base/world.h"

#include <fcntl.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tool_private.h"

static void say(const char *text, void *tool) { tool_say(tool, text); }

void tool_join(struct tool *t)
{
    if (world_start(&t->err))
        tool_exit(t, 1, t->err.msg);
    int null = world_rank() ? open("/dev/null", O_WRONLY) : -1;
    if (null >= 0) {
        dup2(null, 1);
        close(null);
    }
}

void tool_agree(struct tool *t)
{
    int n = world_size();
    if (n == 1)
        return;
    if (!(t->desc->uses & TOOL_WORLD))
        tool_usage(t, "works as one process, not as %d: start it without mpirun or srun", n);
    world_patience((double)t->deadline, t->quiet ? NULL : say, t);
    t->quiet |= world_rank() > 0;
}

/* The cores of a host are shared; a launcher that binds processes to cores has done so already. */
int tool_threads(void)
{
    int allowed = omp_get_max_threads(), share = omp_get_num_procs();
    if (world_size() == 1 || getenv("OMP_NUM_THREADS"))
        return allowed;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (share == cores)
        share = share / world_neighbours();
    if (share < 1)
        share = 1;
    return share < allowed ? share : allowed;
}
