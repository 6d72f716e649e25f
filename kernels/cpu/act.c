/* act: y = f(x), any shape; dx += dy f'(x). See act.h for the functions. */
#include "../../lib/base/minmax.h"
#include "act.h"

static void forward(enum act f, const float *restrict x, int64_t n, float *restrict y)
{
    ACT_SWITCH(f, for (int64_t i = 0; i < n; i++) y[i] = act_value(F, x[i]))
}

static void backward(enum act f, const float *restrict x, const float *restrict dy, int64_t n,
                     float *restrict dx, int overwrite)
{
    ACT_SWITCH(f, for (int64_t i = 0; i < n; i++)
                      dx[i] = (overwrite ? 0 : dx[i]) + dy[i] * act_slope(F, x[i]))
}

static void act_fwd(const struct op_args *c)
{
    int64_t n = c->rows * c->in[0].cols;
#pragma omp parallel for schedule(static) num_threads(c->x->threads) if (n > 2 * ACT_PIECE)
    for (int64_t i = 0; i < n; i += ACT_PIECE)
        forward(c->p.act.f, (const float *)c->in[0].v + i, min64(ACT_PIECE, n - i),
                (float *)c->out.v + i);
}

static void act_bwd(const struct op_args *c)
{
    int64_t n = c->in[0].g ? c->rows * c->in[0].cols : 0;
#pragma omp parallel for schedule(static) num_threads(c->x->threads) if (n > 2 * ACT_PIECE)
    for (int64_t i = 0; i < n; i += ACT_PIECE)
        backward(c->p.act.f, (const float *)c->in[0].v + i, c->out.g + i, min64(ACT_PIECE, n - i),
                 c->in[0].g + i, c->in[0].overwrite);
}

const struct kernel act_cpu = {.forward = act_fwd, .backward = act_bwd, .sets = 1};
