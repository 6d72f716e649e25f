/* The basis of every trial: guarded buffers, drawing sizes and values, running a call on the device
 * of its exec handle, comparing. */
#include "reference.h"

#include <assert.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 128, GARBAGE = 0xff };

/* ---- guarded buffers */

struct buffer {
    struct buffer *next;
    size_t bytes;
    size_t size; /* with the guards */
    unsigned char *base;
    struct arena lent; /* its copy on the device, guards and all, while a call runs there */
};

void *test_buffer(struct trial *t, size_t bytes)
{
    struct buffer *b = calloc(1, sizeof *b);
    size_t all = (bytes + 2 * GUARD + 63) & ~(size_t)63;
    assert(b);
    *b = (struct buffer){t->buffers, bytes, all, aligned_alloc(64, all), {0}};
    assert(b->base);
    memset(b->base, GARBAGE, all);
    memset(b->base, 0xa5, GUARD);
    memset(b->base + GUARD + bytes, 0xa5, GUARD);
    t->buffers = b;
    return b->base + GUARD;
}

int test_guards_whole(const struct trial *t)
{
    for (const struct buffer *b = t->buffers; b; b = b->next)
        for (size_t i = 0; i < GUARD; i++)
            if (b->base[i] != 0xa5 || b->base[GUARD + b->bytes + i] != 0xa5)
                return 0;
    return 1;
}

void test_buffers_free(struct trial *t)
{
    for (struct buffer *b = t->buffers, *next; b; b = next) {
        next = b->next;
        free(b->base);
        free(b);
    }
    t->buffers = NULL;
}

/* ---- drawing */

int64_t test_size(struct trial *t, int64_t low, int64_t high)
{
    int64_t n = low + (int64_t)rng_below(&t->rng, (uint64_t)(high - low + 1));
    return n % 2 == 0 && n < high && rng_below(&t->rng, 2) ? n + 1 : n;
}

void test_rows(struct trial *t, int64_t n_seq, int64_t seq_len, int64_t pos0)
{
    t->batch.n_seq = n_seq;
    t->batch.seq_len = seq_len;
    t->batch.pos0 = pos0;
    t->call.rows = n_seq * seq_len;
}

/* Random ones; in one large trial they end one token after a tile of a device's kernel. */
static int64_t document_tokens(struct trial *t, int64_t start, int64_t longest)
{
    if (t->number == 18)
        return start ? 64 : 65;
    return test_size(t, 1, longest);
}

void test_documents(struct trial *t)
{
    struct batch *b = &t->batch;
    int64_t longest = test_size(t, 1, b->pos0 + b->seq_len);
    if (!t->large && rng_below(&t->rng, 2))
        return;
    int32_t *starts = test_buffer(t, (size_t)t->call.rows * sizeof *starts);
    for (int64_t i = 0; i < b->n_seq; i++) {
        int64_t start = 0, end = document_tokens(t, 0, longest);
        for (int64_t place = 0; place < b->pos0 + b->seq_len; place++) {
            if (place == end) {
                start = place;
                end = start + document_tokens(t, start, longest);
            }
            if (place >= b->pos0)
                starts[i * b->seq_len + place - b->pos0] = (int32_t)start;
        }
    }
    b->starts = starts;
}

int64_t test_start(const struct trial *t, int64_t row)
{
    return t->batch.starts ? t->batch.starts[row] : 0;
}

struct operand test_operand(int64_t rows, int64_t cols)
{
    return (struct operand){.dtype = DT_F32, .rows = rows, .cols = cols};
}

void test_fill(struct trial *t, float *to, int64_t n, double spread)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = (float)(spread * rng_normal(&t->rng));
}

void *test_narrow(struct trial *t, float *values, int64_t n)
{
    uint16_t *to = test_buffer(t, (size_t)n * sizeof *to);
    from_f32(to, DT_BF16, values, n);
    to_f32(values, to, DT_BF16, n);
    return to;
}

static void store_q8(unsigned char *to, const float *values, int64_t n)
{
    for (int64_t at = 0; at < n; at += Q8_BLOCK, to += Q8_BYTES) {
        float largest = 0;
        for (int64_t i = at; i < at + Q8_BLOCK; i++)
            largest = fmaxf(largest, fabsf(values[i]));
        /* 120: after any rounding it stays below 127 */
        uint16_t scale = f32_to_f16(largest / 120);
        memcpy(to, &scale, 2);
        for (int64_t i = at; i < at + Q8_BLOCK; i++)
            to[2 + i - at] = (unsigned char)(int8_t)lrintf(values[i] / f16_to_f32(scale));
    }
}

