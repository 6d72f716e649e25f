/* Replace and measure: see variants.h. A variant is a model of its own that borrows all tensors but
 * those it cuts, and is run from its layer on. */
#include "variants.h"

#include <stdlib.h>

#include "../base/mem.h"
#include "../base/minmax.h"
#include "../base/turns.h"
#include "walk.h"

/* Takes a batch's sum into a mean. */
static void mean_add(double *mean, double sum, int64_t n, int64_t before)
{
    double share = (double)n / (double)(before + n);
    *mean += (sum / (double)n - *mean) * share;
}

static void take(struct variant_means *m, const struct walk_sums *s, int64_t n, int64_t before)
{
    mean_add(&m->kl, s->kl, n, before);
    mean_add(&m->nll, s->nll, n, before);
    mean_add(&m->same_top1, s->same_top1, n, before);
}

static int run_variant(struct walk *k, const struct variants_run *r, const struct variant *v,
                       struct walk_sums *sums, struct err *e)
{
    struct slice_plan p;
    struct model m = {0};
    if (variant_plan(&p, v, &r->m->spec, r->rank, r->rank_path, e))
        return -1;
    int failed = slice_lend(&p, r->m, r->x, &m, e) || walk_swap(k, &m, v->layer, sums, e);
    model_free(&m);
    slice_plan_free(&p);
    return failed;
}

/* n windows: sums[0] of the model, [1 + i] of variant i */
static int run_batch(struct walk *k, const struct variants *v, const struct variants_run *r,
                     int64_t n, struct walk_sums *sums, struct err *e)
{
    int64_t layer = 0;
    if (walk_begin(k, v->windows, sums, e))
        return -1;
    r->progress(r->user, v->windows * v->n, r->w->n * v->n);
    for (int64_t i = 0; i < v->n; i++) {
        for (; layer < v->list[i].layer; layer++)
            if (walk_pass(k, layer, e))
                return -1;
        if (run_variant(k, r, &v->list[i], &sums[1 + i], e))
            return -1;
        r->progress(r->user, v->windows * v->n + (i + 1) * n, r->w->n * v->n);
    }
    return 0;
}

/* Takes up a batch, once its sums are where the table is kept. */
static int take_batch(struct variants *v, int64_t batch, const struct windows *w, int64_t n,
                      struct walk_sums *sums, struct err *e)
{
    int64_t predictions = 0;
    for (int64_t i = v->windows; i < v->windows + n; i++)
        predictions += windows_row(w, i).predictions;
    if (turn_bring(batch, sums, (size_t)(1 + v->n) * sizeof *sums, e))
        return -1;
    mean_add(&v->nll, sums[0].nll, predictions, v->predictions);
    for (int64_t i = 0; i < v->n; i++)
        take(&v->list[i].means, &sums[1 + i], predictions, v->predictions);
    v->windows += n;
    v->predictions += predictions;
    return 0;
}

static int run_batches(struct walk *k, struct variants *v, const struct variants_run *r,
                       struct err *e)
{
    struct walk_sums *sums = mem_alloc((size_t)(1 + v->n) * sizeof *sums);
    int failed = walk_open(k, e);
    for (int64_t batch = 0; !failed && v->windows < r->w->n; batch++) {
        int64_t n = min64(k->spec.n_seq, r->w->n - v->windows);
        failed = (turn_is_mine(batch) && run_batch(k, v, r, n, sums, e)) ||
                 take_batch(v, batch, r->w, n, sums, e);
        if (!failed && turns_end_here())
            r->measured(r->user);
    }
    free(sums);
    return failed;
}

/* To all processes: what the first one has measured. */
static int variants_share(struct variants *v, struct err *e)
{
    return turns_share(&v->windows, sizeof v->windows, e) ||
           turns_share(&v->predictions, sizeof v->predictions, e) ||
           turns_share(&v->nll, sizeof v->nll, e) ||
           turns_share(v->list, (size_t)v->n * sizeof *v->list, e);
}

static int plan(struct walk *k, const struct variants_run *r, struct err *e)
{
    return walk_plan(k, r->x, r->m, r->w, r->batch_size, TAPE_LOGITS, e);
}

int variants_run(struct variants *v, const struct variants_run *r, struct err *e)
{
    struct walk k;
    int failed = variants_share(v, e) || plan(&k, r, e) || run_batches(&k, v, r, e) ||
                 variants_share(v, e);
    walk_close(&k);
    return failed ? -1 : 0;
}

/* The most that a variant adds: the tensors of its layer, and what its tape does not share. */
static int64_t variant_bytes(const struct walk *k)
{
    const struct model_spec *h = &k->m->spec;
    int64_t layer, most = 0, *bytes = mem_alloc((size_t)h->num_hidden_layers * sizeof *bytes);
    for (int i = 0; i < h->n_tensors; i++) {
        model_spec_axes(h, i, &layer);
        if (layer >= 0)
            most = max64(most, bytes[layer] += tensor_bytes(&h->tensors[i]));
    }
    free(bytes);
    return most + tape_bytes(k->tape) - tape_working_bytes(k->tape);
}

int64_t variants_bytes(const struct variants_run *r, struct err *e)
{
    struct walk k;
    int64_t bytes = plan(&k, r, e) ? -1 : walk_bytes(&k) + variant_bytes(&k);
    walk_close(&k);
    return bytes;
}
