/* Cutting a model: from a rank and target sizes to the kept units (plan), and one pass over the
 * tensors that keeps their rows and columns. Independent of families: the axes of the canonical
 * tensors say which rows and columns belong to which unit. */
#ifndef PARE_SLICE_H
#define PARE_SLICE_H

#include <stdio.h>

#include "../base/ranges.h"
#include "../model/model.h"
#include "rank.h"
#include "vocab.h"

/* The requested shape. Layers are those of the source, counted from 0. */
struct slice_target {
    /* A value for all layers, or for some; the others stay as they are. */
    struct ranges size[AXIS_COUNT];
    struct ranges drop_layers;              /* or none; then size[AXIS_L] is empty */
    struct ranges drop_attention, drop_mlp; /* layers that lose only that half */
    /* sort: kept units are written in the order of the rank, best first, instead of the model's.
     * in_order: units are kept from the first, as in a sorted model; needs no rank. Layers keep
     * their places in both: what they compute depends on those before. So do tokens: their places
     * are their ids. */
    int sort, in_order;
    struct dtype_choice dtype; /* of what is written */
    const struct vocab *vocab; /* opened where size[AXIS_V] is given */
};
/* The text of options, NULL if not given: a number for an axis of the model, a number or
 * LAYERS:SIZE,... for an axis of the layers, lists of layers to drop. */
struct slice_options {
    const char *size[AXIS_COUNT], *drop_layers, *drop_attention, *drop_mlp, *dtype;
    int sort, in_order;
    const struct vocab *vocab;
};
/* -1: malformed text. */
int slice_target_read(struct slice_target *t, const struct slice_options *o, struct err *e);
/* -1: a list names a layer beyond the last. */
int slice_target_check(const struct slice_target *t, int64_t layers, struct err *e);
void slice_target_free(struct slice_target *t);

/* The n of `of` units that stay: index, ascending unless they are sorted; each is `width` channels
 * of a tensor's dimension. index NULL: the axis is never cut. */
struct kept {
    int64_t n, of, width, *index;
};
/* A query head that takes up a removed one (merge.h). */
struct merged_heads {
    int64_t kept, removed;
};
struct slice_layer {
    struct kept kept[AXIS_COUNT]; /* of the axes of a layer */
    struct merged_heads *merged;
    int64_t n_merged;
    int merges_kv; /* KV heads are merged like the query heads, each of which has one */
};
struct slice_plan {
    struct model_spec spec; /* of the slice; id and hist are the source's */
    /* of the model's axes; kept[AXIS_L].index[l] is the source of the slice's layer l */
    struct kept kept[LAYER_AXES];
    struct slice_layer *layers; /* [spec.num_hidden_layers] */
    /* source tensor -> tensor of spec; -1: its layer is dropped */
    int *dest;
    struct dtype_choice dtype; /* the target's: the spec's dtypes follow from it */
    int merges_outputs;        /* merged heads include their columns of o_proj */
};
/* rank: may be NULL or lack entries that no cut needs. Kept units stay in their original order
 * unless the target sorts them; axes without a request keep all units. With fewer query heads,
 * every kept group loses the same number. With fewer KV heads, whole groups are dropped, and the
 * group size stays unless the number of query heads is given; where every query head has its own KV
 * head, either number sets both. The same holds for every nested axis. -1: a target larger than the
 * source, heads that do not divide, entries missing from the rank, layers that do not exist. */
int slice_plan_make(struct slice_plan *p, const struct model_spec *source, const struct rank *rank,
                    const char *rank_path, const struct slice_target *target, struct err *e);
/* The shape alone: the spec, kept[AXIS_L] and dest, without the units of the other axes, for which
 * it needs no rank. Refuses what is wrong with the sizes, as above. */
int slice_plan_shape(struct slice_plan *p, const struct model_spec *source, const struct rank *rank,
                     const char *rank_path, const struct slice_target *target, struct err *e);
void slice_plan_free(struct slice_plan *p);

/* Can a cut keep n units that are nested in those of another axis: equally many in each of the
 * `outer` that stay, of the `each` that it had? */
static inline int units_nest(int64_t n, int64_t outer, int64_t each)
{
    return n % outer == 0 && n / outer <= each;
}

/* The shape before and after, parameters, bytes and what is dropped, as a table; last, the options
 * that ask for it. Lists of layers are in the syntax of ranges.h, with the numbers of the source.
 */
void slice_plan_print(FILE *f, const struct slice_plan *p, const struct model_spec *source);

/* The plan's shape in the options of slice-model, each after a blank: sizes of the axes that are
 * cut, and the layers and halves that are dropped by number. "": nothing is cut. Free it. */
char *slice_plan_options(const struct slice_plan *p, const struct model_spec *source);

/* A sentence about matrices that were to be q8_0 and whose rows are not whole blocks of 32 values,
 * or about what GGUF can no longer quantise: matrices whose rows were whole blocks of 32 values, or
 * of 256, and are not any more; NULL: neither. Free it. */
char *slice_plan_blocks(const struct slice_plan *p, const struct model_spec *source);

/* Reads tensor i of the source from `in`, all of it, in row blocks of about 1 MiB (at once if its
 * rows are sorted or its heads merged), and unless its layer is dropped writes what is kept to
 * `out`, rounded to the dtype that the plan's spec gives it. q8_0 that is cut or sorted inside its
 * rows, or merged, is widened before and rounded again. */
int slice_copy(const struct slice_plan *p, struct model_in *in, const struct tensor *source, int i,
               struct model_out *out);

/* The same, into memory: all bytes to `whole`, what is kept and rounded to `kept` (NULL where the
 * layer is dropped). */
int slice_take(const struct slice_plan *p, struct model_in *in, const struct tensor *source, int i,
               void *whole, void *kept);

/* The dtype in which what becomes tensor `to` of the slice is cut and merged, before it is rounded:
 * the one it is stored in, or f32 where its q8_0 blocks are not kept as they are. */
enum dtype slice_dtype(const struct slice_plan *p, const struct tensor *source, int to);

/* Does it differ anywhere from the one that is written? */
int slice_rounds(const struct slice_plan *p, const struct model_spec *source);

/* Source and slice in memory, from one pass, in the dtypes stored and of slice_dtype: nothing is
 * rounded yet. */
int slice_load(const struct slice_plan *p, struct model_in *in, struct model *source,
               struct model *slice, struct err *e);
/* The same in steps: both without values; then tensor by tensor, to where the params are. */
void slice_load_plan(const struct slice_plan *p, const struct model_spec *from,
                     struct model *source, struct model *slice);
int slice_load_tensor(const struct slice_plan *p, struct model_in *in, int i,
                      const struct model *source, const struct model *slice);
/* Rounds a slice that slice_load made to the dtypes of the plan's spec. */
int slice_round(const struct slice_plan *p, struct model *slice, struct err *e);
/* The slice of a frozen model that is on its device. Tensors that stay whole are the model's own,
 * which must outlive the slice; the others are in new device memory. model_free(slice) */
int slice_lend(const struct slice_plan *p, const struct model *m, struct exec *x,
               struct model *slice, struct err *e);

#endif
