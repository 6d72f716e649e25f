/* What rmsnorm and layernorm share: the part of a weight that belongs to a group, and weight
 * gradients summed in f64, one range of scratch a thread, added up in the order of the threads. */
#ifndef PARE_NORM_H
#define PARE_NORM_H

#include <omp.h>
#include <string.h>

#include "../op.h"

enum { NORM_SERIAL = 32768 }; /* values below which one thread is faster */

/* Weights [n] are shared by the groups, [groups * n] are not; NULL if absent. */
static inline const float *norm_part(const struct operand *w, int64_t group, int64_t n)
{
    const float *v = w->v;
    return !v || w->rows == n ? v : v + group * n;
}

/* Sums of weight and bias gradients of every thread. */
static inline size_t norm_scratch(const struct op_args *c)
{
    return (size_t)c->x->threads * (size_t)(c->w[0].rows + c->w[1].rows) * sizeof(double);
}

/* Inside a parallel region: this thread's n zeroed sums; *used becomes the number of threads. */
static inline double *norm_sums(const struct op_args *c, int64_t n, int *used)
{
    double *sums = (double *)c->scratch + omp_get_thread_num() * n;
    memset(sums, 0, (size_t)n * sizeof *sums);
#pragma omp single nowait
    *used = omp_get_num_threads();
    return sums;
}

/* g[i] += sums of all threads at offset + i, of ranges `stride` long. Nothing if n is 0. */
static inline void norm_reduce(const void *scratch, int threads, int64_t stride, int64_t offset,
                               int64_t n, float *g)
{
    const double *sums = scratch;
    for (int64_t i = 0; i < n; i++) {
        double s = 0;
        for (int j = 0; j < threads; j++)
            s += sums[j * stride + offset + i];
        g[i] += (float)s;
    }
}

#endif
