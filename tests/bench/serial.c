/* Processor time outside parallel regions: see serial.h. The linker leads calls of libgomp's
 * GOMP_parallel here (--wrap), which each `omp parallel` becomes. A region that runs on one thread,
 * because its loop is short, counts as outside. */
#include "serial.h"

#include <time.h>

typedef void region(void *);
void __real_GOMP_parallel(region *fn, void *data, unsigned threads, unsigned flags);
void __wrap_GOMP_parallel(region *fn, void *data, unsigned threads, unsigned flags);

static double inside; /* of the first thread */
static _Thread_local int depth;

static double seconds_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void __wrap_GOMP_parallel(region *fn, void *data, unsigned threads, unsigned flags)
{
    int counts = threads != 1 && !depth;
    double start = counts ? seconds_of(CLOCK_THREAD_CPUTIME_ID) : 0;
    depth += counts;
    __real_GOMP_parallel(fn, data, threads, flags);
    depth -= counts;
    if (counts)
        inside += seconds_of(CLOCK_THREAD_CPUTIME_ID) - start;
}

struct serial serial_now(void)
{
    return (struct serial){seconds_of(CLOCK_THREAD_CPUTIME_ID) - inside,
                           seconds_of(CLOCK_PROCESS_CPUTIME_ID)};
}
