/* The activations and their slopes on the device, shared by act and glu: see kernels/cpu/act.h. */
#ifndef PARE_CUDA_ACT_H
#define PARE_CUDA_ACT_H

#include "cuda.h"

template <class T> static __device__ __forceinline__ float sigmoid(float x)
{
    return quotient<T>(1, 1 + exp_of<T>(-x));
}

/* An activation's value and slope at x; what a caller does not use is not computed. */
struct act_result {
    float value, slope;
};

template <enum act F, class T> static __device__ __forceinline__ act_result act_at(float x)
{
    if (F == ACT_SILU) {
        float s = sigmoid<T>(x);
        return {x * s, s * fmaf(x, 1 - s, 1.0f)};
    }
    if (F == ACT_GELU) {
        float p = normcdff(x);
        return {x * p, fmaf(x * 0.398942280f, exp_of<T>(-0.5f * x * x), p)};
    }
    if (F == ACT_GELU_TANH) {
        float s = sigmoid<T>(1.59576912f * fmaf(0.044715f * x * x, x, x));
        return {x * s, s * fmaf(x * (1 - s), 1.59576912f * fmaf(0.134145f * x, x, 1.0f), 1.0f)};
    }
    if (x <= 0)
        return {0, 0};
    return {x * x, 2 * x};
}

/* Runs a statement with F standing for the activation f. */
#define BY_ACT(f, F, ...) \
    do { \
        switch (f) { \
        case ACT_SILU: { \
            constexpr enum act F = ACT_SILU; \
            __VA_ARGS__; \
            break; \
        } \
        case ACT_GELU: { \
            constexpr enum act F = ACT_GELU; \
            __VA_ARGS__; \
            break; \
        } \
        case ACT_GELU_TANH: { \
            constexpr enum act F = ACT_GELU_TANH; \
            __VA_ARGS__; \
            break; \
        } \
        case ACT_RELU2: { \
            constexpr enum act F = ACT_RELU2; \
            __VA_ARGS__; \
            break; \
        } \
        case ACT_COUNT: break; \
        } \
    } while (0)

#endif
