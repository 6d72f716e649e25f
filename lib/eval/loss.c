/* Evaluation: see loss.h. */
#include "loss.h"

#include <math.h>
#include <stdlib.h>

#include "../base/mem.h"
#include "../base/minmax.h"
#include "../base/turns.h"

/* Windows may count different numbers of predictions, so the mean is a ratio of sums, and its error
 * is that of a ratio estimator (Cochran, Sampling Techniques, 6.19). */
void eval_statistics(const double *nll, const int64_t *counts, int64_t windows, double *mean,
                     double *standard_error)
{
    double sum = 0, n = 0, squares = 0;
    for (int64_t i = 0; i < windows; i++) {
        sum += nll[i];
        n += (double)counts[i];
    }
    *mean = sum / n;
    for (int64_t i = 0; i < windows; i++) {
        double d = nll[i] - *mean * (double)counts[i];
        squares += d * d;
    }
    *standard_error = windows > 1 ? sqrt(squares * (double)windows / (double)(windows - 1)) / n
                                  : NAN;
}

struct eval {
    struct tape *tape; /* or, with a teacher: */
    struct against *against;
    struct divergences divergences;
    struct windows windows;
    struct data_batch batch;
    struct batches batches;
    int64_t batch_size, layers, bytes, *counts;
    double *nll, *squares; /* of each window: sums of its losses and of their squares */
    eval_progress *progress;
    void *user;
};

/* In memory of its own, or that of another. */
static int open_tape(struct eval *v, const struct eval *beside, struct err *e)
{
    int64_t working = tape_working_bytes(v->tape);
    int fits = beside && working <= tape_working_bytes(beside->tape);
    v->bytes = tape_bytes(v->tape) - (fits ? working : 0);
    return tape_open_beside(v->tape, fits ? beside->tape : NULL, e);
}

static int open_alone(struct eval *v, struct exec *x, struct model *m, const struct eval *beside,
                      struct err *e)
{
    struct tape_spec spec = {.model = m,
                             .n_seq = v->batch_size,
                             .seq_len = v->windows.longest - 1,
                             .end = TAPE_LOSS,
                             .losses = {{.kind.set = LOSS_BIT(ce)}}};
    v->tape = tape_record(x, &spec, e);
    return v->tape && !open_tape(v, beside, e) ? 0 : -1;
}

static int open_against(struct eval *v, struct exec *x, struct model *m, const struct teacher *t,
                        const struct eval *beside, struct err *e)
{
    int64_t n = v->windows.longest;
    if (t->logits && logits_check_windows(t->logits, &v->windows, e))
        return -1;
    v->batch_size = against_batch_size(&m->spec, n, v->batch_size);
    v->against = against_open(x, m, t, v->batch_size, n, beside ? beside->against : NULL, e);
    if (!v->against)
        return -1;
    v->bytes = against_bytes(v->against);
    return 0;
}

/* ---- batches */

static const struct batch *fill(void *user, int64_t i, struct err *e)
{
    struct eval *v = user;
    int64_t first = i * v->batch_size, n = min64(v->batch_size, v->windows.n - first);
    return windows_fill(&v->windows, first, n, &v->batch, e) ? NULL : &v->batch.b;
}

/* The losses of a batch that was run, every `step`th value; NULL: error. */
static const double *batch_losses(struct eval *v, int64_t *step, struct err *e)
{
    const struct batch *b = &v->batch.b;
    *step = v->against ? DIVERGENCE_COLUMNS : 1;
    if (!v->against)
        return tape_losses(v->tape, 0);
    const double *values = against_compare(v->against, &v->batch, e);
    if (!values)
        return NULL;
    divergences_add(&v->divergences, values, b->labels, b->n_seq * b->seq_len);
    return values + DIVERGENCE_NLL;
}

/* Window `window`, row i of the batch. */
static void add_window(struct eval *v, int64_t window, int64_t i, const double *losses,
                       int64_t step)
{
    int64_t n = v->batch.b.seq_len;
    double sum = 0, squares = 0;
    for (int64_t t = 0; t < n; t++) {
        double loss = losses[(i * n + t) * step];
        sum += loss;
        squares += loss * loss;
    }
    v->nll[window] = sum;
    v->squares[window] = squares;
}

