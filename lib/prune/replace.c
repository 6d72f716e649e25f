/* Replace and measure: see variants.h. Of each batch, the model's logits are kept, and what enters
 * the current layer. A variant is a model of its own that borrows all tensors but those it cuts;
 * its tape runs in the memory of the model's tape, from the current layer on. */
#include "variants.h"

#include <math.h>
#include <stdlib.h>

#include "../base/minmax.h"
#include "../eval/eval.h"

struct run {
    const struct variants_run *r;
    struct variants *v;
    struct tape_spec spec; /* of the model's tape; a variant's has another model */
    struct tape *tape;
    struct data_batch batch;
    struct comparison comparison;
    struct arena memory; /* of the device */
    void *x;             /* [T, E]: what enters the current layer */
    struct operand base; /* [T, V]: the model's logits */
    int64_t predictions;
    struct err *e;
};

static int64_t rows(const struct run *r) { return r->batch.b.n_seq * r->batch.b.seq_len; }

static size_t residual_bytes(const struct run *r)
{
    return (size_t)dtype_bytes(r->r->x->compute, rows(r) * r->r->m->spec.hidden_size);
}

static size_t logits_bytes(const struct operand *z)
{
    return (size_t)dtype_bytes(z->dtype, z->rows * z->cols);
}

static void keep_entry(void *user, const struct tapped *t)
{
    const struct run *r = user;
    const struct operand *v = t->values;
    exec_copy(t->x, (char *)r->x + dtype_bytes(v->dtype, t->first * t->b->seq_len * v->cols), v->v,
              (size_t)dtype_bytes(v->dtype, v->rows * v->cols));
}

/* Takes a batch's sums into the means. */
static void mean_add(double *mean, double sum, int64_t n, int64_t before)
{
    double share = (double)n / (double)(before + n);
    *mean += (sum / (double)n - *mean) * share;
}

/* Takes the divergence of a tape's logits from the model's into the means. */
static void measure(struct run *r, struct variant_means *m, struct tape *t)
{
    struct operand logits = tape_logits_there(t, rows(r));
    const double *of = comparison_run(&r->comparison, &logits, &r->base, r->batch.b.labels,
                                      rows(r));
    double sum[DIVERGENCE_COLUMNS] = {0};
    int64_t n = r->predictions, before = r->v->predictions;
    for (int64_t i = 0; i < rows(r) * DIVERGENCE_COLUMNS; i++)
        sum[i % DIVERGENCE_COLUMNS] += of[i];
    mean_add(&m->kl, sum[DIVERGENCE_KL], n, before);
    mean_add(&m->nll, sum[DIVERGENCE_NLL], n, before);
    mean_add(&m->same_top1, sum[DIVERGENCE_SAME], n, before);
}

/* Runs the tape of a variant from its layer on. */
static int run_tape(struct run *r, struct variant *v, struct model *m)
{
    struct tape_spec spec = r->spec;
    spec.model = m;
    struct tape *t = tape_record(r->r->x, &spec, r->e);
    int fits = t && tape_working_bytes(t) <= tape_working_bytes(r->tape);
    if (t && !tape_open_beside(t, fits ? r->tape : NULL, r->e)) {
        exec_copy(r->r->x, tape_boundary(t, v->layer), r->x, residual_bytes(r));
        if (!tape_forward_range(t, &r->batch.b, v->layer, m->spec.num_hidden_layers, r->e))
            measure(r, &v->means, t);
    }
    tape_close(t);
    return r->e->set ? -1 : 0;
}

static int run_variant(struct run *r, struct variant *v)
{
    struct slice_plan p;
    struct model m = {0};
    if (variant_plan(&p, v, &r->r->m->spec, r->r->rank, r->r->rank_path, r->e))
        return -1;
    int failed = slice_lend(&p, r->r->m, r->r->x, &m, r->e) || run_tape(r, v, &m);
    model_free(&m);
    slice_plan_free(&p);
    return failed;
}

/* Replaces what enters the layer by what leaves it. */
static int pass_layer(struct run *r, int64_t layer)
{
    exec_copy(r->r->x, tape_boundary(r->tape, layer), r->x, residual_bytes(r));
    if (tape_forward_range(r->tape, &r->batch.b, layer, layer + 1, r->e))
        return -1;
    exec_copy(r->r->x, r->x, tape_boundary(r->tape, layer + 1), residual_bytes(r));
    return 0;
}

