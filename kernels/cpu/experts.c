/* experts: the first matrices of a token's experts. Expert by expert: its tokens' rows are
 * gathered, multiplied as in op linear, and put in their places of y[T, top*N]. Backward likewise;
 * a token's dx is the sum over its experts, in ascending order. See routes.h. */
#include <string.h>

#include "routes.h"

static size_t experts_scratch(const struct op_args *c) { return routes_scratch(c, 2); }

/* Puts the rows of expert e in their places among those of all experts. */
static void put_rows(const struct routes *r, int64_t e, const float *rows, float *to)
{
    int64_t n = routes_count(r, e);
    const int32_t *row = r->row + r->first[e];
    for (int64_t k = 0; k < n; k++)
        memcpy(to + row[k] * r->N, rows + k * r->N, (size_t)r->N * sizeof *to);
}

static void experts_fwd(const struct op_args *c)
{
    struct routes r = routes_of(c, 2);
    for (int64_t e = 0; e < r.X; e++) {
        if (!routes_count(&r, e))
            continue;
        struct op_args l = routes_linear(&r, c, e);
        routes_gather(&r, e, c->in[0].v, r.E, 1, r.wide);
        l.in[0].v = r.wide;
        l.out.v = r.narrow;
        linear_cpu.forward(&l);
        put_rows(&r, e, r.narrow, c->out.v);
    }
}

static void add_rows(const struct routes *r, int64_t e, const float *rows, float *dx)
{
    int64_t n = routes_count(r, e);
#pragma omp parallel for schedule(static) num_threads(r->linear.x->threads) if (n * r->E > 32768)
    for (int64_t k = 0; k < n; k++) {
        float *to = dx + routes_token(r, r->first[e] + k) * r->E;
        for (int64_t i = 0; i < r->E; i++)
            to[i] += rows[k * r->E + i];
    }
}

static void experts_bwd(const struct op_args *c)
{
    struct routes r = routes_of(c, 2);
    float *dx = c->in[0].g, *dx_rows = r.wide + c->rows * r.E;
    if (dx && c->in[0].overwrite)
        memset(dx, 0, (size_t)(c->rows * r.E) * sizeof *dx);
    if (c->in[1].g && c->in[1].overwrite)
        memset(c->in[1].g, 0, (size_t)(c->rows * r.X) * sizeof *dx);
    for (int64_t e = 0; e < r.X; e++) {
        struct op_args l = routes_linear(&r, c, e);
        routes_gather(&r, e, c->in[0].v, r.E, 1, r.wide);
        routes_gather(&r, e, c->out.g, r.N, 0, r.narrow);
        l.in[0].v = r.wide;
        l.in[0].g = dx ? dx_rows : NULL;
        l.in[0].overwrite = 1;
        l.out.g = r.narrow;
        linear_cpu.backward(&l);
        if (dx)
            add_rows(&r, e, dx_rows, dx);
    }
}

const struct kernel experts_cpu = {
    .forward = experts_fwd, .backward = experts_bwd, .scratch = experts_scratch, .sets = 1};
