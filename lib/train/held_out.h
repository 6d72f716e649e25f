/* Evaluation on held-out text during a training: the loss, and beside a teacher how far the student
 * is from it. */
#ifndef PARE_TRAIN_HELD_OUT_H
#define PARE_TRAIN_HELD_OUT_H

#include "../eval/eval.h"
#include "step.h"

/* nats per prediction; KL(teacher || student) and the share of predictions whose most probable
 * token is the teacher's, NAN without a teacher */
struct held_out_figures {
    double nll, kl, top1;
};
struct held_out {
    struct trainer *t;
    int64_t n; /* models: the student, or each nested one; 0: there is no text */
    struct eval **of;
    struct held_out_figures *figures; /* of the last run */
    int was_run;
};
/* Text and trainer, which is open, are borrowed. */
int held_out_open(struct held_out *h, struct trainer *t, const struct tokens *text, struct err *e);
int64_t held_out_bytes(const struct held_out *h); /* of device memory, besides the trainer's */
/* Adds "eval_nll", "eval_kl" and "eval_top1" to a line of the log: numbers, or by the names of
 * nested models. */
int held_out_run(struct held_out *h, json_t *line, struct err *e);
/* For people: "held out 2.3456, KL 0.1234, top-1 78.9 %", of model i. */
void held_out_describe(const struct held_out *h, int64_t i, char text[80]);
void held_out_close(struct held_out *h);

#endif
