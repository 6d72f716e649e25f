/* The loss of a model on text: windows of tokens (lib/data/windows.h), summed in f64; and beside a
 * teacher, how far its predictions are from the teacher's. */
#ifndef PARE_LOSS_H
#define PARE_LOSS_H

#include "../data/data.h"
#include "../tape/tape.h"
#include "against.h"

struct eval_options {
    struct window_options windows;
    int64_t batch_size; /* windows per batch; 0: as many as make about 1024 tokens */
    /* another evaluation, which never runs at the same time and is closed later, whose memory for
     * activations is used if it suffices; or NULL */
    const struct eval *beside;
    /* fewer windows at a time, if need be; a model is in memory */
    struct teacher teacher;
};
/* nats per counted prediction; standard error of that mean over windows (ratio estimator), NAN for
 * one window, and as if all predictions were independent */
struct eval_sums {
    double nll, standard_error, independent_error;
};

/* Mean and standard error from sums of nll and counts per window. */
void eval_statistics(const double *nll, const int64_t *counts, int64_t windows, double *mean,
                     double *standard_error);

/* A model and its windows, ready for repeated runs, or for one if the model comes section by
 * section. Model and tokens are borrowed. */
struct eval;
struct eval *eval_open(struct exec *x, struct model *m, const struct tokens *t,
                       const struct eval_options *o, struct err *e);
const struct windows *eval_windows(const struct eval *v);
int64_t eval_bytes(const struct eval *v); /* of its activations, unless they lie in another's */
/* What it runs, for the memory of hidden states (lib/tape/batches.h); borrowed. */
struct batches *eval_batches(struct eval *v);
/* done: windows, or, of a model that comes section by section, sections */
typedef void eval_progress(void *user, int64_t done, int64_t of);
/* progress may be NULL */
int eval_run(struct eval *v, struct eval_sums *s, eval_progress *progress, void *user,
             struct err *e);
/* After a run: the nats of window i, summed up; with a teacher, all predictions, in the order of
 * the windows. */
double eval_window_nll(const struct eval *v, int64_t i);
const struct divergences *eval_divergences(const struct eval *v);
void eval_close(struct eval *v);

#endif
