/* What a model is: its head (everything but the numbers), where it comes from (model_in), where it goes (model_out), and a model in memory.
 *
 * A MODEL operand is a Hugging Face directory, a .gguf file, a .tsz model stream, or "-". All four look alike behind model_in: one head,
 * then files (tokenizer.json, ...), then the tensors in the head's order, once, in constant memory.
 * Tensors are canonical: split (no fused qkv), [out, in], half-split rope order. Quantised GGUF arrives as f32, its Q8_0 as q8_0. */
#ifndef PARE_MODEL_H
#define PARE_MODEL_H

#include <jansson.h>

#include "../formats/stream.h"
#include "base/mem.h"
#include "family.h"

/* Per-layer sizes and values: index rules are materialised when a model is read, so cutting never changes what was implied. */
struct layer {
    int64_t num_attention_heads, num_key_value_heads, head_dim, intermediate_size;
    int64_t sliding_window;     /* 0: none */
    int64_t rope;               /* index into head.ropes, -1: no rope in this layer */
    double attention_scale;
};

struct rope_table {
    int64_t dims;               /* channels of a head that rotate */
    int interleaved;
    double factor;              /* cos and sin are multiplied by it */
    double *inv_freq;           /* [dims/2], scaling applied */
    int64_t long_after;         /* > 0: sequences longer than this use long_inv_freq at every position (longrope) */
    double *long_inv_freq, long_factor;
};

struct model_head {
    const struct family *family;
    json_t *config;                             /* config.json as read, rewritten by cuts; spelling kept */
    char id[ST_DIGEST];                         /* what this model is (ARCHITECTURE: provenance) */
    char tokenizer_id[ST_DIGEST];               /* digest of tokenizer.json, "" without one */
    json_t *hist;                               /* list of steps that made it; empty for a root */
    int64_t vocab_size, hidden_size, num_hidden_layers, max_position_embeddings;
    double norm_eps;
    double embed_scale, logit_scale, logit_cap, residual_scale, attention_cap;      /* 1, 1, 0, 1, 0 where the family has none */
    enum act activation;
    int tie_word_embeddings, learned_positions;
    struct layer *layers;                       /* [num_hidden_layers] */
    struct rope_table *ropes;
    int n_ropes;
    struct tensor *tensors;                     /* canonical, in stream order; a tied head is absent */
    int n_tensors;
    struct { char *name; int64_t bytes; } *files;       /* tokenizer.json, tokenizer_config.json, generation_config.json, chat_template..., README.md */
    int n_files;
};

/* ---- head (lib/model_config.c, lib/model_head.c) */
/* From config.json alone; fills everything but tensors, files and ids. Unknown keys that could change the function are refused by name. */
int model_head_from_config(struct model_head *h, json_t *config, struct err *e);
int model_head_from_json(struct model_head *h, const json_t *stream_head, struct err *e);      /* sizes checked against each other and the tensors */
json_t *model_head_to_json(const struct model_head *h);        /* a stream header: kind "model" and the rest; new reference */
void model_head_copy(struct model_head *dst, const struct model_head *src);
void model_head_free(struct model_head *h);
/* The canonical tensors that family and sizes ask for, in stream order, dtypes from `dtype`. Sets tensors, n_tensors. */
void model_head_list_tensors(struct model_head *h, enum dtype dtype);
int model_head_check_tensors(const struct model_head *h, struct err *e);       /* names and shapes are those that the sizes imply */
/* Writes the current sizes back into h->config under the keys the family uses (head_dim explicit where the class honours it), and sets what the
 * class would derive from them: embed_scale. */
void model_head_update_config(struct model_head *h);
/* 0 if h->config alone, read again, gives this very head; else -1 and a sentence: sizes that the family's config.json cannot say (heads of
 * gpt2 cut alone, layers of different width). For whoever writes a directory. */
int model_head_check_config(const struct model_head *h, struct err *e);
/* A named choice of the family for this model ("attention_bias", "tied", "!tied"), as family_tensor.when means it. NULL is true. */
int model_head_flag(const struct model_head *h, const char *when);
int model_head_find(const struct model_head *h, const char *name);             /* index into tensors, -1 */
/* The axes of canonical tensor i of h, and its layer (-1 outside the blocks). */
const struct family_tensor *model_head_axes(const struct model_head *h, int i, int64_t *layer);
int64_t model_head_parameters(const struct model_head *h, int64_t *non_embedding);     /* a tied head counts once */
int64_t model_head_bytes(const struct model_head *h);

