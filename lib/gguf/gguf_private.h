/* Shared by the files that read GGUF models: how metadata becomes the files of a model directory,
 * and which tensor of the file holds which canonical one. */
#ifndef PARE_GGUF_PRIVATE_H
#define PARE_GGUF_PRIVATE_H

#include "../../formats/gguf.h"
#include "../model/model.h"

/* ---- the file as a model (lib/gguf/source.c) */
struct gguf_layout;
/* Is it a model of this family under one of its architectures? If it FITS, spec and tensors are
 * set. tied: the head is the embedding. */
enum gguf_fit { GGUF_FITS, GGUF_OTHER_TENSORS, GGUF_OTHER_METADATA };
enum gguf_fit gguf_read_as(struct gguf *g, const struct family *f, const struct family_gguf *row,
                           int tied, struct model_spec *spec, struct gguf_layout *tensors,
                           struct err *e);

/* ---- single values (lib/gguf/meta.c) */
/* Metadata "PREFIX.NAME", or NULL; prefix is general.architecture for a model's sizes. */
const struct gguf_value *gguf_meta(const struct gguf *g, const char *prefix, const char *name);
/* A text or integer of the metadata; NULL / `missing` if absent. The text is a copy: free() it. */
char *gguf_meta_text(const struct gguf *g, const char *key);
int64_t gguf_meta_int(const struct gguf *g, const char *key, int64_t missing);

/* A config.json in the making, from the metadata of an architecture. */
struct gguf_making {
    struct gguf *g;
    const char *arch;
    const struct family *family;
    const struct family_gguf *row;
    json_t *config;
    struct err *e;
};
/* A number of the architecture, or a list of equal ones; a whole one. Missing NAN, or -1: required.
 * 1 on error. */
double gguf_number(const struct gguf_making *m, const char *name, double missing);
int64_t gguf_size(const struct gguf_making *m, const char *name, int64_t missing);
/* Sets the key that the family has for a fact, if it has one. value: stolen. */
void gguf_put_fact(const struct gguf_making *m, const char *fact, json_t *value);
/* The shortest decimal that reads back as this f32: 1e-05 rather than 9.999999747e-06. New
 * reference. */
json_t *gguf_json_real(double x);

/* ---- config.json (lib/gguf/config.c) */
/* The config.json that transformers would have for this model of a family under one of its
 * architectures, in its legacy spelling. tied: the head is the embedding. NULL on error, which
 * names the unsupported metadata. New reference. */
json_t *gguf_config(struct gguf *g, const struct family *family, const struct family_gguf *row,
                    int tied, struct err *e);
/* Metadata that some families have a key for, and the fact it states; ends with a NULL name. */
extern const struct gguf_fact {
    const char *name, *fact;
    int is_flag;
} gguf_facts[];

/* ---- layers of different shapes (lib/gguf/blocks.c), for architectures with lists of them */
/* the query heads of all layers that have attention; 1 on error */
int64_t gguf_block_heads(const struct gguf *g, const char *arch, int64_t layers, struct err *e);
/* block_configs; new reference */
json_t *gguf_blocks(const struct gguf *g, const char *arch, int64_t layers, struct err *e);

/* ---- layers of which some have Mamba mixers (lib/gguf/mixers.c), for families of such layers:
 * what they consist of and the sizes of attention and MLP; sizes of Mamba layers */
int gguf_has_mixers(const struct family *f);
void gguf_put_mixers(const struct gguf_making *m, int64_t layers);
void gguf_put_mamba(const struct gguf_making *m);
/* The number of the layers for which it is not 0; 0 if it is 0 for all. An error if they differ. */
int64_t gguf_common_size(const struct gguf_making *m, const char *name, int64_t layers);

/* ---- sliding windows (lib/gguf/windows.c): layer_types, or NULL if the metadata leave them to the
 * family's rule; new reference */
json_t *gguf_layer_types(const struct gguf *g, const char *arch, int64_t layers, struct err *e);
/* row->windows, or 0 for a model with so many layers. */
int64_t gguf_windows(const struct family_gguf *row, int64_t layers);

/* ---- rope (lib/gguf/rope.c): base, scaling, and how many channels of a head of D rotate */
void gguf_config_rope(const struct gguf_making *m, int64_t D);
/* rope_scaling for a model whose rope_freqs.weight holds these n divisors: llama3's parameters if
 * they explain the divisors, else the bare list (as longrope with equal short and long factors).
 * NULL: all are 1. New reference. */
json_t *gguf_rope_from_divisors(const double *divisor, int64_t n, double theta,
                                int64_t max_positions);

/* Types of tokens (tokenizer.ggml.token_type), as sentencepiece numbers them. */
enum gguf_token {
    GGUF_TOKEN_NORMAL = 1,
    GGUF_TOKEN_UNKNOWN,
    GGUF_TOKEN_CONTROL,
    GGUF_TOKEN_USER,
    GGUF_TOKEN_UNUSED,
    GGUF_TOKEN_BYTE
};

/* ---- tokenizer (lib/gguf/tokenizer.c): texts of JSON files, NULL on error or if the file has no
 * such data; free() them */
char *gguf_tokenizer_json(const struct gguf *g, struct err *e);
char *gguf_tokenizer_config(const struct gguf *g);
char *gguf_generation_config(const struct gguf *g);

/* ---- splits of byte-level BPE, by name (lib/gguf/splits.c) */
enum { GGUF_SPLITS = 8 };
struct gguf_pre {
    const char *name;
    int add_bos, ignore_merges, nfc;
    int digits; /* digits are split off one by one before the GPT-2 pattern */
    /* splits instead of the GPT-2 pattern, and NULL; none: that pattern */
    const char *patterns[GGUF_SPLITS];
};
const struct gguf_pre *gguf_pre_named(const char *name); /* NULL: the default; or not known */
const struct gguf_pre *gguf_pre(const struct gguf *g, struct err *e); /* NULL on error */
/* pre_tokenizer of a tokenizer.json; new reference */
json_t *gguf_pre_tokenizer(const struct gguf_pre *p);
/* The name for the splits of a tokenizer.json; NULL on error: llama.cpp has none. */
const char *gguf_pre_of(const json_t *tokenizer, struct err *e);

/* ---- README.md (lib/gguf/card.c): licence, languages, tags, base models and data; NULL: the file
 * has none; free it */
char *gguf_card(const struct gguf *g);
/* before the name of a model, or of data, at Hugging Face */
#define GGUF_HUB "https://huggingface.co/"

/* ---- tensors (lib/gguf/tensors.c) */
/* Which tensor of the file holds which canonical one. */
struct gguf_layout {
    struct layout layout;
    int *found; /* [layout.n_stored]: index in the file */
};
/* Matches all tensors of h and sets their dtypes: the file's where it is one of ours (gguf_dtype),
 * else f32. -1: a tensor is missing, has a shape other than the spec's, or is not part of the
 * model. */
int gguf_layout_make(struct gguf_layout *l, struct model_spec *h, struct gguf *g,
                     const struct family_gguf *row, struct err *e);
void gguf_layout_free(struct gguf_layout *l);
/* Is canonical tensor i stored as 1 + w? As -exp(w)? */
int gguf_is_plus1(const struct model_spec *h, int i);
int gguf_is_decay(const struct model_spec *h, int i);

#endif
