/* Times of single ops: see profile.h. Each event of the tape is run a few times between two
 * synchronisations with the device. */
#include "profile.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../lib/base/rng.h"
#include "../../lib/base/usage.h"
#include "../../lib/tape/tape_private.h"

/* SMALLER: for machines with little memory, where speed does not matter */
enum { SIDE = 8192, COPY_BYTES = 1 << 30, REPEATS = 10, SMALLER = 64 };

static void wait_for(struct exec *x, const void *there)
{
    char byte;
    exec_get(x, &byte, there, 1);
}

/* Seconds of one run of fn. */
static double seconds_of(struct exec *x, const void *there, void (*fn)(void *), void *user)
{
    fn(user);
    wait_for(x, there);
    double start = usage_seconds();
    for (int i = 0; i < REPEATS; i++)
        fn(user);
    wait_for(x, there);
    return (usage_seconds() - start) / REPEATS;
}

/* ---- limits of the device */

static void run_product(void *call) { op_forward(OP_linear, call); }

struct copying {
    struct exec *x;
    unsigned char *from;
    size_t bytes;
};
static void run_copy(void *user)
{
    struct copying *c = user;
    exec_copy(c->x, c->from + c->bytes / 2, c->from, c->bytes / 2);
}

static struct operand random_square(struct exec *x, struct arena *a, int64_t side, uint64_t seed)
{
    int64_t n = side * side;
    float *wide = mem_alloc((size_t)n * 4);
    void *narrow = mem_alloc((size_t)n * 4);
    struct rng r = rng_open(seed, 0);
    for (int64_t i = 0; i < n; i++)
        wide[i] = (float)rng_uniform(&r) - 0.5f;
    from_f32(narrow, x->compute, wide, n);
    size_t bytes = (size_t)dtype_bytes(x->compute, n);
    struct operand o = {.v = arena_take(a, bytes), .dtype = x->compute, .rows = side, .cols = side};
    exec_put(x, o.v, narrow, bytes);
    free(wide);
    free(narrow);
    return o;
}

int profile_ceiling(struct exec *x, struct ceiling *c, struct err *e)
{
    struct arena a;
    int64_t smaller = exec_available(x) > (int64_t)8 << 30 ? 1 : SMALLER, side = SIDE / smaller;
    if (exec_arena(x, &a, (size_t)(3 * side * side * 4), e))
        return -1;
    struct batch b = {.n_seq = 1, .seq_len = side};
    struct op_args call = {.x = x,
                           .batch = &b,
                           .rows = side,
                           .in = {random_square(x, &a, side, 1)},
                           .w = {random_square(x, &a, side, 2)}};
    call.out = call.in[0];
    call.out.v = arena_take(&a, (size_t)(side * side * 4));
    c->product = 2.0 * (double)side * (double)side * (double)side /
                 seconds_of(x, call.out.v, run_product, &call);
    arena_close(&a);
    size_t bytes = COPY_BYTES / (size_t)smaller;
    if (exec_arena(x, &a, bytes, e))
        return -1;
    struct copying copying = {x, a.base, bytes};
    c->copy = (double)bytes / seconds_of(x, a.base, run_copy, &copying);
    arena_close(&a);
    return 0;
}

/* ---- minimum cost of an op */

static double entries(const struct operand *o) { return (double)o->rows * (double)o->cols; }
static double bytes_of(const struct operand *o)
{
    return o->v ? (double)dtype_bytes(o->dtype, o->rows * o->cols) : 0;
}