/* ---- reading a MODEL operand (lib/model_in.c and one file per kind) */
struct model_in;
/* NULL on error; says which file was missing (pytorch_model.bin or tokenizer.model alone: one helpful sentence). */
struct model_in *model_open(const char *operand, struct err *e);
struct model_head *model_in_head(struct model_in *in);                 /* borrowed */
/* Of a GGUF file, a sentence on what was dequantised and what is missing, or ""; NULL for other operands. */
const char *model_in_note(const struct model_in *in);
/* The bytes of tokenizer.json etc. (NUL after the end); NULL if there is no such file. Must be called before the first model_next. */
const char *model_in_file(struct model_in *in, const char *name, int64_t *bytes);
/* tokenizer.json; NULL with an error that says what `operand` has instead. */
const char *model_in_tokenizer(struct model_in *in, const char *operand, int64_t *bytes, struct err *e);
int model_next(struct model_in *in, struct tensor *t);                 /* 1 tensor begins (order of head->tensors), 0 end (digests fine), -1 error */
int model_read(struct model_in *in, void *buf, int64_t n);             /* exactly n more bytes of the current tensor: 0 or -1 */
void model_close(struct model_in *in);

/* ---- writing a model stream: tool_out(t, "model", model_head_to_json(h)) writes the header, this the files as records, then come the tensors in head order */
int model_write_files(struct st_out *out, const struct model_head *h, struct model_in *files_from);
/* Every tensor of `in` as it is, after its header and files. 0 or -1. */
int model_copy(struct st_out *out, struct model_in *in);

/* ---- a Hugging Face directory from a model (lib/hf_export.c) */
struct hf_export_opts { int64_t max_shard_size; enum dtype dtype; int keep_dtype, overwrite; };
/* note: set to a sentence for the user when a twin class was written, else "". The directory appears whole or not at all. */
int hf_export(struct model_in *in, const char *dir, const struct hf_export_opts *o, char note[400], struct err *e);

/* ---- a model in memory */
struct param { void *v; float *g; enum dtype dtype; int64_t rows, cols; };     /* vectors: cols = 1; v and g lie where calls run */
struct model {
    struct model_head head;
    struct param *params;       /* parallel to head.tensors */
    struct arena weights, grads;
    struct arena copies;        /* bf16 [n_values], where matrices of a MODEL_TRAIN model are computed with so: AdamW writes it with the weights */
    int how;                    /* MODEL_TRAIN or MODEL_FROZEN */
    int64_t n_values;           /* entries of all tensors together (each range starts at its running sum: no padding) */
    struct exec *x;             /* where weights and gradients lie; NULL: the host */
};
enum { MODEL_TRAIN = 1,         /* all f32, one contiguous range */
       MODEL_FROZEN = 2 };      /* matrices stay bf16 / f16 / q8_0 / f32 as stored (f64 becomes f32); vectors and learned positions f32 */
int model_load(struct model *m, struct model_in *in, int how, struct err *e);
/* normal(0, initializer_range 0.02), output projections by 1/sqrt(2L), norms 1, biases 0. */
int model_init_random(struct model *m, const struct model_head *h, uint64_t seed, struct err *e);
/* Bytes that model_move will take where x runs calls, and gives the params the types that they will have there, so that a tape can be recorded before. */
int64_t model_plan(struct model *m, const struct exec *x);
/* To where x runs calls, matrices in the type it computes in (q8_0 too: it is packed on the CPU only); nothing to do on the CPU. Before model_add_grads. */
int model_move(struct model *m, struct exec *x, struct err *e);
void model_weights_put(struct model *m, int64_t at, const float *values, int64_t n);   /* MODEL_TRAIN: entries at..at+n-1 of the weights, and of their copies */
int model_add_grads(struct model *m, struct err *e);           /* one contiguous f32 range m->grads.base, order and length of the weights */
int64_t model_memory(const struct model_head *h, int how, int grads);          /* bytes that loading will take */
struct param *model_param(struct model *m, int64_t layer, const char *stem_and_suffix);     /* layer -1: outside blocks; NULL if absent */
void model_free(struct model *m);
int model_write(struct st_out *out, const struct model *m);    /* all tensors in head order, f32 where MODEL_TRAIN */

#endif
