/* conv: the causal depthwise convolution of Mamba-2 (Dao and Gu 2024, figure 6), with its
 * activation. x, y [T,C]; w0[C,W], w1[C] or absent:
 *
 *   z[t,c] = w1[c] + sum over k of w0[c,k] x[t - (W-1) + k, c],  y = silu(z)
 *
 * where tokens before the start of t's document count as 0. Backward computes z again; with
 * dz = dy silu'(z): dx[t - (W-1) + k] += w0[.,k] dz[t], dw0[.,k] += sum over t of dz[t]
 * x[t - (W-1) + k], dw1 += sum of dz; the sums over t are f64. State: the rows of x at the last W-1
 * places, [W-1, C].
 *
 * Threads share the channels, in blocks: a channel's tokens and gradients belong to one of them. */
#include <omp.h>
#include <string.h>

#include "../../lib/base/minmax.h"
#include "act.h"
#include "weights.h"

enum { BLOCK = 64 }; /* channels */

/* One block's channels first .. first + n - 1; w: [W, BLOCK], bias [BLOCK] after it. */
struct block {
    const struct op_args *c;
    int64_t W, C, first, n;
    float *w, *bias, *window; /* window: [W - 1, BLOCK] values of the state as it was */
    double *dw, *dbias;       /* sums, laid out as w and bias */
};

static size_t block_floats(int64_t W) { return (size_t)(2 * W * BLOCK); }

static size_t conv_scratch(const struct op_args *c)
{
    int64_t W = c->p.conv.width;
    size_t bytes = block_floats(W) * sizeof(float) + (size_t)((W + 1) * BLOCK) * sizeof(double);
    return (size_t)c->x->threads * bytes;
}

static struct block block_of(const struct op_args *c, int64_t i)
{
    int64_t W = c->p.conv.width, C = c->in[0].cols;
    struct block b = {.c = c, .W = W, .C = C, .first = i * BLOCK};
    size_t each = conv_scratch(c) / (size_t)c->x->threads;
    b.n = min64(BLOCK, C - b.first);
    b.dw = (double *)((char *)c->scratch + (size_t)omp_get_thread_num() * each);
    b.dbias = b.dw + W * BLOCK;
    b.w = (float *)(b.dbias + BLOCK);
    b.bias = b.w + W * BLOCK;
    b.window = b.bias + BLOCK;
    memset(b.bias, 0, BLOCK * sizeof *b.bias);
    if (c->w[1].v)
        memcpy(b.bias, (const float *)c->w[1].v + b.first, (size_t)b.n * sizeof *b.bias);
    /* for a moment in f32 where the sums will be */
    const float *w = weight_rows(&c->w[0], b.first, b.n, (float *)b.dw);
    for (int64_t j = 0; j < b.n; j++)
        for (int64_t k = 0; k < W; k++)
            b.w[k * BLOCK + j] = w[j * W + k];
    return b;
}

/* The block's channels of the input at a place of sequence `seq`, which may be before the call. */
static const float *input_at(const struct block *b, int64_t seq, int64_t place)
{
    const struct batch *t = b->c->batch;
    if (place < t->pos0)
        return b->window + (place - (t->pos0 - (b->W - 1))) * BLOCK;
    return (const float *)b->c->in[0].v + (seq * t->seq_len + place - t->pos0) * b->C + b->first;
}

/* The first k whose token is in the document of token t. */
static int64_t first_tap(const struct block *b, int64_t seq, int64_t t)
{
    const struct batch *a = b->c->batch;
    int64_t start = a->starts ? a->starts[seq * a->seq_len + t] : 0;
    return max64(0, start - (a->pos0 + t - (b->W - 1)));
}

static void multiply_add(float *restrict y, const float *restrict w, const float *restrict x,
                         int64_t n)
{
    for (int64_t j = 0; j < n; j++)
        y[j] += w[j] * x[j];
}

/* z [BLOCK] of token t */
static void sum_taps(const struct block *b, int64_t seq, int64_t t, float *z)
{
    memcpy(z, b->bias, BLOCK * sizeof *z);
    for (int64_t k = first_tap(b, seq, t); k < b->W; k++)
        multiply_add(z, b->w + k * BLOCK, input_at(b, seq, b->c->batch->pos0 + t - (b->W - 1) + k),
                     b->n);
}

