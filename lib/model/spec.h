/* Everything about a model but its weights: sizes and values of every layer, rope tables, tensors,
 * files, ids. Read from a config.json (spec_config.c) or from the header of a model stream
 * (spec_json.c). */
#ifndef PARE_SPEC_H
#define PARE_SPEC_H

#include <jansson.h>

#include "../../formats/stream.h"
#include "family.h"

/* Per-layer sizes and values: rules by layer index are resolved when a model is read, so a cut
 * never changes what they implied. */
struct layer {
    /* enum block_kind: the kinds it consists of, at least one. Sizes of a missing kind keep their
     * old values and mean nothing. An MLP that is a mixture of experts has num_experts > 0. */
    unsigned kinds;
#define LAYER_AXIS(letter, dimension, name, ...) int64_t name;
#include "axes.def"
    int64_t sliding_window; /* 0: none */
    int64_t rope;           /* index into the spec's ropes, -1: no rope in this layer */
    double attention_scale;
};

struct rope_table {
    int64_t dims; /* channels of a head that rotate */
    int interleaved;
    double factor;    /* cos and sin are multiplied by it */
    double *inv_freq; /* [dims/2], scaling applied */
    /* > 0: sequences longer than this use long_inv_freq at every position (longrope) */
    int64_t long_after;
    /* > 0: longer sequences are refused, since their frequencies would depend on their length
     * (dynamic) */
    int64_t most;
    double *long_inv_freq, long_factor;
};

struct model_spec {
    const struct family *family;
    /* config.json as read, rewritten by cuts; spelling kept */
    json_t *config;
    char id[ST_DIGEST];           /* identifies this model (source.h: model_root_id) */
    char digest[ST_DIGEST];       /* of all its values (source.h: model_digest); "": not known */
    char tokenizer_id[ST_DIGEST]; /* digest of tokenizer.json, "" without one */
    json_t *hist;                 /* the steps that made it; empty for a root */
#define MODEL_AXIS(letter, dimension, name, ...) int64_t name;
#include "axes.def"
    int64_t max_position_embeddings;
    double norm_eps;
    /* 1, 1, 0, 1, 0 where the family has none */
    double embed_scale, logit_scale, logit_cap, residual_scale, attention_cap;
    enum act activation;
    int64_t experts_per_token; /* 0: the family has no experts */
    double dt_min, dt_max;     /* limits of the time steps of Mamba layers */
    int tie_word_embeddings, learned_positions;
    struct layer *layers; /* [num_hidden_layers] */
    struct rope_table *ropes;
    int n_ropes;
    /* canonical, in stream order; a tied head is absent */
    struct tensor *tensors;
    int n_tensors;
    /* tokenizer.json, tokenizer_config.json, generation_config.json, chat_template..., README.md */
    struct {
        char *name;
        int64_t bytes;
    } * files;
    int n_files;
};

/* ---- sizes by axis (axes.c); axes of the model ignore the layer */
int64_t model_spec_size(const struct model_spec *h, enum axis axis, int64_t layer);
void model_spec_set_size(struct model_spec *h, enum axis axis, int64_t layer, int64_t n);
int64_t layer_size(const struct layer *y, enum axis axis);
void layer_set_size(struct layer *y, enum axis axis, int64_t n);
/* its units in all, whether the size counts these or those of one outer unit */
int64_t layer_units(const struct layer *y, enum axis axis);
/* channels of a unit */
int64_t layer_width(const struct layer *y, enum axis axis);
/* Has the layer units of the axis? Not if it lacks the block whose axis it is, or has that block
 * without it. Always true of axes of the model. */
int model_spec_has_units(const struct model_spec *h, enum axis axis, int64_t layer);
int model_spec_uses(const struct model_spec *h, enum axis axis); /* has any layer? */
/* entries of a tensor's dimension: units of the axis times their width */
int64_t model_spec_dimension(const struct model_spec *h, enum axis axis, int64_t layer);
/* The sizes of a per-layer axis as text for options and messages (ranges_text); number[l]: the
 * number to print for layer l, NULL: l. Free it. */
