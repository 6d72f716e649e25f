/* divergence: one row of logits of each model after the other (op.h has the columns). Exponentials
 * are f32 and relative to the largest logit, sums of them f64. */
#include <math.h>
#include <string.h>

#include "../../lib/base/minmax.h"
#include "../op.h"
#include "vecmath.h"

#define FORMULA static inline
#include "../divergence.h"

enum { RUN = 512 };

static double log_sum(const float *z, int64_t n)
{
    float base = vec_largest(z, n);
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++)
        sum += (double)vec_exp_normal(z[i] - base);
    return (double)base + log(sum);
}

/* The mean of zt - zs under the teacher; entries of no probability do not count. */
static double mean_difference(const float *zt, const float *zs, int64_t n)
{
    float base = vec_largest(zt, n);
    double sum = 0, all = 0;
#pragma omp simd reduction(+ : sum, all)
    for (int64_t i = 0; i < n; i++) {
        float e = vec_exp_normal(zt[i] - base), d = zt[i] - zs[i];
        all += (double)e;
        sum += (double)(e > 0 ? e * d : 0);
    }
    return sum / all;
}

/* ---- the most probable tokens */

struct top {
    float z[AGREEMENT_MOST];
    int32_t id[AGREEMENT_MOST]; /* best first; -1: none */
};

/* Entry i comes after those with as large a logit. */
static void top_take(struct top *t, float z, int32_t id)
{
    int at = AGREEMENT_MOST - 1;
    for (; at > 0 && z > t->z[at - 1]; at--) {
        t->z[at] = t->z[at - 1];
        t->id[at] = t->id[at - 1];
    }
    t->z[at] = z;
    t->id[at] = id;
}

static void top_of(struct top *t, const float *z, int64_t n)
{
    for (int i = 0; i < AGREEMENT_MOST; i++) {
        t->z[i] = -INFINITY;
        t->id[i] = -1;
    }
    for (int64_t v = 0, end; v < n; v = end) {
        end = min64(v + RUN, n);
        if (!(vec_largest(z + v, end - v) > t->z[AGREEMENT_MOST - 1]))
            continue;
        for (; v < end; v++)
            if (z[v] > t->z[AGREEMENT_MOST - 1])
                top_take(t, z[v], (int32_t)v);
    }
}

/* ---- rows */

static void divergence_row(const struct op_args *c, int64_t row, double *out)
{
    int64_t V = c->in[0].cols, Vt = c->in[1].cols, shared = min64(V, Vt);
    int32_t label = c->batch->labels[row];
    const float *zs = (const float *)c->in[0].v + row * V,
                *zt = (const float *)c->in[1].v + row * Vt;
    struct top s, t;
    if (label < 0)
        return;
    double log_s = log_sum(zs, shared), log_t = log_sum(zt, shared),
           all_s = V > shared ? log_sum(zs, V) : log_s,
           all_t = Vt > shared ? log_sum(zt, Vt) : log_t;
    out[DIVERGENCE_KL] = divergence_kl(mean_difference(zt, zs, shared), log_s, log_t);
    out[DIVERGENCE_NLL] = all_s - (double)zs[label];
    out[DIVERGENCE_TEACHER_NLL] = label < Vt ? all_t - (double)zt[label] : (double)INFINITY;
    top_of(&s, zs, shared);
    top_of(&t, zt, shared);
    for (int i = 0; i < AGREEMENTS; i++)
        out[DIVERGENCE_SAME + i] = divergence_same(s.id, t.id,
                                                   (int)min64(agreement_ranks[i], shared));
}

static void divergence_fwd(const struct op_args *c)
{
    memset(c->out.v, 0, (size_t)(c->rows * DIVERGENCE_COLUMNS) * sizeof(double));
#pragma omp parallel for schedule(static) num_threads(c->x->threads)
    for (int64_t t = 0; t < c->rows; t++)
        divergence_row(c, t, (double *)c->out.v + t * DIVERGENCE_COLUMNS);
}

const struct kernel divergence_cpu = {.forward = divergence_fwd};
