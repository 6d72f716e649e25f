/* rope: rotates the first `dims` channels of each head by the angle of its position, pos0 + j less
 * the start of its document (Su et al. 2021, eq. 34; the cos and sin tables are given): channels
 * (i, i + dims/2) together, or neighbours (2i, 2i+1) if interleaved; the other channels are copied.
 * x, y [T, heads*D]. Backward rotates the other way. Positions must be inside the tables (the tape
 * checks them). */
#include "../op.h"

#include <string.h>

enum { SERIAL = 32768 };

/* y (+)= rotation of x by sign * angle. */
static void rotate(const float *restrict x, const float *restrict cosine,
                   const float *restrict sine, int64_t half, float sign, float *restrict y)
{
    for (int64_t i = 0; i < half; i++) {
        float s = sign * sine[i];
        y[i] += x[i] * cosine[i] - x[i + half] * s;
        y[i + half] += x[i + half] * cosine[i] + x[i] * s;
    }
}

static void rotate_interleaved(const float *restrict x, const float *restrict cosine,
                               const float *restrict sine, int64_t half, float sign,
                               float *restrict y)
{
    for (int64_t i = 0; i < half; i++) {
        float s = sign * sine[i];
        y[2 * i] += x[2 * i] * cosine[i] - x[2 * i + 1] * s;
        y[2 * i + 1] += x[2 * i + 1] * cosine[i] + x[2 * i] * s;
    }
}

/* All rows; y is overwritten if `set`, else added to. */
static void rotate_rows(const struct op_args *c, const float *from, float *to, float sign, int set)
{
    const struct rope_params *p = &c->p.rope;
    int64_t cols = c->in[0].cols, D = cols / p->heads, half = p->dims / 2;
#pragma omp parallel for schedule(static) num_threads(c->x->threads) if (c->rows * cols > SERIAL)
    for (int64_t t = 0; t < c->rows; t++) {
        int64_t start = c->batch->starts ? c->batch->starts[t] : 0;
        int64_t at = (c->batch->pos0 + t % c->batch->seq_len - start) * half;
        for (int64_t h = 0; h < p->heads; h++) {
            const float *x = from + t * cols + h * D;
            float *y = to + t * cols + h * D;
            if (set)
                memset(y, 0, (size_t)p->dims * sizeof *y);
            (p->interleaved ? rotate_interleaved : rotate)(x, p->cos + at, p->sin + at, half, sign,
                                                           y);
            for (int64_t i = p->dims; i < D; i++)
                y[i] = set ? x[i] : y[i] + x[i];
        }
    }
}

static void rope_fwd(const struct op_args *c) { rotate_rows(c, c->in[0].v, c->out.v, 1, 1); }

static void rope_bwd(const struct op_args *c)
{
    if (c->in[0].g)
        rotate_rows(c, c->out.g, c->in[0].g, -1, c->in[0].overwrite);
}

const struct kernel rope_cpu = {.forward = rope_fwd, .backward = rope_bwd, .sets = 1};
