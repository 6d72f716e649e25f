/* A target shape from a budget: sizes of the axes that may move, as large as fits.
 *
 * A share r gives an axis the size floor(r n / s) s, where n is its size in the model (in each
 * layer, where these differ) and s its step: --multiple-of for hidden channels, FFN neurons and
 * tokens; a query head of every KV group; a KV head with its query heads; a layer. Nothing falls
 * below s, nor the vocabulary below what the tokenizer needs, and what is below s in the model
 * stays.
 *
 * All axes that may move first get one share, the largest that fits. That leaves room, since sizes
 * are rounded down. So the axis whose step costs least then takes what the others leave, these
 * being as they are, or any of them a step larger: of these shapes the one nearest to the budget is
 * chosen. One step of any axis more does not fit, unless sizes differ between layers. */
#ifndef PARE_BUDGET_H
#define PARE_BUDGET_H

#include "slice.h"

struct budget {
    const char *option, *value; /* that gave it; NULL: no budget */
    int64_t most;               /* parameters, or bytes of weights as slice_copy writes them */
    int in_bytes;
    double ratio; /* of the model's parameters, instead of `most`; 0: none */
    int64_t multiple_of;
    int moves[AXIS_COUNT], named; /* named: by --axes, so the model must have them */
};
/* The text of options, NULL if not given. */
struct budget_options {
    const char *parameters, *ratio, *bytes, *axes;
    int64_t multiple_of; /* 0: not given */
};
/* -1: malformed text, two budgets, an axis to move whose size `shape` gives, axes that cannot move
 * together, options of a budget without one. */
int budget_read(struct budget *b, const struct budget_options *o, const struct slice_options *shape,
                struct err *e);
/* Sets the sizes of the axes that move: in the options, where the text is the caller's from then
 * on, and in the target that was read from them. *reached: parameters or bytes of that shape. rank:
 * for the order of layers, as in slice_plan_make. -1: what slice_plan_shape refuses; a budget
 * below the smallest shape, whose size the message says; axes that the model lacks, if they are
 * named or all. */
int budget_fit(const struct budget *b, struct slice_options *shape, struct slice_target *target,
               const struct model_spec *source, const struct rank *rank, const char *rank_path,
               int64_t *reached, struct err *e);
/* The sizes that were set, in the options of slice-model, each after a blank. Free it. */
char *budget_text(const struct budget *b, const struct slice_options *shape);

#endif
