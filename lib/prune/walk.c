/* Running a model layer by layer: see walk.h. A block is skipped, or replaced by another tape's, by
 * copying what enters it to where that block reads. */
#include "walk.h"

#include <math.h>

#include "../base/minmax.h"

int walk_plan(struct walk *k, struct exec *x, struct model *m, const struct windows *w,
              int64_t batch_size, enum tape_end end, struct err *e)
{
    int64_t n = min64(batch_size ? batch_size : max64(1, 1024 / w->longest), w->n);
    *k = (struct walk){.x = x, .m = m, .w = w};
    k->spec = (struct tape_spec){.model = m,
                                 .n_seq = n,
                                 .seq_len = w->longest - 1,
                                 .end = end,
                                 .losses = {{.kind.set = LOSS_BIT(ce)}}};
    k->tape = tape_record(x, &k->spec, e);
    return k->tape ? 0 : -1;
}

static int is_compared(const struct walk *k) { return k->spec.end == TAPE_LOGITS; }
static int64_t most_rows(const struct walk *k) { return k->spec.n_seq * k->spec.seq_len; }
static int64_t rows(const struct walk *k) { return k->batch.b.n_seq * k->batch.b.seq_len; }

static size_t entry_bytes(const struct walk *k, int64_t n)
{
    return (size_t)dtype_bytes(k->x->compute, n * k->m->spec.hidden_size);
}

static size_t logits_bytes(const struct walk *k, int64_t n)
{
    struct operand z = tape_logits_there(k->tape, n);
    return is_compared(k) ? (size_t)dtype_bytes(z.dtype, z.rows * z.cols) : 0;
}

static size_t kept_bytes(const struct walk *k)
{
    return arena_round(entry_bytes(k, most_rows(k))) + arena_round(logits_bytes(k, most_rows(k)));
}

int64_t walk_bytes(const struct walk *k)
{
    int64_t compared = is_compared(k) ? comparison_bytes(most_rows(k)) : 0;
    return tape_bytes(k->tape) + (int64_t)kept_bytes(k) + compared;
}

static void keep_entry(void *user, const struct tapped *t)
{
    const struct walk *k = user;
    const struct operand *v = t->values;
    int64_t at = dtype_bytes(v->dtype, t->first * t->b->seq_len * v->cols);
    exec_copy(t->x, (char *)k->entry + at, v->v, (size_t)dtype_bytes(v->dtype, v->rows * v->cols));
}

int walk_open(struct walk *k, struct err *e)
{
    data_batch_open(&k->batch, k->spec.n_seq, k->w->longest);
    if (tape_tap(k->tape, TAP_BLOCK_INPUT, 0, NULL, keep_entry, k, e) || tape_open(k->tape, e) ||
        exec_arena(k->x, &k->memory, kept_bytes(k), e) ||
        (is_compared(k) && comparison_open(&k->comparison, k->x, most_rows(k), e)))
        return -1;
    k->entry = arena_take(&k->memory, entry_bytes(k, most_rows(k)));
    k->base.v = arena_take(&k->memory, logits_bytes(k, most_rows(k)));
    return 0;
}

static void compare(struct walk *k, struct tape *t, struct walk_sums *sums)
{
    struct operand logits = tape_logits_there(t, rows(k));
    const double *of = comparison_run(&k->comparison, &logits, &k->base, k->batch.b.labels,
                                      rows(k));
    double sum[DIVERGENCE_COLUMNS] = {0};
    for (int64_t i = 0; i < rows(k) * DIVERGENCE_COLUMNS; i++)
        sum[i % DIVERGENCE_COLUMNS] += of[i];
    *sums = (struct walk_sums){sum[DIVERGENCE_NLL], sum[DIVERGENCE_KL], sum[DIVERGENCE_SAME]};
}

static void measure(struct walk *k, struct tape *t, struct walk_sums *sums)
{
    *sums = (struct walk_sums){0};
    if (is_compared(k)) {
        compare(k, t, sums);
        return;
    }
    const double *losses = tape_losses(t, 0);
    for (int64_t i = 0; i < rows(k); i++)
        sums->nll += losses[i];
}

static void keep_logits(struct walk *k, struct tape *t)
{
    void *kept = k->base.v, *logits;
    k->base = tape_logits_there(t, rows(k));
    logits = k->base.v;
    k->base.v = kept;
    exec_copy(k->x, kept, logits, logits_bytes(k, rows(k)));
}

/* A tape of another model, in the memory of the walk's own if that is enough. NULL on error */
static struct tape *open_beside(struct walk *k, struct model *m, struct err *e)
{
    struct tape_spec spec = k->spec;
    spec.model = m;
    struct tape *t = tape_record(k->x, &spec, e);
    int fits = t && tape_working_bytes(t) <= tape_working_bytes(k->tape);
    if (t && !tape_open_beside(t, fits ? k->tape : NULL, e))
        return t;
    tape_close(t);
    return NULL;
}

static int run_reference(struct walk *k, struct err *e)
{
    struct tape *t = open_beside(k, k->reference, e);
    int failed = !t || tape_forward(t, &k->batch.b, e);
    if (!failed)
        keep_logits(k, t);
    tape_close(t);
    return failed;
}

int walk_begin(struct walk *k, int64_t first, struct walk_sums *sums, struct err *e)
{
    int64_t n = min64(k->spec.n_seq, k->w->n - first);
    if (windows_fill(k->w, first, n, &k->batch, e))
        return -1;
    k->predictions = 0;
    for (int64_t i = 0; i < n; i++)
        k->predictions += k->batch.rows[i].predictions;
    if (is_compared(k) && k->reference && run_reference(k, e))
        return -1;
    if (tape_forward(k->tape, &k->batch.b, e))
        return -1;
    if (is_compared(k) && !k->reference)
        keep_logits(k, k->tape);
    measure(k, k->tape, sums);
    return isfinite(sums->nll) ? 0 : err_set(e, "the losses are not finite");
}

static int run_from(struct walk *k, struct tape *t, const struct model *m, int64_t layer,
                    struct walk_sums *sums, struct err *e)
{
    exec_copy(k->x, tape_boundary(t, layer), k->entry, entry_bytes(k, rows(k)));
    if (tape_forward_range(t, &k->batch.b, layer, m->spec.num_hidden_layers, e))
        return -1;
    measure(k, t, sums);
    return 0;
}

int walk_skip(struct walk *k, int64_t layer, struct walk_sums *sums, struct err *e)
{
    return run_from(k, k->tape, k->m, layer, sums, e);
}

int walk_swap(struct walk *k, struct model *m, int64_t layer, struct walk_sums *sums, struct err *e)
{
    struct tape *t = open_beside(k, m, e);
    int failed = !t || run_from(k, t, m, layer, sums, e);
    tape_close(t);
    return failed ? -1 : 0;
}

int walk_pass(struct walk *k, int64_t layer, struct err *e)
{
    exec_copy(k->x, tape_boundary(k->tape, layer), k->entry, entry_bytes(k, rows(k)));
    if (tape_forward_range(k->tape, &k->batch.b, layer, layer + 1, e))
        return -1;
    exec_copy(k->x, k->entry, tape_boundary(k->tape, layer + 1), entry_bytes(k, rows(k)));
    return 0;
}

void walk_close(struct walk *k)
{
    tape_close(k->tape);
    data_batch_close(&k->batch);
    arena_close(&k->memory);
    comparison_close(&k->comparison);
    *k = (struct walk){0};
}
