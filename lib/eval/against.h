/* A batch's predictions beside a teacher's: another model's, or those of a stream of logits. */
#ifndef PARE_AGAINST_H
#define PARE_AGAINST_H

#include "../data/data.h"
#include "../tape/tape.h"
#include "divergence.h"

/* One of them, or neither: there is no teacher. Borrowed. logits: of all of LOGITS_FULL, of the
 * same windows (logits_check_windows). */
struct teacher {
    struct model *model;
    struct logits_in *logits;
};

struct against;
/* Batches of n_seq windows whose longest has n tokens. beside: NULL, or another student of the
 * teacher, which never runs at the same time and is closed later: its memory is used. */
struct against *against_open(struct exec *x, struct model *m, const struct teacher *t,
                             int64_t n_seq, int64_t n, struct against *beside, struct err *e);
/* How many windows of n tokens to compare at a time: no more than `most`, and no more than a few
 * hundred megabytes of logits hold, but at least one. */
int64_t against_batch_size(const struct model_spec *h, int64_t n, int64_t most);
int64_t against_bytes(const struct against *a); /* of device memory, besides models */
struct tape *against_tape(struct against *a);   /* the student's */
/* [tokens of the batch][DIVERGENCE_COLUMNS] of a batch that the student's tape has run, until the
 * next call; NULL: error */
const double *against_compare(struct against *a, const struct data_batch *b, struct err *e);
void against_close(struct against *a);

#endif
