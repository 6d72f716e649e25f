/* The shapes of nested models, from text: a line for each, in the words of slice-model's options,
 * each at most once:
 *
 *   # the model itself, and two smaller ones
 *   full
 *   hidden-size=384 intermediate-size=1024 weight=2
 *   hidden-size=256 num-key-value-heads=2 drop-layers=10-14
 *
 * Each is the model that slice-model --in-order cuts out with these options. weight=X: how often it
 * is drawn, relative to the others; 1 if not given. Empty lines and what follows # are skipped. */
#ifndef PARE_PRUNE_NESTED_H
#define PARE_PRUNE_NESTED_H

#include "../model/model.h"
#include "slice.h"

/* Shapes within `source`. Names are the lines without weights. -1: one sentence that names `path`
 * and the line: unknown words, what slice_plan_make refuses, a shape twice, no shape at all. */
int nested_parse(struct nested_list *l, const char *text, const char *path,
                 const struct model_spec *source, struct err *e);

/* What a plan keeps, of the values of source and slice as MODEL_TRAIN ranges: none where it keeps
 * all in order. *n: their number. free() it. */
struct gather_part *slice_parts(const struct slice_plan *p, const struct model_spec *source,
                                int64_t *n);
/* The same of tensor i of the source, which the slice has, as values of that tensor alone. */
struct gather_part *slice_tensor_parts(const struct slice_plan *p, const struct model_spec *source,
                                       int i, int64_t *n);

#endif
