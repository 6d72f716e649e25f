/* The activations and their slopes on the device, shared by act and glu: see kernels/cpu/act.h. */
#ifndef PARE_CUDA_ACT_H
#define PARE_CUDA_ACT_H

#include "cuda.h"

static __device__ __forceinline__ float sigmoid(float x) { return 1 / (1 + expf(-x)); }
static __device__ __forceinline__ float gelu_gate(float x)
{
    return sigmoid(1.59576912f * fmaf(0.044715f * x * x, x, x));
}

template <enum act F> static __device__ __forceinline__ float act_value(float x)
{
    if (F == ACT_SILU)
        return x * sigmoid(x);
    if (F == ACT_GELU)
        return x * normcdff(x);
    if (F == ACT_GELU_TANH)
        return x * gelu_gate(x);
    return x <= 0 ? 0 : x * x;
}

template <enum act F> static __device__ __forceinline__ float act_slope(float x)
{
    if (F == ACT_SILU) {
        float s = sigmoid(x);
        return s * fmaf(x, 1 - s, 1.0f);
    }
    if (F == ACT_GELU)
        return fmaf(x * 0.398942280f, expf(-0.5f * x * x), normcdff(x));
    if (F == ACT_GELU_TANH) {
        float s = gelu_gate(x);
        return s * fmaf(x * (1 - s), 1.59576912f * fmaf(0.134145f * x, x, 1.0f), 1.0f);
    }
    return x <= 0 ? 0 : 2 * x;
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
