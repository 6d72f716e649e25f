/* mixture: the last matrices of a token's experts, and the sum of what they give, by weight. With h
 * [N] of a token's expert, p its weight, W [N, E] its matrix: y += p h W. Backward: u = W dy, dh +=
 * p u, dp += h . u, dW += (p h)^T dy. Expert by expert, in ascending order: see routes.h. */
#include <string.h>

#include "routes.h"

static size_t mixture_scratch(const struct op_args *c) { return routes_scratch(c, 1); }

static int64_t weight_at(const struct routes *r, int64_t e, int64_t k)
{
    return routes_token(r, r->first[e] + k) * r->X + e;
}

static void add_weighted(const struct op_args *c, const struct routes *r, int64_t e)
{
    int64_t n = routes_count(r, e);
#pragma omp parallel for schedule(static) num_threads(c->x->threads) if (n * r->E > 32768)
    for (int64_t k = 0; k < n; k++) {
        float p = ((const float *)c->in[1].v)[weight_at(r, e, k)],
              *y = (float *)c->out.v + routes_token(r, r->first[e] + k) * r->E;
        for (int64_t i = 0; i < r->E; i++)
            y[i] += p * r->wide[k * r->E + i];
    }
}

static void mixture_fwd(const struct op_args *c)
{
    struct routes r = routes_of(c, 1);
    memset(c->out.v, 0, (size_t)(c->rows * r.E) * sizeof(float));
    for (int64_t e = 0; e < r.X; e++) {
        if (!routes_count(&r, e))
            continue;
        routes_output(&r, c, e, c->in[0].v);
        add_weighted(c, &r, e);
    }
}

/* The gradients of one row's h and p, from u; u becomes p h. */
static void row_backward(const struct op_args *c, const struct routes *r, int64_t e, int64_t k)
{
    int64_t row = r->row[r->first[e] + k] * r->N, at = weight_at(r, e, k);
    const float *h = (const float *)c->in[0].v + row;
    float p = ((const float *)c->in[1].v)[at], *u = r->narrow + k * r->N;
    double dp = 0;
    for (int64_t i = 0; i < r->N; i++)
        dp += (double)h[i] * u[i];
    for (int64_t i = 0; i < r->N && c->in[0].g; i++)
        c->in[0].g[row + i] = (c->in[0].overwrite ? 0 : c->in[0].g[row + i]) + p * u[i];
    for (int64_t i = 0; i < r->N; i++)
        u[i] = p * h[i];
    if (c->in[1].g)
        c->in[1].g[at] += (float)dp;
}

static void mixture_bwd(const struct op_args *c)
{
    struct routes r = routes_of(c, 1);
    if (c->in[1].g && c->in[1].overwrite)
        memset(c->in[1].g, 0, (size_t)(c->rows * r.X) * sizeof(float));
    for (int64_t e = 0; e < r.X; e++) {
        struct op_args l = routes_linear(&r, c, e);
        int64_t n = routes_count(&r, e);
        routes_gather(&r, e, c->out.g, r.E, 1, r.wide);
        l.in[0].v = r.wide;
        l.out.v = l.out.g = r.narrow;
        linear_cpu.forward(&l);
#pragma omp parallel for schedule(static) num_threads(c->x->threads) if (n * r.N > 32768)
        for (int64_t k = 0; k < n; k++)
            row_backward(c, &r, e, k);
        if (l.w[0].g)
            linear_cpu.backward(&l);
    }
}

const struct kernel mixture_cpu = {
    .forward = mixture_fwd, .backward = mixture_bwd, .scratch = mixture_scratch, .sets = 1};
