/* Merging of query heads before they are cut (Muralidharan et al. 2024, arXiv 2407.14679, section
 * 2.3): of n heads in the order of the rank, of which the first k stay, the last kept ones take up
 * what distinguishes them from the removed ones,
 *
 *   head_i <- head_i + (head_i - head_p),  p = 2k - i + 1,  for i = 2k - n + 1 .. k,
 *
 * counted from 1; it takes n - k <= k. (The paper's range begins one lower, where there is no
 * partner.) A head is its rows of q_proj with their bias; where every query head has a KV head of
 * its own, those of k_proj and v_proj too; and, as asked, its columns of o_proj: the paper does not
 * say which matrices it means. Where heads share a KV head, each group is merged by itself. */
#ifndef PARE_PRUNE_MERGE_H
#define PARE_PRUNE_MERGE_H

#include "slice.h"

/* Adds the pairs to a plan made with `rank` (NULL: units are kept from the first). outputs: o_proj
 * too. -1: more heads are removed than stay, or none in any layer. */
int slice_merge_plan(struct slice_plan *p, const struct model_spec *source, const struct rank *rank,
                     int outputs, struct err *e);
/* Does the plan merge heads of the source's tensor that becomes tensor `to` of the slice? */
int slice_merges(const struct slice_plan *p, int to);
/* Merges them, in all values of that tensor before the cut: [rows, cols] of type d, a vector as one
 * row. */
void slice_merge(const struct slice_plan *p, int to, enum dtype d, int64_t rows, int64_t cols,
                 void *values);
/* The source with its heads merged, as it is cut: other tensors are the source's own, which must
 * outlive it. Params without values stay without. */
int slice_merged_open(struct model *merged, const struct slice_plan *p, const struct model *source,
                      struct err *e);
void slice_merged_close(struct model *merged);

#endif
