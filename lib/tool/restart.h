/* Settings that the C library and OpenMP read only when a program starts. */
#ifndef PARE_RESTART_H
#define PARE_RESTART_H

/* Call this first in a main that computes, before any thread starts. Sets the variables below,
 * unless the user has, and executes the program again with the same arguments; the process id stays
 * the same. Returns if nothing is left to set or the program cannot be executed again (no /proc,
 * for instance): it then runs slower and takes more memory, with the same results. PARE_RESTART=0
 * in the environment leaves everything as it is, e.g. under a debugger.
 *
 * - GOMP_SPINCOUNT. A thread that reaches the end of a parallel region spins before it sleeps, by
 *   default for milliseconds. On cores that other processes use too this costs more than half of
 *   the speed: 1.6 times faster beside two busy processes, equal on a quiet machine. A tenth of the
 *   time chosen here is too short, since waking a thread is slow as well (tests/bench/LOG.md).
 * - glibc.malloc.tcache_count=0. glibc before 2.38 leaves a few bytes before each aligned block in
 *   its per-thread cache of small blocks. They keep the workspaces that matrix products free from
 *   merging: up to 15 MB a thread more than predicted. Without the cache: none, at equal speed.
 *
 * Neither can be set from within the program: libgomp has no function for the first, mallopt none
 * for the second. */
void restart_tuned(char **argv);

#endif
