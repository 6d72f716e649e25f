/* Proof of a slice: a naive forward pass in double precision runs the source with its dropped units
 * held at zero, which must give the slice's own logits. It shares no code with tape, kernels and
 * cut. Masks and cut follow from the same lists of kept units, and heads are merged by the same
 * code: what is proved is the cut, not the choice of units, nor the merging. */
#ifndef PARE_PRUNE_REFERENCE_H
#define PARE_PRUNE_REFERENCE_H

#include "../base/spill.h"
#include "slice.h"

/* Logits of one sequence of T tokens, [T, V]. plan NULL: of the model itself. With a plan, m is its
 * source and is masked: a dropped channel is 0 after every line, norms divide by the number of kept
 * channels, dropped layers pass their input through. -1: an op without a reference here, or an id
 * outside the vocabulary. */
int naive_logits(const struct model *m, const struct slice_plan *plan, const uint32_t *ids,
                 int64_t T, double *logits, struct err *e);
/* The same section by section (lib/model/sections.h), each in turn: m has the values of that one,
 * and of tied embeddings for the last, which writes the logits. naive_close also after an error */
struct naive;
struct naive *naive_open(const struct model *m, const struct slice_plan *plan, const uint32_t *ids,
                         int64_t T, struct err *e);
int naive_section(struct naive *w, int64_t section, double *logits);
void naive_close(struct naive *w);

struct verdict {
    int64_t tokens;             /* compared */
    double difference, largest; /* largest |masked source - slice|, and largest |logit| */
    int64_t token, entry;       /* where the difference is */
    /* difference <= 1e-9 * (1 + largest): sums of the same numbers in another order */
    int agrees;
    int rounds; /* what is written is the slice, rounded */
};
/* The verdict as a sentence. */
void slice_verdict_text(const struct verdict *v, char text[200]);
/* On one sequence of the source's ids, all of which the plan keeps; compares the logits of the
 * tokens that stay. Where the plan merges heads, those of the source are merged first. */
int slice_verify(const struct slice_plan *p, const struct model *source, const struct model *slice,
                 const uint32_t *ids, int64_t T, struct verdict *v, struct err *e);
/* What to compare them on: of the first sequence of a token stream, up to `most` tokens of it,
 * those that stay in the vocabulary; *n: how many. Free it; NULL: error */
uint32_t *slice_verify_text(const struct slice_plan *p, const struct model_spec *source,
                            struct st_in *in, int64_t most, int64_t *n, struct err *e);
/* The same of a model that is read section by section here, source and slice of one section in
 * memory at a time. The slice's values, rounded as the plan says, go to a file, `values`, all zeros
 * before, which the caller closes. */
int slice_verify_sections(const struct slice_plan *p, struct model_in *in, const uint32_t *ids,
                          int64_t T, struct spill *values, struct verdict *v, struct err *e);
/* The weights of the largest section, and logits. */
int64_t slice_sections_bytes(const struct slice_plan *p, struct model_in *in, int64_t T);
/* Writes all tensors from there, and ends out. */
int slice_write_values(struct spill *values, struct model_out *out, struct err *e);

#endif