char *model_spec_size_text(const struct model_spec *h, enum axis axis, const int64_t *number);
/* {name: size} of every axis of a layer; new reference */
json_t *layer_sizes_to_json(const struct layer *y);
/* Checks that units divide evenly among those of the axis they are nested in, and that all channels
 * together are within the row's `most`. -1: a sentence about layer l that begins with `where`. */
int layer_check_sizes(const struct layer *y, int64_t l, const char *where, struct err *e);

/* ---- a whole spec (spec_config.c, spec_json.c, spec.c) */
/* From config.json alone; sets everything but tensors, files and ids. Values that change the
 * function in ways not known here are refused by name. */
int model_spec_from_config(struct model_spec *h, json_t *config, struct err *e);
/* The keys of a config.json that the family's class in transformers does not read, "a, b,
 * rope_scaling.c": annotations, or what other programs read. NULL: none. Free it. */
char *config_unread(const struct family *f, const json_t *config);
/* sizes checked against each other and the tensors */
int model_spec_from_json(struct model_spec *h, const json_t *stream_head, struct err *e);
/* a stream header: kind "model" and the rest; new reference */
json_t *model_spec_to_json(const struct model_spec *h);
void model_spec_copy(struct model_spec *dst, const struct model_spec *src);
void model_spec_free(struct model_spec *h);
/* `from`'s files and tokenizer_id instead of its own */
void model_spec_take_files(struct model_spec *h, const struct model_spec *from);
/* Visits the canonical tensors that family and sizes imply, in stream order: the rows of the
 * family's list for the tensors before the layers (layer -1), for those of layers 0, 1, ..., and
 * for those after them. Needs no list of tensors. Stops at the first that does not return 0;
 * -1 then. */
typedef int model_visit(void *user, const struct model_spec *h, const struct family_tensor *t,
                        int64_t layer);
int model_spec_visit(const struct model_spec *h, model_visit *visit, void *user);
/* Lists the canonical tensors that family and sizes imply, in stream order, each of type `dtype`.
 * Sets tensors, n_tensors. */
void model_spec_list_tensors(struct model_spec *h, enum dtype dtype);
/* checks names and shapes against the sizes */
int model_spec_check_tensors(const struct model_spec *h, struct err *e);
/* Writes the current sizes back into h->config under the keys the family uses (head_dim explicit
 * where the class honours it), and sets what the class would derive from them: embed_scale. */
void model_spec_update_config(struct model_spec *h);
/* 0 if h->config alone, read again, gives this same spec; else -1 and a sentence: sizes that the
 * family's config.json cannot express (fewer heads of gpt2 at the same width, layers of different
 * widths). For writing a directory. */
int model_spec_check_config(const struct model_spec *h, struct err *e);
/* The name of the first value that changes the function and differs between two models, by more
 * than `off` relative to a's where it is a real number; NULL: none. *layer: the layer it is of, or
 * -1. */
const char *model_spec_difference(const struct model_spec *a, const struct model_spec *b,
                                  double off, int64_t *layer);
/* A named choice of the family for this model ("attention_bias", "tied", "!tied"), as
 * family_tensor.when means it. NULL is true. */
int model_spec_flag(const struct model_spec *h, const char *when);
/* The activation of an act or glu line: that of the MLP, or the gate's of a Mamba layer, SiLU. */
enum act model_spec_activation(const struct model_spec *h, const struct family_line *line);
/* How many channels a norm with so many weights norms together; its weights repeat for the others,
 * unless there is one for each channel. layer -1: outside the blocks. */
int64_t model_spec_norm_width(const struct model_spec *h, const char *stem, int64_t weights,
                              int64_t layer);
/* Does the layer run this line of the family's block, or (layer -1) does the model? */
int model_spec_has_line(const struct model_spec *h, const struct family_line *line, int64_t layer);
/* index into tensors, -1 */
int model_spec_find(const struct model_spec *h, const char *name);
/* The axes of canonical tensor i of h, and its layer (-1 outside the blocks). */
const struct family_tensor *model_spec_axes(const struct model_spec *h, int i, int64_t *layer);
/* Is it a table with a row for every token or position: embeddings, a head that is not tied? */
int family_tensor_is_table(const struct family_tensor *t);
/* tied embeddings count once */
int64_t model_spec_parameters(const struct model_spec *h, int64_t *non_embedding);
int64_t model_spec_bytes(const struct model_spec *h);

#endif
