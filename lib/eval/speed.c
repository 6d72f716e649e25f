/* See speed.h. */
#include "speed.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "../base/minmax.h"
#include "../base/rng.h"
#include "../base/usage.h"
#include "estimate.h"

enum { RUNS_LEAST = 3, RUNS_MOST = 1000 };

int64_t speed_memory(struct exec *x)
{
    return x->device == DEVICE_CPU ? usage_resident_bytes() : -exec_available(x);
}

/* ---- a model */

/* One forward pass to its end. */
static int run(struct tape *t, const struct batch *b, struct err *e)
{
    if (tape_forward(t, b, e))
        return -1;
    if (b->labels)
        (void)tape_losses(t, 0);
    else
        (void)tape_logits(t, 0, 1);
    return 0;
}

/* The median of the seconds that a pass takes, after one that is not counted. */
static int time_passes(struct tape *t, const struct batch *b, double seconds, double *median,
                       struct err *e)
{
    double times[RUNS_MOST], sum = 0;
    int n = 0;
    if (run(t, b, e))
        return -1;
    for (; n < RUNS_MOST && (n < RUNS_LEAST || sum < seconds); sum += times[n++]) {
        double start = usage_seconds();
        if (run(t, b, e))
            return -1;
        times[n] = usage_seconds() - start;
    }
    sort_ascending(times, n);
    *median = times[n / 2];
    return 0;
}

/* The last token, again and again: the speed does not depend on what the cache holds. */
static int measure_decode(struct speed *s, struct exec *x, struct model *m,
                          const struct speed_options *o, const int32_t *ids, struct err *e)
{
    double seconds = NAN;
    struct batch b = {
        .n_seq = 1, .seq_len = 1, .pos0 = o->context - 1, .ids = ids, .lengths = &o->context};
    struct tape_spec spec = {
        .model = m, .n_seq = 1, .seq_len = 1, .kv_len = o->context, .end = TAPE_LOGITS};
    struct tape *t = tape_record(x, &spec, e);
    if (t && !tape_open(t, e) && !time_passes(t, &b, o->seconds, &seconds, e)) {
        s->memory = speed_memory(x);
        s->state_bytes = tape_bytes(t);
    }
    s->decode = 1 / seconds;
    tape_close(t);
    return e->set ? -1 : 0;
}

static int measure_prefill(struct speed *s, struct exec *x, struct model *m,
                           const struct speed_options *o, const int32_t *ids, struct err *e)
{
    double seconds = NAN;
    struct tape_spec spec = {.model = m,
                             .n_seq = 1,
                             .seq_len = o->context,
                             .end = TAPE_LOSS,
                             .losses = {{.kind.set = LOSS_BIT(ce)}}};
    struct batch b = {
        .n_seq = 1, .seq_len = o->context, .ids = ids, .labels = ids + 1, .lengths = &o->context};
    struct tape *t = tape_record(x, &spec, e);
    if (t && !tape_open(t, e))
        time_passes(t, &b, o->seconds, &seconds, e);
    s->prefill = (double)o->context / seconds;
    tape_close(t);
    return e->set ? -1 : 0;
}

int speed_measure(struct speed *s, struct exec *x, struct model *m, const struct speed_options *o,
                  struct err *e)
{
    struct rng rng = rng_open(1, 0);
    int32_t *ids = mem_alloc((size_t)(o->context + 1) * sizeof *ids);
    for (int64_t i = 0; i <= o->context; i++)
        ids[i] = (int32_t)rng_below(&rng, (uint64_t)m->spec.vocab_size);
    *s = (struct speed){0};
    int failed = measure_decode(s, x, m, o, ids, e) || measure_prefill(s, x, m, o, ids, e);
    free(ids);
    return failed ? -1 : 0;
}

/* The machine's memory and, of a device of its own, what is left there. */
static int check_room(struct exec *x, const struct model_spec *shape, enum dtype weights,
                      struct err *e)
{
    struct footprint f = model_footprint(shape, &(struct footprint_options){weights, weights, 1});
    int64_t most = min64(exec_available(x), sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE));
    return f.weight_bytes <= most ? 0
                                  : err_set(e,
                                            "the weights of a shape take %.1f GB, but there are "
                                            "%.1f GB of memory: it cannot be measured here",
                                            1e-9 * (double)f.weight_bytes, 1e-9 * (double)most);
}