static int run_model(struct run *r)
{
    struct variant_means own = {.nll = r->v->nll};
    r->predictions = 0;
    for (int64_t i = 0; i < r->batch.b.n_seq; i++)
        r->predictions += r->batch.rows[i].predictions;
    if (tape_forward(r->tape, &r->batch.b, r->e))
        return -1;
    struct operand logits = tape_logits_there(r->tape, rows(r));
    exec_copy(r->r->x, r->base.v, logits.v, logits_bytes(&logits));
    r->base.rows = logits.rows;
    measure(r, &own, r->tape);
    r->v->nll = own.nll;
    return isfinite(own.nll) ? 0 : err_set(r->e, "the losses are not finite");
}

static int run_batch(struct run *r)
{
    int64_t layer = 0, n = r->v->n;
    if (run_model(r))
        return -1;
    for (int64_t i = 0; i < n; i++) {
        struct variant *v = &r->v->list[i];
        for (; layer < v->layer; layer++)
            if (pass_layer(r, layer))
                return -1;
        if (run_variant(r, v))
            return -1;
        r->r->progress(r->r->user, r->v->windows * n + (i + 1) * r->batch.b.n_seq, r->r->w->n * n);
    }
    return 0;
}

/* ---- all batches */

static void plan(struct run *r, const struct variants_run *how)
{
    int64_t longest = how->w->longest, n = how->batch_size;
    n = min64(n ? n : max64(1, 1024 / longest), how->w->n);
    r->r = how;
    r->spec = (struct tape_spec){
        .model = how->m, .n_seq = n, .seq_len = longest - 1, .end = TAPE_LOGITS};
    r->tape = tape_record(how->x, &r->spec, r->e);
}

/* Of the largest batch: what enters a layer, and the logits. */
static size_t kept_bytes(const struct run *r, size_t *entry)
{
    int64_t T = r->spec.n_seq * r->spec.seq_len;
    struct operand logits = tape_logits_there(r->tape, T);
    *entry = arena_round((size_t)dtype_bytes(r->r->x->compute, T * r->r->m->spec.hidden_size));
    return *entry + arena_round(logits_bytes(&logits));
}

/* The most that a variant adds: the tensors of its layer, and what its tape does not share. */
static int64_t variant_bytes(const struct run *r)
{
    const struct model_spec *h = &r->r->m->spec;
    int64_t layer, most = 0, *bytes = mem_alloc((size_t)h->num_hidden_layers * sizeof *bytes);
    for (int i = 0; i < h->n_tensors; i++) {
        model_spec_axes(h, i, &layer);
        if (layer >= 0)
            most = max64(most, bytes[layer] += tensor_bytes(&h->tensors[i]));
    }
    free(bytes);
    return most + tape_bytes(r->tape) - tape_working_bytes(r->tape);
}

int64_t variants_bytes(const struct variants_run *how, struct err *e)
{
    struct run r = {.e = e};
    size_t entry;
    plan(&r, how);
    if (!r.tape)
        return -1;
    int64_t bytes = tape_bytes(r.tape) + (int64_t)kept_bytes(&r, &entry) +
                    comparison_bytes(r.spec.n_seq * r.spec.seq_len) + variant_bytes(&r);
    tape_close(r.tape);
    return bytes;
}

static int open_run(struct run *r)
{
    size_t entry, kept = kept_bytes(r, &entry);
    int64_t T = r->spec.n_seq * r->spec.seq_len;
    if (tape_tap(r->tape, TAP_BLOCK_INPUT, 0, NULL, keep_entry, r, r->e) ||
        tape_open(r->tape, r->e) || exec_arena(r->r->x, &r->memory, kept, r->e) ||
        comparison_open(&r->comparison, r->r->x, T, r->e))
        return -1;
    r->base = tape_logits_there(r->tape, T);
    r->x = arena_take(&r->memory, entry);
    r->base.v = arena_take(&r->memory, logits_bytes(&r->base));
    return 0;
}

int variants_run(struct variants *v, const struct variants_run *how, struct err *e)
{
    struct run r = {.v = v, .e = e};
    plan(&r, how);
    data_batch_open(&r.batch, r.spec.n_seq, how->w->longest);
    int failed = !r.tape || open_run(&r);
    while (!failed && v->windows < how->w->n) {
        int64_t n = min64(r.spec.n_seq, how->w->n - v->windows);
        failed = windows_fill(how->w, v->windows, n, &r.batch, e) || run_batch(&r);
        if (failed)
            break;
        v->windows += n;
        v->predictions += r.predictions;
        how->measured(how->user);
    }
    tape_close(r.tape);
    data_batch_close(&r.batch);
    arena_close(&r.memory);
    comparison_close(&r.comparison);
    return e->set ? -1 : 0;
}
