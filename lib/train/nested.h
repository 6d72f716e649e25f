/* Training of models that are nested in the student, in one run (Nemotron Elastic, arXiv
 * 2511.16664): each step draws one of them, gathers its weights from the student's, computes its
 * gradients, and adds them to the student's.
 *
 * The step then is that of the whole student, with a gradient of 0 for every weight outside the
 * model drawn: clipping by the norm of the model drawn; AdamW, whose moments decay there too, moves
 * those weights by what is left of the first moment and by weight decay. So it is AdamW on the sum
 * of the models' losses by weight, of whose gradient each step has one term.
 *
 * Memory besides the student's: weights and gradients of the largest nested model, and one working
 * range for the activations of all. A model without parts is the student itself and copies
 * nothing. */
#ifndef PARE_TRAIN_NESTED_H
#define PARE_TRAIN_NESTED_H

#include "../tape/tape.h"

/* What --help says of --widths. */
#define NESTED_HELP \
    "\n\nShapes for --widths: each line of FILE has options of slice-model, such as " \
    "hidden-size=384 intermediate-size=1024 drop-layers=10-14, or is full, the whole model; " \
    "weight=2 draws a shape twice as often. The log names the shape of each step, and held-out " \
    "text is evaluated with every shape. STUDENT should have been written by slice-model --sort; " \
    "slice-model --in-order cuts the shapes out of the result."

struct nested;
/* spec: of the tape of a model, whose `model` is replaced by each in turn. The student must have
 * been planned; it and the list are borrowed. Records tapes, allocates nothing. */
struct nested *nested_plan(struct exec *x, const struct nested_list *list, struct model *student,
                           const struct tape_spec *spec, struct err *e);
/* bytes that nested_open takes for weights, gradients and lists of parts; for the tapes */
int64_t nested_model_bytes(const struct nested *n);
int64_t nested_tape_bytes(const struct nested *n);
/* After model_move and model_add_grads of the student. */
int nested_open(struct nested *n, struct err *e);
void nested_close(struct nested *n);

/* The model of a step, counted from 0: its number in the list. By seed and step alone. */
int64_t nested_draw(const struct nested *n, uint64_t seed, int64_t step);
/* Gathers the weights of model i, as they are now. */
void nested_enter(struct nested *n, int64_t i);
/* Adds the gradients of the model entered last to the student's, which become 0 elsewhere. */
void nested_leave(struct nested *n);

struct model *nested_model(const struct nested *n, int64_t i);
struct tape *nested_tape(const struct nested *n, int64_t i);
/* the one with the largest activations */
int64_t nested_largest(const struct nested *n);

#endif
