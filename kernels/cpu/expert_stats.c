/* expert_stats: how active each neuron of each expert is over a sequence: mean |s|, sqrt(sum s^2)
 * and the population variance of s over all its positions, where s is 0 at those that the expert
 * does not work for. Sums are f64. */
#include <math.h>
#include <string.h>

#include "../../lib/base/minmax.h"
#include "routes.h"

enum { BLOCK = 64 };

static size_t expert_stats_scratch(const struct op_args *c) { return routes_scratch(c, 0); }

/* Channels from .. from + n - 1 of expert e in one sequence, whose rows are k .. end - 1. */
static void block_stats(const struct op_args *c, const struct routes *r, int64_t e, int64_t seq,
                        int64_t from, int64_t k, int64_t end)
{
    double absolute[BLOCK] = {0}, sum[BLOCK] = {0}, squares[BLOCK] = {0},
           T = (double)c->batch->seq_len;
    int64_t n = min64(BLOCK, r->N - from), at = (seq * r->X + e) * r->N + from;
    for (; k < end; k++) {
        const float *h = (const float *)c->in[0].v + r->row[k] * r->N + from;
        for (int64_t i = 0; i < n; i++) {
            absolute[i] += fabs((double)h[i]);
            sum[i] += (double)h[i];
            squares[i] += (double)h[i] * h[i];
        }
    }
    for (int64_t i = 0; i < n; i++) {
        double mean = sum[i] / T, variance = squares[i] / T - mean * mean;
        c->p.route.out_mean[at + i] = absolute[i] / T;
        c->p.route.out_l2[at + i] = sqrt(squares[i]);
        c->p.route.out_var[at + i] = variance < 0 ? 0 : variance; /* a NaN stays */
    }
}

static void expert_stats_fwd(const struct op_args *c)
{
    struct routes r = routes_of(c, 0);
#pragma omp parallel for schedule(static) num_threads(c->x->threads)
    for (int64_t e = 0; e < r.X; e++) {
        int64_t k = r.first[e], end = k;
        for (int64_t seq = 0; seq < c->batch->n_seq; seq++, k = end) {
            while (end < r.first[e + 1] && routes_token(&r, end) < (seq + 1) * c->batch->seq_len)
                end++;
            for (int64_t from = 0; from < r.N; from += BLOCK)
                block_stats(c, &r, e, seq, from, k, end);
        }
    }
}

const struct kernel expert_stats_cpu = {.forward = expert_stats_fwd,
                                        .scratch = expert_stats_scratch};
