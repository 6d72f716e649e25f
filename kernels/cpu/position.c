/* position: y[T,E] = x[T,E] + w[p], w[P,E] f32, learned positions; p = pos0 + j less the start of
 * the document, j the place in the sequence. Backward: dx += dy, dw[p] += sum of dy over all tokens
 * at position p. Positions must be below P (the tape checks them). */
#include "../../lib/base/minmax.h"
#include "../op.h"

enum { SERIAL = 65536 };

static int64_t start_of(const struct batch *b, int64_t t) { return b->starts ? b->starts[t] : 0; }

static void position_fwd(const struct op_args *c)
{
    int64_t E = c->in[0].cols;
    const struct batch *b = c->batch;
#pragma omp parallel for schedule(static) num_threads(c->x->threads) if (c->rows * E > SERIAL)
    for (int64_t t = 0; t < c->rows; t++) {
        const float *x = (const float *)c->in[0].v + t * E;
        const float *w = (const float *)c->w[0].v + (b->pos0 + t % b->seq_len - start_of(b, t)) * E;
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

/* to += dy of the tokens of a sequence that are at position p: one of each document that is long
 * enough. */
static void add_position(const struct op_args *c, int64_t seq, int64_t p, float *to)
{
    const struct batch *b = c->batch;
    int64_t E = c->in[0].cols, end = b->pos0 + b->seq_len, start;
    for (int64_t place = max64(p, b->pos0); place < end;) {
        int64_t t = seq * b->seq_len + place - b->pos0;
        start = start_of(b, t);
        if (place - start == p)
            add_row(to, c->out.g + t * E, E);
        /* the next document begins one token later at the earliest */
        place = place - start < p ? start + p : place + 1 + p;
    }
}

static void position_bwd(const struct op_args *c)
{
    int64_t E = c->in[0].cols, positions = c->batch->pos0 + c->batch->seq_len;
    int many = c->rows * E > SERIAL;
#pragma omp parallel num_threads(c->x->threads) if (many)
    {
#pragma omp for schedule(static)
        for (int64_t t = 0; t < (c->in[0].g ? c->rows : 0); t++)
            add_row(c->in[0].g + t * E, c->out.g + t * E, E);
            /* there are more tokens at low positions */
#pragma omp for schedule(dynamic, 8)
        for (int64_t p = 0; p < (c->w[0].g ? positions : 0); p++)
            for (int64_t seq = 0; seq < c->batch->n_seq; seq++)
                add_position(c, seq, p, c->w[0].g + p * E);
    }
}

const struct kernel position_cpu = {.forward = position_fwd, .backward = position_bwd};
