/* Dequantisation of GGUF's block formats to f32: see gguf.h. Layouts and order of operations as in
 * ggml (llama.cpp's ggml-quants.c defines the format): all arithmetic in f32, the K formats
 * multiply the block's scale by the sub-block's first. Scales are f16, little-endian. */
#include <string.h>

#include "gguf.h"

static float half_at(const unsigned char *p) { return f16_to_f32((uint16_t)(p[0] | p[1] << 8)); }

static uint32_t bits_at(const unsigned char *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* ---- blocks of 32: the low half of byte j is value j, the high half value j + 16 */

static void q4_0(float *y, const unsigned char *p)
{
    float d = half_at(p);
    for (int j = 0; j < 16; j++) {
        y[j] = d * (float)((p[2 + j] & 15) - 8);
        y[j + 16] = d * (float)((p[2 + j] >> 4) - 8);
    }
}

static void q4_1(float *y, const unsigned char *p)
{
    float d = half_at(p), m = half_at(p + 2);
    for (int j = 0; j < 16; j++) {
        y[j] = d * (float)(p[4 + j] & 15) + m;
        y[j + 16] = d * (float)(p[4 + j] >> 4) + m;
    }
}

/* The fifth bits are stored separately: bit j belongs to value j. */
static int five(uint32_t high, int nibble, int j) { return nibble | (int)(high >> j & 1) << 4; }

static void q5_0(float *y, const unsigned char *p)
{
    float d = half_at(p);
    uint32_t high = bits_at(p + 2);
    for (int j = 0; j < 16; j++) {
        y[j] = d * (float)(five(high, p[6 + j] & 15, j) - 16);
        y[j + 16] = d * (float)(five(high, p[6 + j] >> 4, j + 16) - 16);
    }
}

static void q5_1(float *y, const unsigned char *p)
{
    float d = half_at(p), m = half_at(p + 2);
    uint32_t high = bits_at(p + 4);
    for (int j = 0; j < 16; j++) {
        y[j] = d * (float)five(high, p[8 + j] & 15, j) + m;
        y[j + 16] = d * (float)five(high, p[8 + j] >> 4, j + 16) + m;
    }
}

/* ---- super-blocks of 256 */

/* Eight scales and eight minima, six bits each, in twelve bytes: the upper two bits of the last
 * four of each share a byte with the first four. */
static void scale_and_min(const unsigned char *s, int j, float *scale, float *least)
{
    if (j < 4) {
        *scale = (float)(s[j] & 63);
        *least = (float)(s[j + 4] & 63);
    } else {
        *scale = (float)((s[j + 4] & 15) | s[j - 4] >> 6 << 4);
        *least = (float)(s[j + 4] >> 4 | s[j] >> 6 << 4);
    }
}

/* q4_K and q5_K: eight sub-blocks of 32; bytes 32 i .. 32 i + 31 hold sub-block 2 i in their low
 * halves and 2 i + 1 in their high ones. high: fifth bits, bit s of byte l for value l of sub-block
 * s; NULL for q4_K. */
static void with_minima(float *y, const unsigned char *p, const unsigned char *high,
                        const unsigned char *q)
{
    float d = half_at(p), dmin = half_at(p + 2);
    for (int s = 0; s < 8; s++) {
        float scale, least;
        scale_and_min(p + 4, s, &scale, &least);
        scale *= d;
        least *= dmin;
        for (int l = 0; l < 32; l++) {
            int nibble = q[32 * (s / 2) + l] >> 4 * (s % 2) & 15;
            y[32 * s + l] = scale * (float)(high ? five(high[l], nibble, s) : nibble) - least;
        }
    }
}

static void q4_k(float *y, const unsigned char *p) { with_minima(y, p, NULL, p + 16); }
static void q5_k(float *y, const unsigned char *p) { with_minima(y, p, p + 16, p + 48); }

/* q6_K: sixteen sub-blocks of 16 with int8 scales. In each half of the block, 64 bytes of low
 * nibbles and 32 bytes of upper bit pairs hold four rows of 32 values. */
static void q6_k(float *y, const unsigned char *p)
{
    const unsigned char *low = p, *high = p + 128, *scales = p + 192;
    float d = half_at(p + 208);
    for (int half = 0; half < 2; half++)
        for (int row = 0; row < 4; row++)
            for (int l = 0; l < 32; l++) {
                int nibble = low[64 * half + 32 * (row % 2) + l] >> 4 * (row / 2) & 15;
                int q = (nibble | (high[32 * half + l] >> 2 * row & 3) << 4) - 32;
                float scale = d * (float)(signed char)scales[8 * half + 2 * row + l / 16];
                y[128 * half + 32 * row + l] = scale * (float)q;
            }
}

void gguf_dequantize(enum gguf_type t, float *dst, const void *src, int64_t n)
{
    static void (*const block[GGUF_TYPE_COUNT])(float *, const unsigned char *) = {
        [GGUF_Q4_0] = q4_0, [GGUF_Q4_1] = q4_1, [GGUF_Q5_0] = q5_0, [GGUF_Q5_1] = q5_1,
        [GGUF_Q4_K] = q4_k, [GGUF_Q5_K] = q5_k, [GGUF_Q6_K] = q6_k,
    };
    int values = gguf_block(t);
    if (!block[t]) {
        to_f32(dst, src, (enum dtype)gguf_dtype(t), n);
        return;
    }
    const unsigned char *p = src;
    for (int64_t size = gguf_bytes(t, values); n > 0; n -= values, dst += values, p += size)
        block[t](dst, p);
}
