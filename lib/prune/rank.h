/* What can be cut from a model, and its two kinds of stream: scores (kind "scores") and orders
 * (kind "rank").
 *
 * Entries: one for each axis with a place in axes.def, first those of the model, then layer by
 * layer those of the layers: hidden_size [E], num_hidden_layers [L], vocab_size [V] (of
 * score-vocab), then for each layer l intermediate_size.l [F], num_attention_heads.l [K, H/K],
 * num_key_value_heads.l [K], num_experts.l [X], moe_intermediate_size.l [X, N],
 * shared_expert_intermediate_size.l [S]. An axis nested in another (H in K) has a row for each
 * outer unit. Where the layer has no units of an axis there is no record. A stream may lack
 * entries; a score is f64, higher = keep longer; a rank is i32, best first: a permutation of
 * 0..n-1; row k of the query heads holds the model's head numbers k*H/K .. (k+1)*H/K-1. */
#ifndef PARE_RANK_H
#define PARE_RANK_H

#include "../../formats/stream.h"
#include "../model/model.h"

struct axes {
    char model[ST_DIGEST];  /* id of the model that the units belong to */
    char digest[ST_DIGEST]; /* of its values; "": they were not read */
    /* of the model's axes that can be cut; 0 for the vocabulary where it is not scored */
    int64_t size[LAYER_AXES];
    struct layer *layers; /* their sizes; other fields are 0 */
};

/* without the vocabulary; axes_add_vocab adds it */
void axes_from_model(struct axes *a, const struct model_spec *h);
void axes_add_vocab(struct axes *a, const struct model_spec *h);
void axes_copy(struct axes *dst, const struct axes *src);
void axes_free(struct axes *a);
/* Keys "model", "model_digest" (if known), "sizes" of a header. Sizes beyond the limits of
 * axes.def, or that do not divide: -1 with `path` named. */
void axes_to_json(const struct axes *a, json_t *head);
int axes_from_json(struct axes *a, const json_t *head, const char *path, struct err *e);
/* 0 if both have the same sizes (and, with `model`, the same model); else -1, naming both paths and
 * what differs. Digests are compared where both are known. */
int axes_same(const struct axes *a, const struct axes *b, int model, const char *path_a,
              const char *path_b, struct err *e);
/* units of an axis, in all */
int64_t axes_size(const struct axes *a, enum axis axis, int64_t layer);
/* Entries are numbered in their order; a layer's axes ask for the layer. Those of an axis that is
 * not there, such as a vocabulary that is not scored, have a number too. */
int64_t axes_count(const struct axes *a);
int axes_has(const struct axes *a, int64_t entry);
int64_t axes_entry(enum axis axis, int64_t layer);
enum axis axes_of_entry(int64_t entry, int64_t *layer);
/* The i-th axis that can be cut, in the order of entries; AXIS_NONE beyond the last. */
enum axis axes_listed(int64_t i);
/* name and shape of an entry */
void axes_tensor(const struct axes *a, int64_t entry, enum dtype d, struct tensor *t);

/* Reads the rest of a record into new memory (free it) that grows with the bytes that arrive, so
 * that a shape alone allocates nothing. NULL on error. */
void *record_read(struct st_in *in, const struct tensor *t, struct err *e);

/* values[entry]: double *, NULL where absent */
struct scores {
    struct axes axes;
    void **values;
};
/* order[entry]: int32_t *, NULL where absent */
struct rank {
    struct axes axes;
    void **order;
};

void scores_open(struct scores *s, const struct axes *a); /* copies a; no values yet */
/* the entry's values, zeros at first; of a layer's axis: those of that layer */
double *scores_entry(struct scores *s, int64_t entry);
double *scores_axis(struct scores *s, enum axis axis, int64_t layer);
/* Reads the rest of a stream of kind "scores" (its header checked by the caller's tool_in). Unknown
 * records are skipped; a wrong shape, a wrong dtype and NaN are refused. */
int scores_read(struct scores *s, struct st_in *in, struct err *e);
void scores_write(struct st_out *out, const struct scores *s);
/* Entries of `later` replace those of `s`. -1: another model or other sizes. */
int scores_replace(struct scores *s, const struct scores *later, const char *path,
                   const char *later_path, struct err *e);
void scores_free(struct scores *s);

/* descending; among equal scores, the lower index first */
void rank_from_scores(struct rank *r, const struct scores *s);
/* every entry a random permutation */
void rank_random(struct rank *r, const struct axes *a, uint64_t seed);
/* Baseline: L2 norm of all weights that belong to a unit (rows and columns of every canonical
 * tensor with its axis; a layer: all its tensors). One pass. */
int scores_magnitude(struct scores *s, struct model_in *in, struct err *e);
/* refuses orders that are not permutations */
int rank_read(struct rank *r, struct st_in *in, struct err *e);
void rank_write(struct st_out *out, const struct rank *r);
void rank_free(struct rank *r);

#endif
