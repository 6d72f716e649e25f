/* Cutting a model: from a rank and target sizes to the kept units (plan), and one pass over the
 * tensors that keeps their rows and columns. No family is known here: the axes of the canonical
 * tensors say which of their rows and columns belong to which unit. */
#ifndef PARE_SLICE_H
#define PARE_SLICE_H

#include "../model/model.h"
#include "rank.h"

/* Sizes asked for; 0: as in the source. Lists of the source's layers: "0,3,12-19" or NULL. With
 * drop_layers num_hidden_layers is 0; drop_attention and drop_mlp remove only that half of a layer.
 */
struct slice_target {
    int64_t hidden_size, intermediate_size, num_attention_heads, num_key_value_heads,
        num_hidden_layers;
    const char *drop_layers, *drop_attention, *drop_mlp;
};

struct kept {
    int64_t n, of, *index;
}; /* ascending indices of the n units kept of `of` */
struct slice_layer {
    int64_t source;                 /* the layer of the source */
    struct kept ffn, heads, groups; /* units */
    struct kept hd, kd;             /* channels of the kept heads and groups */
};
struct slice_plan {
    struct model_spec spec; /* of the slice; id and hist are the source's */
    struct kept hidden;
    struct slice_layer *layers; /* [head.num_hidden_layers], ascending source */
    /* source tensor -> tensor of head, -1: its layer leaves */
    int *dest;
};
/* rank: may be NULL or lack entries that no cut needs. Kept units stay in original order; all units
 * of the source stay where nothing is asked. Fewer query heads than KV groups hold: the same number
 * leaves every kept group. Fewer KV heads: whole groups leave, and the group size stays unless
 * num_attention_heads says otherwise; where every query head has its own KV head, either number
 * stands for both. -1: a target beyond the source, heads that do not divide, entries missing in the
 * rank, layers that are not there. */
int slice_plan_make(struct slice_plan *p, const struct model_spec *source, const struct rank *rank,
                    const char *rank_path, const struct slice_target *target, struct err *e);
void slice_plan_free(struct slice_plan *p);

/* The kept units of a tensor's axis; layer: of the slice (ignored for AXIS_E). NULL: the axis is
 * never cut. */
const struct kept *slice_kept(const struct slice_plan *p, enum axis axis, int64_t layer);

/* Reads the source's tensor `source` from `read` (all of it, in row blocks of about 1 MiB) and
 * writes what is kept of it to `write` (NULL: the tensor leaves, nothing is kept), in the dtype
 * that the plan's head gives it: the source's, or f32 for q8_0 that is cut inside its rows. The
 * callbacks return 0 or -1. */
typedef int slice_read_fn(void *user, void *buf, int64_t n);
typedef int slice_write_fn(void *user, const void *data, int64_t n);
int slice_tensor(const struct slice_plan *p, const struct tensor *source, int dest,
                 slice_read_fn *read, slice_write_fn *write, void *user);

/* Source and slice in memory, dtypes as stored (the slice's: as they are written), from one pass;
 * params of both point to the exact bytes. */
int slice_load(const struct slice_plan *p, struct model_in *in, struct model *source,
               struct model *slice, struct err *e);

#endif
