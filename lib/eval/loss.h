/* The loss of a model on text: windows of tokens, each a fresh context, summed in f64.
 *
 * A window of N tokens has N - 1 predictions: of the tokens at its positions 1..N-1 (positions
 * count from 0). */
#ifndef PARE_LOSS_H
#define PARE_LOSS_H

#include "../data/data.h"
#include "../tape/tape.h"

struct eval_options {
    /* > 0: a longer sequence is cut into pieces of that many tokens, the rest a shorter piece;
     * pieces are never joined */
    int64_t seq_length;
    /* > 0: all sequences are joined and cut anew into windows of that many tokens; an incomplete
     * last one is left out */
    int64_t context;
    /* > 0: windows start that far apart (<= context), and all but the first count only the last
     * `stride` tokens */
    int64_t stride;
    /* > 0: in every window only tokens at that position or later count */
    int64_t score_from;
    int64_t batch_size; /* windows at a time; 0: as many as make about 1024 tokens */
};
struct eval_sums {
    /* bytes: source bytes of the counted tokens, -1 unknown */
    int64_t windows, tokens, left_out, predictions, bytes;
    /* nats per counted prediction; of that mean over windows (ratio estimator), NAN for one window
     */
    double nll, standard_error;
};

/* what fits together at all */
int eval_options_check(const struct eval_options *o, struct err *e);
/* The windows as rows, *rows to be freed; s gets windows, tokens, left_out, predictions, bytes. -1:
 * nothing to predict. */
int eval_windows(const struct tokens *t, const struct eval_options *o, struct data_row **rows,
                 struct eval_sums *s, struct err *e);
/* Mean and standard error from sums of nll and counts per window. */
void eval_statistics(const double *nll, const int64_t *counts, int64_t windows, double *mean,
                     double *standard_error);

/* A model and its windows, ready to be run again and again. Model and tokens are borrowed. */
struct eval;
struct eval *eval_open(struct exec *x, struct model *m, const struct tokens *t,
                       const struct eval_options *o, struct err *e);
int64_t eval_bytes(const struct eval *v); /* of its activations */
typedef void eval_progress(void *user, int64_t done, int64_t windows);
/* progress may be NULL */
int eval_run(struct eval *v, struct eval_sums *s, eval_progress *progress, void *user,
             struct err *e);
void eval_close(struct eval *v);

#endif