int speed_measure_shape(struct speed *s, struct exec *x, const struct model_spec *shape,
                        enum dtype weights, const struct speed_options *o, struct err *e)
{
    struct model m;
    if (check_room(x, shape, weights, e))
        return -1;
    struct model_in *in = model_random(shape, weights, e);
    int failed = model_load(&m, in, MODEL_FROZEN, e);
    model_close(in);
    if (failed)
        return -1;
    failed = model_move(&m, x, e) || speed_measure(s, x, &m, o, e);
    model_free(&m);
    return failed ? -1 : 0;
}

/* ---- the device */

/* A product of x [rows, cols] with w [out, cols]^T. */
struct product {
    int64_t rows, cols, out;
    enum dtype weights;
};

static double synchronised_seconds(struct exec *x, const void *there)
{
    char byte;
    exec_get(x, &byte, there, 1);
    return usage_seconds();
}

static double time_products(const struct op_args *c, int64_t n)
{
    double start = synchronised_seconds(c->x, c->out.v);
    for (int64_t i = 0; i < n; i++)
        op_forward(OP_linear, c);
    return synchronised_seconds(c->x, c->out.v) - start;
}

/* Seconds of a product: of as many in a row as take a quarter of the time, the best of four. */
static double time_product(const struct op_args *c, double seconds)
{
    int64_t n = 1;
    double best;
    time_products(c, n); /* the first one is slower */
    while ((best = time_products(c, n)) < seconds / 4 && !c->x->err.set)
        n *= 2;
    for (int i = 0; i < 3; i++)
        best = fmin(best, time_products(c, n));
    return best / (double)n;
}

static int measure_product(struct exec *x, const struct product *p, double seconds, double *taken,
                           struct err *e)
{
    struct arena a = {0};
    struct batch b = {.n_seq = 1, .seq_len = p->rows};
    struct op_args c = {.x = x, .batch = &b, .rows = p->rows};
    c.in[0] = (struct operand){.dtype = x->compute, .rows = p->rows, .cols = p->cols};
    c.w[0] = (struct operand){.dtype = p->weights, .rows = p->out, .cols = p->cols};
    c.out = (struct operand){.dtype = x->compute, .rows = p->rows, .cols = p->out};
    size_t in = (size_t)dtype_bytes(x->compute, p->rows * p->cols),
           w = (size_t)dtype_bytes(p->weights, p->out * p->cols),
           out = (size_t)dtype_bytes(x->compute, p->rows * p->out),
           scratch = op_scratch(OP_linear, &c),
           all = arena_round(in) + arena_round(w) + arena_round(out) + arena_round(scratch);
    if (exec_arena(x, &a, all, e))
        return -1;
    c.in[0].v = arena_take(&a, in);
    c.w[0].v = arena_take(&a, w);
    c.out.v = arena_take(&a, out);
    c.scratch = arena_take(&a, scratch);
    exec_zero(x, a.base, all); /* pages that were never written are all the same one */
    *taken = time_product(&c, seconds);
    arena_close(&a);
    return x->err.set ? err_set(e, "%s", x->err.msg) : 0;
}

int speed_rates(struct speed_rates *r, struct exec *x, enum dtype weights, double seconds,
                struct err *e)
{
    enum { WIDTH = 4096, READ = 128 << 20 }; /* bytes beyond what caches hold */
    int64_t side = x->device == DEVICE_CPU ? 2048 : WIDTH, out = READ / dtype_bytes(weights, WIDTH);
    struct product large = {.rows = side / 4, .cols = side, .out = side, .weights = weights},
                   token = {.rows = 1, .cols = WIDTH, .out = out, .weights = weights};
    double product, read;
    if (measure_product(x, &large, seconds, &product, e) ||
        measure_product(x, &token, seconds, &read, e))
        return -1;
    r->flops = 2 * (double)(large.rows * large.cols * large.out) / product;
    r->bytes = (double)dtype_bytes(weights, out * WIDTH) / read;
    return 0;
}

void speed_predict(struct speed *s, const struct footprint *f, int64_t context,
                   const struct speed_rates *r)
{
    double n = (double)context, read = (double)f->active_bytes / r->bytes;
    s->prefill = n / fmax(n * f->prefill_flops / r->flops, read);
    s->decode = 1 / fmax(f->decode_flops / r->flops, read + (double)f->kv_bytes / r->bytes);
}
