/* The sum of products of two vectors, in double precision. */
#ifndef PARE_PRUNE_DOT_H
#define PARE_PRUNE_DOT_H

#include <stdint.h>

static inline double dot64(const double *a, const double *b, int64_t n)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

#endif
