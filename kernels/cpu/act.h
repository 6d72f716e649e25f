/* The activations f and their slopes f', shared by act and glu; f is a constant where these are
 * called, so each becomes a plain loop. silu x s(x); gelu x P(x) with the normal distribution P;
 * gelu_tanh its tanh form (Hendrycks and Gimpel 2016, section 2); relu2 max(x, 0)^2. */
#ifndef PARE_ACT_H
#define PARE_ACT_H

#include "../op.h"
#include "vecmath.h"

enum { ACT_PIECE = 4096 }; /* values that one thread takes at a time */

/* Runs `loop`, which uses the constant F, for the activation f. */
#define ACT_SWITCH(f, loop) \
    switch (f) { \
    case ACT_SILU: { \
        const enum act F = ACT_SILU; \
        loop; \
        break; \
    } \
    case ACT_GELU: { \
        const enum act F = ACT_GELU; \
        loop; \
        break; \
    } \
    case ACT_GELU_TANH: { \
        const enum act F = ACT_GELU_TANH; \
        loop; \
        break; \
    } \
    case ACT_RELU2: { \
        const enum act F = ACT_RELU2; \
        loop; \
        break; \
    } \
    case ACT_COUNT: break; \
    }

/* tanh's argument in gelu_tanh: sqrt(2/pi) (x + 0.044715 x^3). The form 2 s(2u) = 1 + tanh(u) keeps
 * precision where it nears 0. */
static inline float act_gelu_gate(float x)
{
    return vec_sigmoid(1.59576912f * FMA(0.044715f * x * x, x, x));
}

static inline __attribute__((always_inline)) float act_value(enum act f, float x)
{
    if (f == ACT_SILU)
        return x * vec_sigmoid(x);
    if (f == ACT_GELU)
        return x * vec_cdf(x);
    if (f == ACT_GELU_TANH)
        return x * act_gelu_gate(x);
    return x <= 0 ? 0 : x * x; /* NaN stays NaN */
}

static inline __attribute__((always_inline)) float act_slope(enum act f, float x)
{
    if (f == ACT_SILU) {
        float s = vec_sigmoid(x);
        return s * FMA(x, 1 - s, 1.0f);
    }
    if (f == ACT_GELU)
        return FMA(x * 0.398942280f, vec_exp(-0.5f * x * x), vec_cdf(x));
    if (f == ACT_GELU_TANH) {
        float s = act_gelu_gate(x);
        return s * FMA(x * (1 - s), 1.59576912f * FMA(0.134145f * x, x, 1.0f), 1.0f);
    }
    return x <= 0 ? 0 : 2 * x;
}

#endif
