/* glu: y = f(a) b, any shape (the gated FFN: a from gate_proj, b from up_proj); da += dy b f'(a),
 * db += dy f(a). See act.h. */
#include "../../lib/base/minmax.h"
#include "act.h"

static void forward(enum act f, const float *restrict a, const float *restrict b, int64_t n,
                    float *restrict y)
{
    ACT_SWITCH(f, for (int64_t i = 0; i < n; i++) y[i] = act_value(F, a[i]) * b[i])
}

static void backward_a(enum act f, const float *restrict a, const float *restrict b,
                       const float *restrict dy, int64_t n, float *restrict da, int overwrite)
{
    ACT_SWITCH(f, for (int64_t i = 0; i < n; i++)
                      da[i] = (overwrite ? 0 : da[i]) + dy[i] * b[i] * act_slope(F, a[i]))
}

static void backward_b(enum act f, const float *restrict a, const float *restrict dy, int64_t n,
                       float *restrict db, int overwrite)
{
    ACT_SWITCH(f, for (int64_t i = 0; i < n; i++)
                      db[i] = (overwrite ? 0 : db[i]) + dy[i] * act_value(F, a[i]))
}

static void glu_fwd(const struct op_args *c)
{
    int64_t n = c->rows * c->in[0].cols;
    const float *a = c->in[0].v, *b = c->in[1].v;
#pragma omp parallel for schedule(static) num_threads(c->x->threads) if (n > 2 * ACT_PIECE)
    for (int64_t i = 0; i < n; i += ACT_PIECE)
        forward(c->p.act.f, a + i, b + i, min64(ACT_PIECE, n - i), (float *)c->out.v + i);
}

static void glu_bwd(const struct op_args *c)
{
    int64_t n = c->rows * c->in[0].cols;
    const float *a = c->in[0].v, *b = c->in[1].v, *dy = c->out.g;
#pragma omp parallel for schedule(static) num_threads(c->x->threads) if (n > 2 * ACT_PIECE)
    for (int64_t i = 0; i < n; i += ACT_PIECE) {
        int64_t m = min64(ACT_PIECE, n - i);
        if (c->in[0].g)
            backward_a(c->p.act.f, a + i, b + i, dy + i, m, c->in[0].g + i, c->in[0].overwrite);
        if (c->in[1].g)
            backward_b(c->p.act.f, a + i, dy + i, m, c->in[1].g + i, c->in[1].overwrite);
    }
}

const struct kernel glu_cpu = {.forward = glu_fwd, .backward = glu_bwd, .sets = 1};
