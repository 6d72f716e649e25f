/* rowgate: y = sigmoid(g) x, x[T,N], g[T,1]. Backward: with s = sigmoid(g), dx += s dy, dg += s (1
 * - s) x . dy. */
#include <math.h>

#include "../op.h"

static float sigmoid(float g) { return 1 / (1 + expf(-g)); }

static void rowgate_fwd(const struct op_args *c)
{
    int64_t n = c->in[0].cols;
#pragma omp parallel for schedule(static) num_threads(c->x->threads) if (c->rows * n > 32768)
    for (int64_t t = 0; t < c->rows; t++) {
        const float *x = (const float *)c->in[0].v + t * n;
        float s = sigmoid(((const float *)c->in[1].v)[t]), *y = (float *)c->out.v + t * n;
        for (int64_t i = 0; i < n; i++)
            y[i] = s * x[i];
    }
}

static void row_backward(const struct op_args *c, int64_t t)
{
    int64_t n = c->in[0].cols;
    const float *x = (const float *)c->in[0].v + t * n, *dy = c->out.g + t * n;
    float s = sigmoid(((const float *)c->in[1].v)[t]);
    double dot = 0;
    for (int64_t i = 0; i < n && c->in[1].g; i++)
        dot += (double)x[i] * dy[i];
    if (c->in[1].g)
        c->in[1].g[t] = (c->in[1].overwrite ? 0 : c->in[1].g[t]) + (float)(dot * s * (1 - s));
    for (int64_t i = t * n; i < (t + 1) * n && c->in[0].g; i++)
        c->in[0].g[i] = (c->in[0].overwrite ? 0 : c->in[0].g[i]) + s * dy[i - t * n];
}

static void rowgate_bwd(const struct op_args *c)
{
#pragma omp parallel for schedule(static) \
    num_threads(c->x->threads) if (c->rows * c->in[0].cols > 32768)
    for (int64_t t = 0; t < c->rows; t++)
        row_backward(c, t);
}

const struct kernel rowgate_cpu = {.forward = rowgate_fwd, .backward = rowgate_bwd, .sets = 1};