void test_store(void *to, enum dtype d, float *values, int64_t n)
{
    if (d == DT_Q8_0)
        store_q8(to, values, n);
    else
        from_f32(to, d, values, n);
    to_f32(values, to, d, n);
}

float *test_widen(struct trial *t, const void *from, enum dtype d, int64_t n)
{
    float *to = test_buffer(t, (size_t)n * 4);
    to_f32(to, from, d, n);
    return to;
}

/* ---- running */

static struct buffer *buffer_of(const struct trial *t, const void *p)
{
    for (struct buffer *b = t->buffers; b; b = b->next)
        if ((const unsigned char *)p >= b->base + GUARD &&
            (const unsigned char *)p <= b->base + GUARD + b->bytes)
            return b;
    return NULL;
}

/* Redirects every pointer in `record` into a buffer of the trial to a copy of it on the device. */
static void lend_all(struct trial *t, struct exec *x, void *record, size_t bytes)
{
    for (char *at = record; at + sizeof(void *) <= (char *)record + bytes; at += sizeof(void *)) {
        unsigned char *p;
        memcpy(&p, at, sizeof p);
        struct buffer *b = p ? buffer_of(t, p) : NULL;
        if (!b || !b->bytes)
            continue;
        if (!b->lent.base) {
            struct err e = {0};
            int failed = exec_arena(x, &b->lent, b->size, &e);
            assert(!failed);
            exec_put(x, b->lent.base, b->base, b->size);
        }
        p = b->lent.base + (p - b->base);
        memcpy(at, &p, sizeof p);
    }
}

static void give_back_all(struct trial *t, struct exec *x)
{
    for (struct buffer *b = t->buffers; b; b = b->next)
        if (b->lent.base) {
            exec_get(x, b->base, b->lent.base, b->size);
            arena_close(&b->lent);
        }
}

/* A tape plans scratch for its largest batch and runs shorter ones in it. */
static int longer_calls_suffice(const struct trial *t, const struct op_args *c, size_t scratch)
{
    static const int64_t more[][2] = {{0, 1}, {1, 0}, {0, 20}, {0, 63}, {2, 500}};
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) {
        struct batch b = t->batch;
        struct op_args longer = *c;
        b.n_seq += more[i][0];
        b.seq_len += more[i][1];
        longer.batch = &b;
        longer.rows = b.n_seq * b.seq_len;
        for (int k = 0; k < OP_INPUTS; k++)
            if (c->in[k].rows == c->rows)
                longer.in[k].rows = longer.rows;
        longer.out.rows = longer.rows;
        if (op_scratch(t->op, &longer) < scratch)
            return 0;
    }
    return 1;
}

void test_call(struct trial *t, const struct op_args *host, int back)
{
    struct op_args c = *host;
    struct batch batch = t->batch;
    size_t scratch = op_scratch(t->op, &c);
    c.scratch = scratch ? test_buffer(t, scratch) : NULL;
    if (scratch && batch.n_seq && !longer_calls_suffice(t, &c, scratch))
        t->wrong = "a longer call plans less scratch than this one needs";
    c.batch = &batch;
    /* exec_open did so for the last handle; here there are several */
    omp_set_num_threads(c.x->threads);
    if (c.x->device != DEVICE_CPU) {
        lend_all(t, c.x, &c, sizeof c);
        lend_all(t, c.x, &batch, sizeof batch);
    }
    (back ? op_backward : op_forward)(t->op, &c);
    if (c.x->device != DEVICE_CPU)
        give_back_all(t, c.x);
}

/* ---- comparing */

double test_error(const float *got, const double *want, int64_t n)
{
    double difference = 0, norm = 0, worst = 0;
    for (int64_t i = 0; i < n; i++) {
        difference += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        norm += want[i] * want[i];
    }
    double rms = sqrt(norm / (double)(n ? n : 1)) + 1e-30;
    for (int64_t i = 0; i < n; i++)
        worst = fmax(worst, fabs((double)got[i] - want[i]) / (rms + fabs(want[i])));
    double error = fmax(sqrt(difference) / (sqrt(norm) + 1e-30), worst / 8);
    return isfinite(difference) ? error : 1;
}
