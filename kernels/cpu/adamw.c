/* adamw: one step of AdamW (Loshchilov and Hutter 2019, algorithm 2) over a contiguous range of n
 * f32 parameters, in one pass. p, m, v [n] updated in place from g [n]; learning rate, bias
 * corrections and clip factor come from the device slot `step`. */
#include <math.h>

#include "../op.h"

static void update(const struct op_args *c, int64_t from, int64_t to, float weight_decay)
{
    const struct adamw_params *a = &c->p.adamw;
    const float *restrict g = a->g;
    float *restrict p = a->p, *restrict m = a->m, *restrict v = a->v;
    float lr = a->step[0], correct1 = a->step[1], correct2 = a->step[2], clip = a->step[3];
    float b1 = a->beta1, b2 = a->beta2, rest1 = 1 - b1, rest2 = 1 - b2, eps = a->eps,
          decay = lr * weight_decay;
#pragma omp parallel for simd schedule(static) num_threads(c->x->threads)
    for (int64_t i = from; i < to; i++) {
        float x = g[i] * clip;
        m[i] = b1 * m[i] + rest1 * x;
        v[i] = b2 * v[i] + rest2 * (x * x);
        p[i] = p[i] - decay * p[i] - lr * (m[i] * correct1) / (sqrtf(v[i] * correct2) + eps);
    }
}

static void adamw_fwd(const struct op_args *c)
{
    const struct adamw_params *a = &c->p.adamw;
    int64_t at = 0;
    if (!a->n_edges)
        update(c, 0, a->n, a->weight_decay);
    for (int64_t i = 0; i < a->n_edges; at = a->edges[i++])
        if (a->edges[i] > at)
            update(c, at, a->edges[i], i % 2 ? a->weight_decay : 0);
    if (a->n_edges && at < a->n)
        update(c, at, a->n, 0);
}

const struct kernel adamw_cpu = {.forward = adamw_fwd};
