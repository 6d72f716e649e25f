/* Elementary functions for f32 that the compiler vectorises inside plain loops: no branches, no
 * tables, no calls.
 *
 *   vec_exp(x)      e^x: within 1.2 ulp; 0 below -104, infinity above 88.73
 *   vec_exp_normal  the same for x <= 88, and 0 below -87, where numbers would be subnormal: two
 *                   thirds of the work
 *   vec_expm1(x)    e^x - 1, relative to the result: within 2 ulp; saturates beyond -30 and 88
 *   vec_tanh(x)     within 2.5 ulp
 *   vec_sigmoid(x)  1 / (1 + e^-x): within 2.5 ulp
 *   vec_cdf(x)      (1 + erf(x / sqrt 2)) / 2, the normal distribution: within 8 ulp (without FMA:
 *                   70 in the far tail)
 *   vec_log(x)      natural logarithm of a normal x > 0: within 1.5 ulp
 *   vec_largest(z, n)
 *                   the largest of n > 0 values
 *   vec_widen(dst, src, dtype, n)
 *                   f32, bf16, f16 or q8_0 to f32, exact, at memory speed
 *   FMA(a, b, c)    a * b + c, fused where the machine has it
 *
 * NaN in, NaN out. Coefficients are Chebyshev fits in double precision, rounded to f32. The bounds
 * are checked by tests/unit/vecmath.c. */
#ifndef PARE_VECMATH_H
#define PARE_VECMATH_H

#include <stdint.h>
#include <string.h>

#include "../../lib/base/tensor.h"

#ifdef __FMA__
#define FMA(a, b, c) __builtin_fmaf(a, b, c)
#else
#define FMA(a, b, c) ((a) * (b) + (c))
#endif

static inline float vec_from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static inline uint32_t vec_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

/* x = n ln 2 + r with |r| <= ln 2 / 2: adding 1.5 * 2^23 leaves round(x / ln 2) in the low bits,
 * which are given as they are. Returns e^r - 1. */
static inline float vec_reduce(float x, uint32_t *bits)
{
    float shifted = FMA(x, 1.44269504f, 12582912.0f), k = shifted - 12582912.0f;
    /* ln 2 in two parts; the first has nine bits, so the product is exact */
    float r = FMA(k, -0.693359375f, x);
    r = FMA(k, 2.12194440e-4f, r);
    float p = FMA(r, 1.393366837874055e-3f, 8.363241329789162e-3f);
    p = FMA(p, r, 4.166646301746368e-2f);
    p = FMA(p, r, 0.16666576266288757f);
    p = FMA(p, r, 0.4999999701976776f);
    *bits = vec_bits(shifted);
    return FMA(p, r * r, r);
}

static inline int32_t vec_rounded(uint32_t bits) { return (int32_t)(bits - 0x4b400000u); }
/* -126 <= n <= 127 */
static inline float vec_power2(int32_t n) { return vec_from_bits((uint32_t)(n + 127) << 23); }

static inline float vec_exp(float x)
{
    uint32_t bits;
    x = x < -104.0f ? -104.0f : x;
    x = x > 89.0f ? 89.0f : x;
    float e = vec_reduce(x, &bits);
    /* two factors, so that subnormal results and infinity come out right */
    int32_t n = vec_rounded(bits), half = n >> 1;
    return FMA(e, vec_power2(half), vec_power2(half)) * vec_power2(n - half);
}

static inline float vec_exp_normal(float x)
{
    uint32_t bits;
    float e = 1 + vec_reduce(x, &bits);
    e = vec_from_bits(vec_bits(e) + (bits << 23)); /* n is added to the exponent */
    return x < -87.0f ? 0 : e;
}

static inline float vec_expm1(float x)
{
    uint32_t bits;
    x = x < -30.0f ? -30.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float e = vec_reduce(x, &bits), s = vec_power2(vec_rounded(bits));
    return FMA(e, s, s - 1.0f);
}

