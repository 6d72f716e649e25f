/* Dtypes and their conversions: see tensor.h. */
#include "tensor.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const names[] = {
#define X(id, name, bytes) name,
    DTYPES(X)
#undef X
};
static const int sizes[] = {
#define X(id, name, bytes) bytes,
    DTYPES(X)
#undef X
};

const char *dtype_name(enum dtype d) { return (unsigned)d < DT_COUNT ? names[d] : "?"; }

int dtype_parse(const char *name)
{
    for (int i = 0; i < DT_COUNT; i++)
        if (!strcmp(names[i], name))
            return i;
    return -1;
}

int64_t tensor_count(const struct tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->ndim; i++)
        if (t->shape[i] < 0 || __builtin_mul_overflow(n, t->shape[i], &n))
            return -1;
    return n;
}

int64_t dtype_bytes(enum dtype d, int64_t n)
{
    int64_t bytes, size = sizes[d];
    if (n < 0 || (d == DT_Q8_0 && n % Q8_BLOCK))
        return -1;
    if (d == DT_Q8_0) {
        n /= Q8_BLOCK;
        size = Q8_BYTES;
    }
    return __builtin_mul_overflow(n, size, &bytes) ? -1 : bytes;
}

int64_t dtype_count(enum dtype d, int64_t bytes)
{
    return d == DT_Q8_0 ? bytes / Q8_BYTES * Q8_BLOCK : bytes / sizes[d];
}

int64_t tensor_bytes(const struct tensor *t)
{
    int64_t n = tensor_count(t);
    if (t->dtype == DT_Q8_0 && (!t->ndim || t->shape[t->ndim - 1] % Q8_BLOCK))
        return -1;
    return n < 0 ? -1 : dtype_bytes(t->dtype, n);
}

int tensor_same_shape(const struct tensor *a, const struct tensor *b)
{
    return a->ndim == b->ndim && !memcmp(a->shape, b->shape, (size_t)a->ndim * sizeof *a->shape);
}

const char *tensor_shape(const struct tensor *t, char text[TENSOR_SHAPE])
{
    char *p = text + sprintf(text, "[");
    for (int i = 0; i < t->ndim; i++)
        p += sprintf(p, "%s%" PRId64, i ? ", " : "", t->shape[i]);
    sprintf(p, "]");
    return text;
}

static float bits_to_f32(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static uint32_t f32_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

/* Without branches, so that loops over it become vector code. */
float f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 1023,
             widened = exponent == 31 ? 255 : exponent + 112,
             subnormal = f32_bits((float)(int)mantissa * 0x1p-24f); /* or zero: exact in f32 */
    return bits_to_f32(sign | (exponent ? widened << 23 | mantissa << 13 : subnormal));
}

uint16_t f32_to_f16(float f)
{
    uint32_t u = f32_bits(f), sign = u >> 16 & 0x8000, a = u & 0x7fffffff;
    if (a > 0x7f800000)
        return (uint16_t)(sign | 0x7e00);
    if (a >= 0x477ff000) /* 65520 and more round to infinity */
        return (uint16_t)(sign | 0x7c00);
    /* below 2^-14: subnormal, in units of 2^-24; the sum rounds to nearest even */
    if (a < 0x38800000) {
        float r = bits_to_f32(a) + 0.5f; /* 0.5 has an ulp of 2^-24 */
        return (uint16_t)(sign | (f32_bits(r) - 0x3f000000));
    }
    uint32_t odd = a >> 13 & 1;
    return (uint16_t)(sign | (a - 0x38000000 + 0xfff + odd) >> 13);
}

uint16_t f32_to_bf16(float f)
{
    uint32_t u = f32_bits(f);
    if ((u & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static void q8_to_f32(float *dst, const uint8_t *p, int64_t n)
{
    for (int64_t i = 0; i < n; i += Q8_BLOCK, p += Q8_BYTES) {
        uint16_t h;
        memcpy(&h, p, 2);
        q8_0_widen(dst + i, p, f16_to_f32(h));
    }
}

/* As ggml's reference: quotients by the scale before it is rounded to f16, halves away from zero.
 * A block with a NaN or an infinity widens to NaN. */
static void q8_block(uint8_t *p, const float *x)
{
    float most = 0;
    int sound = 1;
    for (int i = 0; i < Q8_BLOCK; i++) {
        most = fmaxf(most, fabsf(x[i]));
        sound &= isfinite(x[i]) != 0;
    }
    float d = sound ? most / 127 : NAN;
    float inverse = d > 0 ? 1 / d : 0;
    uint16_t h = f32_to_f16(d);
    memcpy(p, &h, 2);
    for (int i = 0; i < Q8_BLOCK; i++) {
        float q = roundf(x[i] * inverse);
        p[2 + i] = fabsf(q) <= 127 ? (uint8_t)(int8_t)q : 0;
    }
}

static void f32_to_q8(uint8_t *p, const float *src, int64_t n)
{
    for (int64_t i = 0; i < n; i += Q8_BLOCK, p += Q8_BYTES)
        q8_block(p, src + i);
}

#define WIDEN(type, expr) \
    do { \
        const type *s = src; \
        for (int64_t i = 0; i < n; i++) \
            dst[i] = (expr); \
    } while (0)

void to_f32(float *dst, const void *src, enum dtype d, int64_t n)
{
    switch (d) {
    case DT_F64: WIDEN(double, (float)s[i]); break;
    case DT_F32: memmove(dst, src, (size_t)n * 4); break;
    case DT_F16: WIDEN(uint16_t, f16_to_f32(s[i])); break;
    case DT_BF16: WIDEN(uint16_t, bf16_to_f32(s[i])); break;
    case DT_I64: WIDEN(int64_t, (float)s[i]); break;
    case DT_I32: WIDEN(int32_t, (float)s[i]); break;
    case DT_U32: WIDEN(uint32_t, (float)s[i]); break;
    case DT_U16: WIDEN(uint16_t, (float)s[i]); break;
    case DT_U8: WIDEN(uint8_t, (float)s[i]); break;
    case DT_Q8_0: q8_to_f32(dst, src, n); break;
    case DT_COUNT: break;
    }
}

#define NARROW(type, expr) \
    do { \
        type *o = dst; \
        for (int64_t i = 0; i < n; i++) \
            o[i] = (expr); \
    } while (0)

void from_f32(void *dst, enum dtype d, const float *src, int64_t n)
{
    switch (d) {
    case DT_F64: NARROW(double, (double)src[i]); break;
    case DT_F32: memmove(dst, src, (size_t)n * 4); break;
    case DT_F16: NARROW(uint16_t, f32_to_f16(src[i])); break;
    case DT_BF16: NARROW(uint16_t, f32_to_bf16(src[i])); break;
    case DT_Q8_0: f32_to_q8(dst, src, n); break;
    default: break;
    }
}
