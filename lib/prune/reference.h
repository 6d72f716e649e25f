/* Proof of a slice: a naive forward pass in double precision runs the source with its dropped units
 * held at zero, which must give the slice's own logits. It shares no code with tape, kernels and
 * cut. Masks and cut follow from the same lists of kept units, and heads are merged by the same
 * code: what is proved is the cut, not the choice of units, nor the merging. */
#ifndef PARE_PRUNE_REFERENCE_H
#define PARE_PRUNE_REFERENCE_H

#include "slice.h"

/* Logits of one sequence of T tokens, [T, V]. plan NULL: of the model itself. With a plan, m is its
 * source and is masked: a dropped channel is 0 after every line, norms divide by the number of kept
 * channels, dropped layers pass their input through. -1: an op without a reference here, or an id
 * outside the vocabulary. */
int naive_logits(const struct model *m, const struct slice_plan *plan, const uint32_t *ids,
                 int64_t T, double *logits, struct err *e);

struct verdict {
    int64_t tokens;             /* compared */
    double difference, largest; /* largest |masked source - slice|, and largest |logit| */
    int64_t token, entry;       /* where the difference is */
    /* difference <= 1e-9 * (1 + largest): sums of the same numbers in another order */
    int agrees;
};
/* On one sequence of the source's ids, all of which the plan keeps; compares the logits of the
 * tokens that stay. Where the plan merges heads, those of the source are merged first. */
int slice_verify(const struct slice_plan *p, const struct model *source, const struct model *slice,
                 const uint32_t *ids, int64_t T, struct verdict *v, struct err *e);
/* On the first sequence of a token stream, up to `most` tokens of it, without those that the plan
 * cuts from the vocabulary. */
int slice_verify_stream(const struct slice_plan *p, const struct model *source,
                        const struct model *slice, struct st_in *in, int64_t most,
                        struct verdict *v, struct err *e);

#endif
