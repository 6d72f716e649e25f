/* add: y = a + scale * b, any shape; da += dy, db += scale * dy. y may be a or b. */
#include "../op.h"

enum { SERIAL = 65536 };

static void add_fwd(const struct op_args *c)
{
    int64_t n = c->rows * c->in[0].cols;
    const float *a = c->in[0].v, *b = c->in[1].v;
    float *y = c->out.v, scale = c->p.scale.scale;
#pragma omp parallel for simd schedule(static) num_threads(c->x->threads) if (n > SERIAL)
    for (int64_t i = 0; i < n; i++)
        y[i] = a[i] + scale * b[i];
}

/* to = or += scale * dy */
static void add_scaled(const struct op_args *c, float *to, float scale, int overwrite)
{
    int64_t n = c->rows * c->in[0].cols;
    const float *dy = c->out.g;
#pragma omp parallel for simd schedule(static) num_threads(c->x->threads) if (n > SERIAL)
    for (int64_t i = 0; i < n; i++)
        to[i] = (overwrite ? 0 : to[i]) + scale * dy[i];
}

static void add_bwd(const struct op_args *c)
{
    if (c->in[0].g)
        add_scaled(c, c->in[0].g, 1, c->in[0].overwrite);
    if (c->in[1].g)
        add_scaled(c, c->in[1].g, c->p.scale.scale, c->in[1].overwrite);
}

const struct kernel add_cpu = {.forward = add_fwd, .backward = add_bwd, .sets = 1};