/* Nominal ones: what a kernel computes again does not count. */
static double flops_of(enum op op, const struct op_args *c, int back)
{
    double T = (double)c->rows;
    const struct attention_params *a = &c->p.attention;
    const struct scan_params *s = &c->p.scan;
    switch (op) {
    case OP_linear:
    case OP_experts:
    case OP_mixture: /* a product each for the output, and for either gradient */
        return 2 * T * (double)(c->in[0].cols * c->out.cols) *
               (back ? (c->in[0].g != NULL) + (c->w[0].g != NULL) : 1);
    case OP_attention: /* half of the square; five products backward for two forward */
        return 2 * T * (double)(c->batch->seq_len * a->heads * a->head_dim) * (back ? 2.5 : 1);
    case OP_scan: /* decay, update and reading of the states; twice that for the gradients */
        return 5 * T * (double)(s->heads * s->head_dim * s->state) * (back ? 2 : 1);
    case OP_loss: return 2 * T * (entries(&c->w[0]) * (c->in[0].g ? 3 : 1) + entries(&c->w[2]));
    default: return 0;
    }
}

static double moved_bytes(enum op op, const struct op_args *c, int back)
{
    double n = 0;
    for (int i = 0; i < OP_INPUTS; i++) {
        if (!back || ops[op].reads & (READS_IN0 << i))
            n += bytes_of(&c->in[i]);
        if (back && c->in[i].g)
            n += 2 * (double)dtype_bytes(c->in[i].dtype, c->in[i].rows * c->in[i].cols);
    }
    double out = (double)dtype_bytes(c->out.dtype, c->out.rows * c->out.cols);
    return n + out + (back && ops[op].reads & READS_OUT ? out : 0);
}

/* ---- the table */

struct timed {
    struct tape *t;
    const struct event *ev;
    struct op_args c;
};

static void run_event(void *user)
{
    struct timed *r = user;
    const struct line *l = &r->t->lines[r->ev->line];
    if (r->ev->kind == EVENT_ZERO)
        exec_zero(r->t->x, r->c.out.g,
                  (size_t)dtype_bytes(r->c.out.dtype, r->c.out.rows * r->c.out.cols));
    else if (r->ev->kind == EVENT_BACKWARD)
        op_backward(l->op, &r->c);
    else
        op_forward(l->op, &r->c);
}

struct sum {
    int64_t calls;
    double seconds, product, copy; /* the last two: what its FLOPs and its bytes take */
};

/* Returns its seconds. */
static double print_sum(const char *name, const char *direction, const struct sum *s)
{
    double bound = fmax(s->product, s->copy);
    if (s->calls)
        printf("{\"op\":\"%s\",\"direction\":\"%s\",\"calls\":%lld,\"ms\":%.3f,\"share\":%.3f,"
               "\"of\":\"%s\"}\n",
               name, direction, (long long)s->calls, 1e3 * s->seconds, bound / s->seconds,
               s->product > s->copy ? "product" : "copy");
    return s->seconds;
}

double profile_print(struct tape *t, const struct batch *b, const struct ceiling *ceiling)
{
    static const char *const directions[] = {"forward", "backward", "zero"};
    struct sum sums[3][OP_COUNT] = {0};
    struct batch there = *b;
    there.ids = t->ids;
    there.labels = t->labels;
    for (int i = 0; i < t->n_events && !t->x->err.set; i++) {
        struct timed r = {t, &t->events[i], tape_args(t, &t->events[i], &there)};
        enum op op = t->lines[r.ev->line].op;
        int back = r.ev->kind == EVENT_BACKWARD;
        struct sum *s = r.ev->kind == EVENT_ZERO ? &sums[2][0] : &sums[back][op];
        double bytes = (double)dtype_bytes(r.c.out.dtype, r.c.out.rows * r.c.out.cols);
        if (r.ev->kind != EVENT_ZERO) {
            bytes = moved_bytes(op, &r.c, back);
            s->product += flops_of(op, &r.c, back) / ceiling->product;
        }
        s->copy += bytes / ceiling->copy;
        s->calls++;
        s->seconds += seconds_of(t->x, t->step, run_event, &r);
    }
    double seconds = 0;
    for (int op = 0; op < OP_COUNT; op++)
        for (int d = 0; d < 2; d++)
            seconds += print_sum(ops[op].name, directions[d], &sums[d][op]);
    return seconds + print_sum("gradients", directions[2], &sums[2][0]);
}
