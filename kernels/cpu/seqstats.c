/* seqstats: how active each unit is over a sequence. in0 [n_seq * seq_len, units * width]; s = the channel itself (norm 0) or the L2 norm of
 * a unit's `width` channels at each position (norm 1). Out, f64 [n_seq, channels], each NULL if not wanted:
 * mean |s|, sqrt(sum s^2), and the population variance of s around its signed mean (Welford 1962, so exact far from zero too). */
#include <math.h>

#include "../op.h"

enum { BLOCK = 128 };

struct sums { double absolute[BLOCK], squares[BLOCK], mean[BLOCK], spread[BLOCK]; };

size_t seqstats_scratch(const struct call *c)
{
    (void)c;
    return 0;
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

/* Takes in the position after `seen` others. */
static void add_position(struct sums *restrict a, const double *restrict s, int64_t n, int64_t seen)
{
    double share = 1.0 / (double)(seen + 1);
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        double off = s[i] - a->mean[i];
        a->absolute[i] += fabs(s[i]);
        a->squares[i] += s[i] * s[i];
        a->mean[i] += off * share;
        a->spread[i] += off * (s[i] - a->mean[i]);
    }
}

static void block_stats(const struct call *c, int64_t seq, int64_t from, int64_t n, int64_t channels)
{
    const struct seqstats_params *p = &c->p.seqstats;
    int64_t T = c->batch->seq_len, cols = p->units * p->width, at = seq * channels + from;
    struct sums a = {0};
    double s[BLOCK];
    for (int64_t t = 0; t < T; t++) {
        const float *row = (const float *)c->in[0].v + (seq * T + t) * cols;
        if (p->norm)
            load_norms(row + from * p->width, n, p->width, s);
        else
            load_channels(row + from, n, s);
        add_position(&a, s, n, t);
    }
    for (int64_t i = 0; i < n; i++) {
        if (p->out_mean)
            p->out_mean[at + i] = a.absolute[i] / (double)T;
        if (p->out_l2)
            p->out_l2[at + i] = sqrt(a.squares[i]);
        if (p->out_var)
            p->out_var[at + i] = a.spread[i] / (double)T;
    }
}

void seqstats_fwd_cpu(const struct call *c)
{
    const struct seqstats_params *p = &c->p.seqstats;
    int64_t channels = p->norm ? p->units : p->units * p->width, blocks = (channels + BLOCK - 1) / BLOCK;
#pragma omp parallel for schedule(static) num_threads(c->x->threads)
    for (int64_t i = 0; i < c->batch->n_seq * blocks; i++) {
        int64_t from = i % blocks * BLOCK;
        block_stats(c, i / blocks, from, channels - from < BLOCK ? channels - from : BLOCK, channels);
    }
}
