/* Quantisation to GGUF's block formats: see gguf.h. The rounding is that of ggml's reference
 * implementation, which files are compared with block by block, so the order of operations matters:
 * all of them in f32. Blocks of 32 take their scale from the largest value, or from the range. The
 * K formats search the scale (and minimum) of each sub-block that has the least weighted squared
 * error, round those to whole numbers, and round the values again. Layouts: gguf_quants.c. */
#include <math.h>
#include <string.h>

#include "gguf.h"

static void put_half(unsigned char *p, float x)
{
    uint16_t h = f32_to_f16(x);
    p[0] = (unsigned char)h;
    p[1] = (unsigned char)(h >> 8);
}

static float half_at(const unsigned char *p) { return f16_to_f32((uint16_t)(p[0] | p[1] << 8)); }

static int clamp(int q, int low, int high)
{
    if (q < low)
        return low;
    return q > high ? high : q;
}

static int nearest(float x) { return (int)lrintf(x); }

/* ---- blocks of 32 */

/* Nibbles: value j in the low half of byte j, value j + 16 in its high half. */
static void put_nibbles(unsigned char *p, const unsigned char *q)
{
    for (int j = 0; j < 16; j++)
        p[j] = (unsigned char)((q[j] & 15) | (q[j + 16] & 15) << 4);
}

/* Bit j: the fifth bit of value j. */
static void put_fifth_bits(unsigned char *p, const unsigned char *q)
{
    memset(p, 0, 4);
    for (int j = 0; j < 32; j++)
        p[j / 8] |= (unsigned char)(q[j] >> 4 << j % 8);
}

/* The value of largest magnitude becomes the lowest of 2 * half levels, 0 the middle one. Returns
 * the scale. */
static float around_zero(const float *x, int half, unsigned char *q)
{
    float most = 0;
    for (int j = 0; j < 32; j++)
        most = fabsf(x[j]) > fabsf(most) ? x[j] : most;
    float scale = most / (float)-half, inverse = scale != 0 ? 1 / scale : 0;
    for (int j = 0; j < 32; j++)
        q[j] = (unsigned char)clamp((int)(x[j] * inverse + ((float)half + 0.5f)), 0, 2 * half - 1);
    return scale;
}

/* Levels 0 to top over the range of the values. */
static float over_range(const float *x, int top, unsigned char *q, float *least)
{
    float low = x[0], high = x[0];
    for (int j = 1; j < 32; j++) {
        low = x[j] < low ? x[j] : low;
        high = x[j] > high ? x[j] : high;
    }
    float scale = (high - low) / (float)top, inverse = scale != 0 ? 1 / scale : 0;
    for (int j = 0; j < 32; j++)
        q[j] = (unsigned char)clamp((int)((x[j] - low) * inverse + 0.5f), 0, top);
    *least = low;
    return scale;
}

static void q4_0(unsigned char *p, const float *x)
{
    unsigned char q[32];
    put_half(p, around_zero(x, 8, q));
    put_nibbles(p + 2, q);
}

static void q4_1(unsigned char *p, const float *x)
{
    unsigned char q[32];
    float least;
    put_half(p, over_range(x, 15, q, &least));
    put_half(p + 2, least);
    put_nibbles(p + 4, q);
}

static void q5_0(unsigned char *p, const float *x)
{
    unsigned char q[32];
    put_half(p, around_zero(x, 16, q));
    put_fifth_bits(p + 2, q);
    put_nibbles(p + 6, q);
}

static void q5_1(unsigned char *p, const float *x)
{
    unsigned char q[32];
    float least;
    put_half(p, over_range(x, 31, q, &least));
    put_half(p + 2, least);
    put_fifth_bits(p + 4, q);
    put_nibbles(p + 8, q);
}

/* ---- q4_K and q5_K: x = scale q - least, in eight sub-blocks of 32 */

/* Which scales are tried: those of (top + first + step / 10) levels over the range, for steps 0 to
 * `steps`. */
struct search {
    int top;
    float first;
    int steps;
};

struct fit {
    float scale, least; /* x = scale q + least, least <= 0 */
};

static void round_all(const float *x, float inverse, float low, int top, unsigned char *q)
{
    for (int i = 0; i < 32; i++)
        q[i] = (unsigned char)clamp(nearest(inverse * (x[i] - low)), 0, top);
}

static float weighted_error(const float *x, const float *w, const unsigned char *q, struct fit f)
{
    float sum = 0;
    for (int i = 0; i < 32; i++) {
        float off = f.scale * (float)q[i] + f.least - x[i];
        sum += w[i] * (off * off);
    }
    return sum;
}

/* Weighted least squares for the levels q; sum_w, sum_x: of the weights, and of weight times value.
 * 0 if all levels are equal. */
