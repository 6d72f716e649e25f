/* seq_stats: how active each unit is over a sequence. in0 [n_seq * seq_len, units * width]; s = the
 * channel itself (norm 0) or the L2 norm of a unit's `width` channels at each position (norm 1).
 * Out, f64 [n_seq, channels], each NULL if not wanted: mean |s|, sqrt(sum s^2), and the population
 * variance of s around its signed mean. The variance comes from f64 sums of the differences d to
 * the first position's value o, as exact far from zero as near it. So does sum s^2 = sum d^2 + o (2
 * sum d + T o): being at least o^2, it keeps all but 2 log2 T of 53 bits. Several positions are
 * taken at a time, to load and store the sums less often. */
#include <math.h>

#include "../../lib/base/minmax.h"
#include "../op.h"
#include "vecmath.h"

enum { BLOCK = 128, TOGETHER = 8, LINE = 16 };

struct sums {
    double origin[BLOCK], absolute[BLOCK], off[BLOCK], off_squares[BLOCK];
};

/* Prefetches the next rows: the stride defeats the hardware prefetcher. */
static void row_ahead(const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += LINE)
        __builtin_prefetch(x + i); /* past the end is allowed */
}

static void load_channels(const float *restrict x, int64_t n, double *restrict s)
{
    for (int64_t i = 0; i < n; i++)
        s[i] = x[i];
}

static void load_norms(const float *x, int64_t n, int64_t width, double *restrict s)
{
    for (int64_t i = 0; i < n; i++, x += width) {
        double sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < width; j++)
            sum += (double)x[j] * x[j];
        s[i] = sqrt(sum);
    }
}

static inline __attribute__((always_inline)) double times_plus(double a, double b, double c)
{
#ifdef __FMA__
    return __builtin_fma(a, b, c);
#else
    return a * b + c;
#endif
}

/* Adds `positions` positions of n channels; a constant, so that the loop over them is unrolled. */
static inline __attribute__((always_inline)) void add_positions(struct sums *restrict a,
                                                                double (*restrict s)[BLOCK],
                                                                int positions, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        double absolute = a->absolute[i], off = a->off[i], off_squares = a->off_squares[i];
#pragma GCC unroll 8
        for (int k = 0; k < positions; k++) {
            double v = s[k][i], d = v - a->origin[i];
            absolute += fabs(v);
            off += d;
            off_squares = times_plus(d, d, off_squares);
        }
        a->absolute[i] = absolute;
        a->off[i] = off;
        a->off_squares[i] = off_squares;
    }
}

static void put_stats(const struct seq_stats_params *p, const struct sums *a, int64_t at, int64_t n,
                      double T)
{
    for (int64_t i = 0; i < n; i++) {
        double shift = a->off[i] / T;
        if (p->out_mean)
            p->out_mean[at + i] = a->absolute[i] / T;
        if (p->out_l2)
            p->out_l2[at + i] = sqrt(a->off_squares[i] +
                                     a->origin[i] * (2 * a->off[i] + T * a->origin[i]));
        if (p->out_var)
            /* a NaN stays */
            p->out_var[at + i] = a->off_squares[i] < a->off[i] * shift
                                     ? 0
                                     : a->off_squares[i] / T - shift * shift;
    }
}

static void block_stats(const struct op_args *c, int64_t seq, int64_t from, int64_t n,
                        int64_t channels)
{
    const struct seq_stats_params *p = &c->p.seq_stats;
    int64_t T = c->batch->seq_len, cols = p->units * p->width, positions;
    struct sums a = {0};
    double s[TOGETHER][BLOCK];
    for (int64_t t = 0; t < T; t += positions) {
        positions = T - t < TOGETHER ? 1 : TOGETHER;
        for (int64_t k = 0; k < positions; k++) {
            const float *row = (const float *)c->in[0].v + (seq * T + t + k) * cols;
            row_ahead(row + TOGETHER * cols + from * p->width, n * p->width);
            if (p->norm)
                load_norms(row + from * p->width, n, p->width, s[k]);
            else
                load_channels(row + from, n, s[k]);
        }
        if (t == 0)
            memcpy(a.origin, s[0], (size_t)n * sizeof *s[0]);
        if (positions == TOGETHER)
            add_positions(&a, s, TOGETHER, n);
        else
            add_positions(&a, s, 1, n);
    }
    put_stats(p, &a, seq * channels + from, n, (double)T);
}

static void seq_stats_fwd(const struct op_args *c)
{
    const struct seq_stats_params *p = &c->p.seq_stats;
    int64_t channels = p->norm ? p->units : p->units * p->width,
            blocks = (channels + BLOCK - 1) / BLOCK;
#pragma omp parallel for schedule(static) num_threads(c->x->threads)
    for (int64_t i = 0; i < c->batch->n_seq * blocks; i++) {
        int64_t from = i % blocks * BLOCK;
        block_stats(c, i / blocks, from, min64(BLOCK, channels - from), channels);
    }
}

const struct kernel seq_stats_cpu = {.forward = seq_stats_fwd};