static inline float vec_tanh(float x)
{
    float a = __builtin_fabsf(x);
    a = a > 10.0f ? 10.0f : a;
    float e = vec_expm1(2 * a);
    return __builtin_copysignf(e / (e + 2.0f), x);
}

static inline float vec_sigmoid(float x) { return 1.0f / (1.0f + vec_exp(-x)); }

/* erfc(t) = e^(-t^2) u P(u) with u = 1 / (1 + 0.35 t) and t = |x| / sqrt 2. */
static inline float vec_cdf(float x)
{
    float a = __builtin_fabsf(x);
    a = a > 14.6f ? 14.6f : a;
    float u = 1.0f / FMA(a, 0.24748737f, 1.0f);
    float p = 0.03679237142f;
    p = FMA(p, u, -0.150418967f);
    p = FMA(p, u, 0.1620490551f);
    p = FMA(p, u, -0.002707728418f);
    p = FMA(p, u, 0.06705282629f);
    p = FMA(p, u, 0.1562672853f);
    p = FMA(p, u, 0.1478392333f);
    p = FMA(p, u, 0.1885754913f);
    p = FMA(p, u, 0.1970631182f);
    p = FMA(p, u, 0.1974873245f);
    float square = a * a, rest = FMA(a, a, -square), e = vec_exp(-0.5f * square);
    float tail = 0.5f * u * p * FMA(-0.5f * rest, e, e);
    return x < 0 ? tail : 1.0f - tail;
}

/* x normal and positive, or NaN. log(2^n m) with m in [sqrt(1/2), sqrt 2), as s = (m - 1) / (m + 1)
 * times a polynomial of s^2 (FreeBSD's logf). */
static inline float vec_log(float x)
{
    const float ln2_high = 6.9313812256e-1f, ln2_low = 9.0580006145e-6f;
    uint32_t u = vec_bits(x);
    int32_t n = (int32_t)(u - 0x3f3504f3u) >> 23;
    float f = vec_from_bits(u - ((uint32_t)n << 23)) - 1, k = (float)n;
    float s = f / (2 + f), z = s * s, half = 0.5f * f * f;
    float p = FMA(z, 0.24279078841f, 0.28498786688f);
    p = FMA(z, p, 0.40000972152f);
    p = FMA(z, p, 0.66666662693f);
    float y = s * FMA(z, p, half) + k * ln2_low - half + f + k * ln2_high;
    return x != x ? x : y;
}

/* Half-precision bits to f32 without a branch and without subnormal arithmetic, which is slow: the
 * exponent moves by 112, once more for infinities and NaN; a subnormal gets the exponent of 2^-14,
 * which is then taken away. */
static inline float vec_from_f16(uint16_t h)
{
    uint32_t magnitude = (uint32_t)(h & 0x7fff) << 13, u = magnitude + (112u << 23);
    u += magnitude >= 0x0f800000u ? 112u << 23 : 0;
    float small = vec_from_bits(magnitude + (113u << 23)) - 0x1p-14f;
    u = magnitude < 0x00800000u ? vec_bits(small) : u;
    return vec_from_bits(u | (uint32_t)(h & 0x8000) << 16);
}

static inline void vec_widen(float *restrict dst, const void *restrict src, enum dtype d, int64_t n)
{
    const uint16_t *restrict s = src;
    if (d == DT_F32)
        memcpy(dst, src, (size_t)n * 4);
    else if (d == DT_BF16)
        for (int64_t i = 0; i < n; i++)
            dst[i] = vec_from_bits((uint32_t)s[i] << 16);
    else if (d == DT_F16)
        for (int64_t i = 0; i < n; i++)
            dst[i] = vec_from_f16(s[i]);
    else
        for (int64_t i = 0; i < n; i += Q8_BLOCK, s += Q8_BYTES / 2)
            q8_0_widen(dst + i, s, vec_from_f16(*s));
}

static inline float vec_largest(const float *z, int64_t n)
{
    float max = z[0];
#pragma omp simd reduction(max : max)
    for (int64_t i = 0; i < n; i++)
        max = z[i] > max ? z[i] : max;
    return max;
}

#endif
