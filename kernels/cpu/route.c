/* route: the weights of a token's experts. With s the softmax of x over all X, and S the `top`
 * experts of the largest x (of equal ones, the lower): y_i = s_i for i in S, divided by their sum
 * if renormalised, and 0 elsewhere. Backward: with dot = sum of y dy, dx_i += y_i dy_i - q_i dot,
 * where q is y if renormalised, else s. A row with a NaN becomes NaN. */
#include "routes.h"

#include <math.h>
#include <string.h>

/* The softmax of a row over all experts. */
static void softmax(const float *x, int64_t X, double *s)
{
    double most = -INFINITY, sum = 0;
    for (int64_t i = 0; i < X; i++)
        most = x[i] > most ? x[i] : most;
    for (int64_t i = 0; i < X; i++)
        sum += s[i] = exp(x[i] - most);
    for (int64_t i = 0; i < X; i++)
        s[i] /= sum;
}

static size_t route_scratch(const struct op_args *c)
{
    return (size_t)c->x->threads * routes_row_bytes(c->in[0].cols, c->p.route.top);
}

static void row_forward(const struct op_args *c, int64_t t, double *s, int32_t *chosen)
{
    int64_t X = c->in[0].cols, top = c->p.route.top;
    const float *x = (const float *)c->in[0].v + t * X;
    float *y = (float *)c->out.v + t * X;
    double sum = 1;
    softmax(x, X, s);
    if (isnan(s[0])) {
        for (int64_t i = 0; i < X; i++)
            y[i] = NAN;
        return;
    }
    routes_choose(x, X, top, chosen);
    if (c->p.route.renormalise)
        sum = 0;
    for (int64_t j = 0; j < top && c->p.route.renormalise; j++)
        sum += s[chosen[j]];
    memset(y, 0, (size_t)X * sizeof *y);
    for (int64_t j = 0; j < top; j++)
        y[chosen[j]] = (float)(s[chosen[j]] / sum);
}

static void row_backward(const struct op_args *c, int64_t t, double *s)
{
    int64_t X = c->in[0].cols;
    const float *y = (const float *)c->out.v + t * X, *dy = c->out.g + t * X;
    float *dx = c->in[0].g + t * X;
    double dot = 0;
    if (!c->p.route.renormalise)
        softmax((const float *)c->in[0].v + t * X, X, s);
    for (int64_t i = 0; i < X; i++)
        dot += (double)y[i] * dy[i];
    for (int64_t i = 0; i < X; i++) {
        double q = c->p.route.renormalise ? y[i] : s[i];
        dx[i] = (c->in[0].overwrite ? 0 : dx[i]) + (float)((double)y[i] * dy[i] - q * dot);
    }
}

static void route_run(const struct op_args *c, int back)
{
    int64_t X = c->in[0].cols;
#pragma omp parallel for schedule(static) num_threads(c->x->threads) if (c->rows * X > 32768)
    for (int64_t t = 0; t < c->rows; t++) {
        double *s = routes_row(c->scratch, X, c->p.route.top);
        if (back)
            row_backward(c, t, s);
        else
            row_forward(c, t, s, (int32_t *)(s + X));
    }
}

static void route_fwd(const struct op_args *c) { route_run(c, 0); }

static void route_bwd(const struct op_args *c)
{
    if (c->in[0].g)
        route_run(c, 1);
}

const struct kernel route_cpu = {
    .forward = route_fwd, .backward = route_bwd, .scratch = route_scratch, .sets = 1};
