/* Evaluation: see loss.h. */
#include "loss.h"

#include <math.h>
#include <stdlib.h>

#include "../base/mem.h"
#include "../base/minmax.h"

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
    struct tape *tape;
    struct windows windows;
    struct data_batch batch;
    int64_t batch_size, bytes, *counts;
    double *nll;
};

/* In memory of its own, or that of another. */
static int open_tape(struct eval *v, const struct eval *beside, struct err *e)
{
    int64_t working = tape_working_bytes(v->tape);
    int fits = beside && working <= tape_working_bytes(beside->tape);
    v->bytes = tape_bytes(v->tape) - (fits ? working : 0);
    return tape_open_beside(v->tape, fits ? beside->tape : NULL, e);
}

struct eval *eval_open(struct exec *x, struct model *m, const struct tokens *t,
                       const struct eval_options *o, struct err *e)
{
    struct eval *v = mem_alloc(sizeof *v);
    if (windows_open(&v->windows, t, &o->windows, e)) {
        eval_close(v);
        return NULL;
    }
    int64_t n = v->windows.longest, windows = v->windows.n;
    v->batch_size = min64(o->batch_size ? o->batch_size : max64(1, 1024 / n), windows);
    v->counts = mem_alloc((size_t)windows * sizeof *v->counts);
    v->nll = mem_alloc((size_t)windows * sizeof *v->nll);
    data_batch_open(&v->batch, v->batch_size, n);
    struct tape_spec spec = {.model = m,
                             .n_seq = v->batch_size,
                             .seq_len = n - 1,
                             .end = TAPE_LOSS,
                             .losses = {{.kind.set = LOSS_BIT(ce)}}};
    v->tape = tape_record(x, &spec, e);
    if (!v->tape || open_tape(v, o->beside, e)) {
        eval_close(v);
        return NULL;
    }
    return v;
}

const struct windows *eval_windows(const struct eval *v) { return &v->windows; }
int64_t eval_bytes(const struct eval *v) { return v->bytes; }

int eval_run(struct eval *v, struct eval_sums *s, eval_progress *progress, void *user,
             struct err *e)
{
    const struct batch *b = &v->batch.b;
    int64_t windows = v->windows.n;
    for (int64_t done = 0; done < windows; done += b->n_seq) {
        int64_t n = min64(v->batch_size, windows - done);
        if (windows_fill(&v->windows, done, n, &v->batch, e) || tape_forward(v->tape, b, e))
            return -1;
        const double *losses = tape_losses(v->tape, 0);
        for (int64_t i = 0; i < b->n_seq; i++) {
            v->counts[done + i] = v->batch.rows[i].predictions;
            v->nll[done + i] = 0;
            for (int64_t t = 0; t < b->seq_len; t++)
                v->nll[done + i] += losses[i * b->seq_len + t];
        }
        if (progress)
            progress(user, done + b->n_seq, windows);
    }
    eval_statistics(v->nll, v->counts, windows, &s->nll, &s->standard_error);
    return 0;
}

void eval_close(struct eval *v)
{
    if (!v)
        return;
    if (v->tape)
        tape_close(v->tape);
    data_batch_close(&v->batch);
    windows_close(&v->windows);
    free(v->counts);
    free(v->nll);
    free(v);
}