static int refit(const float *x, const float *w, const unsigned char *q, float sum_w, float sum_x,
                 struct fit *f)
{
    float sum_q = 0, sum_qq = 0, sum_xq = 0;
    for (int i = 0; i < 32; i++) {
        float level = (float)q[i];
        sum_q += w[i] * level;
        sum_qq += w[i] * level * level;
        sum_xq += w[i] * level * x[i];
    }
    float determinant = sum_w * sum_qq - sum_q * sum_q;
    if (!(determinant > 0))
        return 0;
    f->scale = (sum_w * sum_xq - sum_x * sum_q) / determinant;
    f->least = (sum_qq * sum_x - sum_q * sum_xq) / determinant;
    if (f->least > 0)
        *f = (struct fit){sum_xq / sum_qq, 0};
    return 1;
}

/* The best fit found, and its levels in q. */
static struct fit fit_range(const float *x, const float *w, struct search s, unsigned char *q)
{
    unsigned char tried[32];
    float low = x[0], high = x[0], sum_w = w[0], sum_x = w[0] * x[0];
    for (int i = 1; i < 32; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
        sum_w += w[i];
        sum_x += w[i] * x[i];
    }
    low = low > 0 ? 0 : low;
    memset(q, 0, 32);
    if (high == low)
        return (struct fit){0, low};
    float inverse = (float)s.top / (high - low);
    struct fit best = {1 / inverse, low}, f;
    round_all(x, inverse, low, s.top, q);
    float error = weighted_error(x, w, q, best);
    for (int step = 0; step <= s.steps; step++) {
        /* levels are counted from the lowest value, until a fit moves it */
        round_all(x, (s.first + 0.1f * (float)step + (float)s.top) / (high - best.least),
                  best.least, s.top, tried);
        if (!refit(x, w, tried, sum_w, sum_x, &f))
            continue;
        float e = weighted_error(x, w, tried, f);
        if (e < error) {
            memcpy(q, tried, 32);
            error = e;
            best = f;
        }
    }
    return best;
}

/* Eight scales and eight minima of six bits in twelve bytes. */
static void put_scales(unsigned char *p, const unsigned char *scale, const unsigned char *least)
{
    for (int j = 0; j < 4; j++) {
        p[j] = (unsigned char)(scale[j] | scale[j + 4] >> 4 << 6);
        p[j + 4] = (unsigned char)(least[j] | least[j + 4] >> 4 << 6);
        p[j + 8] = (unsigned char)((scale[j + 4] & 15) | (least[j + 4] & 15) << 4);
    }
}

static unsigned char six_bits(float x)
{
    unsigned char n = (unsigned char)nearest(x);
    return n > 63 ? 63 : n;
}

/* Scales to p[0..15], levels to q[256]. */
static void with_minima(unsigned char *p, const float *x, struct search search, unsigned char *q)
{
    float scale[8], least[8], w[32], most_scale = 0, most_least = 0;
    unsigned char scales[8], minima[8];
    for (int s = 0; s < 8; s++) {
        const float *v = x + 32 * s;
        float squares = 0;
        for (int i = 0; i < 32; i++)
            squares += v[i] * v[i];
        for (int i = 0; i < 32; i++)
            w[i] = sqrtf(squares / 32) + fabsf(v[i]);
        struct fit f = fit_range(v, w, search, q + 32 * s);
        scale[s] = f.scale;
        least[s] = -f.least;
        most_scale = fmaxf(most_scale, scale[s]);
        most_least = fmaxf(most_least, least[s]);
    }
    float by_scale = most_scale > 0 ? 63 / most_scale : 0,
          by_least = most_least > 0 ? 63 / most_least : 0;
    for (int s = 0; s < 8; s++) {
        scales[s] = six_bits(by_scale * scale[s]);
        minima[s] = six_bits(by_least * least[s]);
    }
    put_half(p, most_scale / 63);
    put_half(p + 2, most_least / 63);
    put_scales(p + 4, scales, minima);
    for (int s = 0; s < 8; s++) {
        float d = half_at(p) * (float)scales[s], m = half_at(p + 2) * (float)minima[s];
        for (int i = 32 * s; d != 0 && i < 32 * s + 32; i++)
            q[i] = (unsigned char)clamp(nearest((x[i] + m) / d), 0, search.top);
    }
}

/* Bytes 32 i .. 32 i + 31: the low four bits of sub-blocks 2 i and 2 i + 1. */
static void put_rows(unsigned char *p, const unsigned char *q)
{
    for (int i = 0; i < 128; i++) {
        const unsigned char *at = q + i / 32 * 64 + i % 32;
        p[i] = (unsigned char)((at[0] & 15) | (at[32] & 15) << 4);
    }
}

