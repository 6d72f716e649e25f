/* softcap: y = cap tanh(scale x / cap), any shape, or y = scale x where cap is 0 (Gemma 2 report,
 * section 2). Backward from the output: dx += dy scale (1 - (y / cap)^2). */
#include "../op.h"
#include "vecmath.h"

enum { SERIAL = 16384 };

static void softcap_fwd(const struct op_args *c)
{
    int64_t n = c->rows * c->in[0].cols;
    const float *x = c->in[0].v;
    float *y = c->out.v, scale = c->p.scale.scale, cap = c->p.scale.cap,
          in = cap != 0 ? scale / cap : scale;
#pragma omp parallel for simd schedule(static) num_threads(c->x->threads) if (n > SERIAL)
    for (int64_t i = 0; i < n; i++)
        y[i] = cap != 0 ? cap * vec_tanh(in * x[i]) : in * x[i];
}

static void softcap_bwd(const struct op_args *c)
{
    int64_t n = c->in[0].g ? c->rows * c->in[0].cols : 0;
    const float *y = c->out.v, *dy = c->out.g;
    float *dx = c->in[0].g, scale = c->p.scale.scale, cap = c->p.scale.cap,
          inverse = cap != 0 ? 1 / cap : 0;
#pragma omp parallel for simd schedule(static) num_threads(c->x->threads) if (n > SERIAL)
    for (int64_t i = 0; i < n; i++)
        dx[i] += dy[i] * scale * FMA(-y[i] * inverse, y[i] * inverse, 1.0f);
}

const struct kernel softcap_cpu = {.forward = softcap_fwd, .backward = softcap_bwd};