/* ---- state: rows of all channels, of which a block has its own */

static float *state_row(const struct block *b, int64_t seq, int64_t row)
{
    return b->c->state + (seq * (b->W - 1) + row) * b->C + b->first;
}

static void state_read(const struct block *b, int64_t seq)
{
    for (int64_t row = 0; row < b->W - 1; row++)
        memcpy(b->window + row * BLOCK, state_row(b, seq, row), (size_t)b->n * sizeof(float));
}

static void state_write(const struct block *b, int64_t seq)
{
    int64_t first = b->c->batch->pos0 + b->c->batch->seq_len - (b->W - 1);
    for (int64_t row = max64(0, -first); row < b->W - 1; row++)
        memcpy(state_row(b, seq, row), input_at(b, seq, first + row), (size_t)b->n * sizeof(float));
}

/* ---- forward */

static void forward_sequence(const struct block *b, int64_t seq)
{
    const struct batch *a = b->c->batch;
    float z[BLOCK];
    if (b->c->state && a->pos0)
        state_read(b, seq);
    for (int64_t t = 0; t < a->seq_len; t++) {
        float *y = (float *)b->c->out.v + (seq * a->seq_len + t) * b->C + b->first;
        sum_taps(b, seq, t, z);
        for (int64_t j = 0; j < b->n; j++)
            y[j] = act_value(ACT_SILU, z[j]);
    }
    if (b->c->state)
        state_write(b, seq);
}

static void conv_fwd(const struct op_args *c)
{
    int64_t blocks = (c->in[0].cols + BLOCK - 1) / BLOCK;
#pragma omp parallel for schedule(static) \
    num_threads(c->x->threads) if (c->rows * c->in[0].cols > 32768)
    for (int64_t i = 0; i < blocks; i++) {
        struct block b = block_of(c, i);
        for (int64_t seq = 0; seq < c->batch->n_seq; seq++)
            forward_sequence(&b, seq);
    }
}

/* ---- backward */

static void add_product(double *restrict sum, const float *restrict a, const float *restrict b,
                        int64_t n)
{
    for (int64_t j = 0; j < n; j++)
        sum[j] += (double)(a[j] * b[j]);
}

static void backward_token(const struct block *b, int64_t seq, int64_t t)
{
    const struct op_args *c = b->c;
    int64_t row = seq * c->batch->seq_len + t;
    const float *dy = c->out.g + row * b->C + b->first;
    float z[BLOCK], dz[BLOCK];
    sum_taps(b, seq, t, z);
    for (int64_t j = 0; j < b->n; j++) {
        dz[j] = dy[j] * act_slope(ACT_SILU, z[j]);
        b->dbias[j] += (double)dz[j];
    }
    for (int64_t k = first_tap(b, seq, t); k < b->W; k++) {
        int64_t at = (row - (b->W - 1) + k) * b->C + b->first;
        add_product(b->dw + k * BLOCK, dz, (const float *)c->in[0].v + at, b->n);
        if (c->in[0].g)
            multiply_add(c->in[0].g + at, b->w + k * BLOCK, dz, b->n);
    }
}

static void weight_gradients(const struct block *b)
{
    float *dw = b->c->w[0].g, *dbias = b->c->w[1].g;
    for (int64_t j = 0; j < b->n; j++) {
        for (int64_t k = 0; k < b->W && dw; k++)
            dw[(b->first + j) * b->W + k] += (float)b->dw[k * BLOCK + j];
        if (dbias)
            dbias[b->first + j] += (float)b->dbias[j];
    }
}

static void conv_bwd(const struct op_args *c)
{
    int64_t blocks = (c->in[0].cols + BLOCK - 1) / BLOCK;
#pragma omp parallel for schedule(static) \
    num_threads(c->x->threads) if (c->rows * c->in[0].cols > 32768)
    for (int64_t i = 0; i < blocks; i++) {
        struct block b = block_of(c, i);
        memset(b.dw, 0, (size_t)((b.W + 1) * BLOCK) * sizeof *b.dw);
        for (int64_t seq = 0; seq < c->batch->n_seq; seq++)
            for (int64_t t = 0; t < c->batch->seq_len; t++)
                backward_token(&b, seq, t);
        weight_gradients(&b);
    }
}

const struct kernel conv_cpu = {.forward = conv_fwd, .backward = conv_bwd, .scratch = conv_scratch};