static void q4_k(unsigned char *p, const float *x)
{
    unsigned char q[256];
    with_minima(p, x, (struct search){15, -1, 20}, q);
    put_rows(p + 16, q);
}

static void q5_k(unsigned char *p, const float *x)
{
    unsigned char q[256];
    with_minima(p, x, (struct search){31, -0.5f, 15}, q);
    memset(p + 16, 0, 32);
    for (int i = 0; i < 256; i++)
        p[16 + i % 32] |= (unsigned char)(q[i] >> 4 << i / 32);
    put_rows(p + 48, q);
}

/* ---- q6_K: x = scale q, q from -32 to 31, in sixteen sub-blocks of 16 */

#define NOTHING 1e-15f /* values as small as this count as zero */

static float sums_for(const float *x, float inverse, float *sum_qq, signed char *q)
{
    float sum_xq = 0;
    *sum_qq = 0;
    for (int i = 0; i < 16; i++) {
        q[i] = (signed char)clamp(nearest(inverse * x[i]), -32, 31);
        float level = (float)q[i], w = x[i] * x[i];
        sum_xq += w * x[i] * level;
        *sum_qq += w * level * level;
    }
    return sum_xq;
}

/* The scale with the least squared error weighted by x^2, and its levels in q. */
static float fit_scale(const float *x, signed char *q)
{
    signed char tried[16];
    float most = 0, sum_qq;
    for (int i = 0; i < 16; i++)
        most = fabsf(x[i]) > fabsf(most) ? x[i] : most;
    memset(q, -32, 16); /* whatever: their scale is 0 */
    if (fabsf(most) < NOTHING)
        return 0;
    float sum_xq = sums_for(x, -32 / most, &sum_qq, q);
    float scale = sum_qq != 0 ? sum_xq / sum_qq : 0, best = scale * sum_xq;
    for (int step = -9; step <= 9; step++) {
        if (!step)
            continue;
        sum_xq = sums_for(x, -(32 + 0.1f * (float)step) / most, &sum_qq, tried);
        if (sum_qq > 0 && sum_xq * sum_xq > best * sum_qq) {
            memcpy(q, tried, 16);
            scale = sum_xq / sum_qq;
            best = scale * sum_xq;
        }
    }
    return scale;
}

/* In each half of the block, four rows of 32 values: low nibbles in 64 bytes, upper pairs of bits
 * in 32. */
static void put_six_bits(unsigned char *low, unsigned char *high, const signed char *q)
{
    memset(low, 0, 128);
    memset(high, 0, 64);
    for (int i = 0; i < 256; i++) {
        int half = i / 128, row = i / 32 % 4, l = i % 32, level = q[i] + 32;
        low[64 * half + 32 * (row % 2) + l] |= (unsigned char)((level & 15) << 4 * (row / 2));
        high[32 * half + l] |= (unsigned char)(level >> 4 << 2 * row);
    }
}

static void q6_k(unsigned char *p, const float *x)
{
    signed char q[256], *scales = (signed char *)p + 192;
    float scale[16], most = 0;
    for (int s = 0; s < 16; s++) {
        scale[s] = fit_scale(x + 16 * s, q + 16 * s);
        most = fabsf(scale[s]) > fabsf(most) ? scale[s] : most;
    }
    if (fabsf(most) < NOTHING) {
        memset(p, 0, 210);
        return;
    }
    float inverse = -128 / most;
    put_half(p + 208, 1 / inverse);
    for (int s = 0; s < 16; s++) {
        int n = nearest(inverse * scale[s]);
        scales[s] = (signed char)(n > 127 ? 127 : n);
        float d = half_at(p + 208) * (float)scales[s];
        for (int i = 16 * s; d != 0 && i < 16 * s + 16; i++)
            q[i] = (signed char)clamp(nearest(x[i] / d), -32, 31);
    }
    put_six_bits(p, p + 128, q);
}

void gguf_quantize(enum gguf_type t, void *dst, const float *src, int64_t n)
{
    static void (*const block[GGUF_TYPE_COUNT])(unsigned char *, const float *) = {
        [GGUF_Q4_0] = q4_0, [GGUF_Q4_1] = q4_1, [GGUF_Q5_0] = q5_0, [GGUF_Q5_1] = q5_1,
        [GGUF_Q4_K] = q4_k, [GGUF_Q5_K] = q5_k, [GGUF_Q6_K] = q6_k,
    };
    int values = gguf_block(t);
    if (!block[t]) {
        from_f32(dst, (enum dtype)gguf_dtype(t), src, n);
        return;
    }
    unsigned char *p = dst;
    for (int64_t size = gguf_bytes(t, values); n > 0; n -= values, src += values, p += size)
        block[t](p, src);
}