static int done(void *user, int64_t i, int64_t from, int64_t to, struct err *e)
{
    struct eval *v = user;
    int64_t step;
    (void)from;
    if (to < v->layers)
        return 0;
    const double *losses = batch_losses(v, &step, e);
    for (int64_t k = 0; losses && k < v->batch.b.n_seq; k++)
        add_window(v, i * v->batch_size + k, k, losses, step);
    return losses ? 0 : -1;
}

/* Results are zeros until they are joined. */
static int left(void *user, int64_t i, int64_t from, int64_t to, struct err *e)
{
    struct eval *v = user;
    int64_t first = i * v->batch_size, end = min64(first + v->batch_size, v->windows.n);
    (void)from;
    (void)e;
    for (int64_t k = first; k < end && to == v->layers; k++) {
        v->nll[k] = v->squares[k] = 0;
        if (v->against)
            divergences_add_zeros(&v->divergences, v->counts[k]);
    }
    return 0;
}

static int join(struct eval *v, struct err *e)
{
    const struct divergences *d = &v->divergences;
    return turns_join(v->nll, v->windows.n, e) || turns_join(v->squares, v->windows.n, e) ||
           turns_join((double *)d->of, d->n * DIVERGENCE_COLUMNS, e);
}

static void progress(void *user, int64_t n, int64_t of)
{
    const struct eval *v = user;
    int64_t windows = min64(n * v->batch_size, v->windows.n);
    if (!v->progress)
        return;
    if (v->batches.bytes)
        v->progress(v->user, n, of);
    else
        v->progress(v->user, windows, v->windows.n);
}

/* ---- opening and running */

struct eval *eval_open(struct exec *x, struct model *m, const struct tokens *t,
                       const struct eval_options *o, struct err *e)
{
    struct eval *v = mem_alloc(sizeof *v);
    if (windows_open(&v->windows, t, &o->windows, e)) {
        eval_close(v);
        return NULL;
    }
    int64_t n = v->windows.longest, windows = v->windows.n;
    int has_teacher = o->teacher.model || o->teacher.logits;
    v->layers = m->spec.num_hidden_layers;
    v->batch_size = min64(o->batch_size ? o->batch_size : max64(1, 1024 / n), windows);
    v->counts = mem_alloc((size_t)windows * sizeof *v->counts);
    v->nll = mem_alloc((size_t)windows * sizeof *v->nll);
    v->squares = mem_alloc((size_t)windows * sizeof *v->squares);
    for (int64_t i = 0; i < windows; i++)
        v->counts[i] = windows_row(&v->windows, i).predictions;
    if (has_teacher ? open_against(v, x, m, &o->teacher, o->beside, e)
                    : open_alone(v, x, m, o->beside, e)) {
        eval_close(v);
        return NULL;
    }
    data_batch_open(&v->batch, v->batch_size, n);
    v->batches = (struct batches){.tape = v->against ? against_tape(v->against) : v->tape,
                                  .n = (windows + v->batch_size - 1) / v->batch_size,
                                  .fill = fill,
                                  .done = done,
                                  .left = left,
                                  .progress = progress,
                                  .user = v};
    if (!batches_plan(&v->batches, e))
        return v;
    eval_close(v);
    return NULL;
}

const struct windows *eval_windows(const struct eval *v) { return &v->windows; }
int64_t eval_bytes(const struct eval *v) { return v->bytes; }
struct batches *eval_batches(struct eval *v) { return &v->batches; }

int eval_run(struct eval *v, struct eval_sums *s, eval_progress *show, void *user, struct err *e)
{
    double squares = 0, predictions = (double)v->windows.predictions;
    v->divergences.n = 0;
    v->progress = show;
    v->user = user;
    if (batches_run(&v->batches, e) || join(v, e))
        return -1;
    for (int64_t i = 0; i < v->windows.n; i++)
        squares += v->squares[i];
    eval_statistics(v->nll, v->counts, v->windows.n, &s->nll, &s->standard_error);
    s->independent_error = sqrt((squares / predictions - s->nll * s->nll) / (predictions - 1));
    return 0;
}

double eval_window_nll(const struct eval *v, int64_t i) { return v->nll[i]; }

const struct divergences *eval_divergences(const struct eval *v)
{
    return v->against ? &v->divergences : NULL;
}

void eval_close(struct eval *v)
{
    if (!v)
        return;
    batches_close(&v->batches);
    tape_close(v->tape);
    against_close(v->against);
    divergences_free(&v->divergences);
    data_batch_close(&v->batch);
    windows_close(&v->windows);
    free(v->counts);
    free(v->nll);
    free(v->squares);
    free(v);
}
