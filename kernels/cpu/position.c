/* position: y[T,E] = x[T,E] + w[pos0 + j], w[P,E] f32, learned positions, j the place in the
 * sequence. Backward: dx += dy, dw[pos0 + j] += sum over the sequences of dy. Positions must be
 * below P (the tape checks them). */
#include "../op.h"

enum { SERIAL = 65536 };

static void position_fwd(const struct op_args *c)
{
    int64_t E = c->in[0].cols;
    const struct batch *b = c->batch;
#pragma omp parallel for schedule(static) num_threads(c->x->threads) if (c->rows * E > SERIAL)
    for (int64_t t = 0; t < c->rows; t++) {
        const float *x = (const float *)c->in[0].v + t * E,
                    *w = (const float *)c->w[0].v + (b->pos0 + t % b->seq_len) * E;
        float *restrict y = (float *)c->out.v + t * E;
        for (int64_t i = 0; i < E; i++)
            y[i] = x[i] + w[i];
    }
}

static void add_row(float *restrict to, const float *restrict from, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] += from[i];
}

static void position_bwd(const struct op_args *c)
{
    int64_t E = c->in[0].cols;
    const struct batch *b = c->batch;
#pragma omp parallel for schedule(static) num_threads(c->x->threads) if (c->rows * E > SERIAL)
    for (int64_t j = 0; j < b->seq_len; j++)
        for (int64_t s = 0; s < b->n_seq; s++) {
            int64_t t = s * b->seq_len + j;
            if (c->in[0].g)
                add_row(c->in[0].g + t * E, c->out.g + t * E, E);
            if (c->w[0].g)
                add_row(c->w[0].g + (b->pos0 + j) * E, c->out.g + t * E, E);
        }
}

const struct kernel position_cpu = {.forward = position_fwd, .backward = position_bwd};
