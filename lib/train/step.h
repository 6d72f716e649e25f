/* Training and distillation: one optimiser step after the other (AdamW, clipping by the
 * global norm; schedule.h has the learning rate).
 *
 * Loss of a step = sum over all counted predictions of all its micro-batches of the weighted sum of
 * its losses (kernels/losses.def), divided by their number; with states (states.h), plus their
 * weighted mean over all tokens. */
#ifndef PARE_STEP_H
#define PARE_STEP_H

#include <signal.h>

#include "../data/data.h"
#include "../tape/tape.h"
#include "nested.h"
#include "options.h"
#include "share.h"

/* sums of a step: its losses and states, in the order of tape_add_losses; squares of the gradient
 */
enum { SUM_SQUARES = LOSS_COUNT + TAPE_STATES, TRAIN_SUMS };
struct trainer {
    struct train_options o;
    struct exec *x;
    struct model *student, *teacher;
    struct model *trained;     /* whose values the steps change: the student, or its adapters' */
    struct data_sources *data; /* its windows: whole sequences, long ones in pieces */
    struct nested *nested;     /* NULL: the student is trained as a whole */
    struct tape *tape;         /* of the student, or of the nested model drawn for this step */
    /* bytes of the student and of both models, if they must be moved to the device; of gradients
     * and moments */
    int64_t student_bytes, moved_bytes, state_bytes;
    struct train_rows own;
    struct shards shards;
    struct arena moments;
    float *m, *v;     /* f32 [shards.owned], of one shard after the other */
    float *step_slot; /* step values that adamw reads */
    int64_t *edges;   /* those of the shards, in device memory */
    double *sums;     /* TRAIN_SUMS: sums of a step, in device memory */
    /* of balanced states: sums of a micro-batch; factors of these whose ratio is alpha, [2] */
    double *micro;
    float *factors;
    void *norm_scratch;
    struct data_batch batch;
    struct data_row *rows;     /* of one optimiser step, this process's */
    int64_t step, predictions; /* steps done; predictions trained on so far */
};
/* The student must be loaded as MODEL_TRAIN, or have adapters and be loaded as MODEL_FROZEN, the
 * teacher (or NULL) in any way; both and the data, whose windows are opened, are borrowed.
 * Allocates gradients, moments and activations; their pages are first touched by the steps. */
int train_open(struct trainer *t, struct exec *x, const struct train_options *o,
               struct model *student, struct model *teacher, struct data_sources *data,
               struct err *e);
int64_t train_activation_bytes(const struct trainer *t);
/* all device memory that train_open takes, including that of models that had to be moved there */
int64_t train_bytes(const struct trainer *t);
/* Refuses a step that is too large for the device, and says which options would make it fit.
 * train_open calls it once all sizes are known, before anything is moved or allocated. */
int train_check_memory(const struct trainer *t, const struct tape_spec *spec, struct err *e);
void train_close(struct trainer *t);

struct train_record {
    /* steps done, this one included; predictions of this step; tokens that have a state */
    int64_t step, predictions, tokens;
    /* means per counted prediction; the norm before clipping */
    double loss, losses[LOSS_COUNT], grad_norm, learning_rate;
    /* the nested model that was trained, and its shape; 0, NULL: the student */
    int64_t model;
    const char *shape;
    int stopped; /* the signal that some process has got, 0: none */
    /* weighted sum of the states, and what it counts in the loss; each one's mean per token */
    double states, alpha, state[TAPE_STATES];
};
/* One optimiser step: 1 done; 0 `*stop` became true between micro-batches, nothing has changed
 * (several processes finish the step, and then all know of it); -1 error, for instance a loss or a
 * gradient that is not finite: weights and moments are those of the step before. */
int train_step(struct trainer *t, const volatile sig_atomic_t *stop, struct train_record *r,
               struct err *e);

/* What step.c leaves to balance.c: before the first micro-batch; between the forward and the
 * backward pass of each, adding its losses to the sums of the step; after the last, from those
 * sums; the entries of the log. */
void train_states_begin(struct trainer *t, const struct train_record *r);
int train_states_losses(struct trainer *t, const struct batch *b, struct err *e);
void train_states_measure(const struct trainer *t, const double sums[TRAIN_SUMS],
                          struct train_record *r);
void train_states_log(const struct trainer *t, const struct train_record *r, json_t *j);

/* Refuses weights and moments that are not finite: they are neither saved nor written. */
int train_check_finite(const struct trainer *t, struct err *e);

/* A line of the log. New reference. */
json_t *train_record_json(const struct trainer *t, const struct train_record *r, double seconds);

/* Puts the step values that AdamW reads into slot[4] in device memory; `step` counts from 1. Then
 * one update of range->n values. For the trainer and its test. */
void train_step_put(struct exec *x, const struct train_options *o, float *slot,
                    double learning_rate, double clip, int64_t step);
void train_adamw(struct exec *x, const struct train_options *o, const struct adamw_params *range);

#endif
