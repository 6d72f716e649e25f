/* A sum of two values, one of them scaled, as an elementwise pass (cuda.h): for add, and linear's
 * gradients. */
#ifndef PARE_CUDA_ADD_H
#define PARE_CUDA_ADD_H

#include "cuda.h"

/* y = a + scale * b, or without a where it is NULL */
template <class T> struct add_scaled {
    const T *a, *b;
    T *y;
    float scale;
    template <int N> __device__ void at(int64_t i) const
    {
        float u[N] = {0}, v[N];
        if (a)
            load(a + i, u);
        load(b + i, v);
#pragma unroll
        for (int k = 0; k < N; k++)
            u[k] += scale * v[k];
        store(y + i, u);
    }
};

#endif
