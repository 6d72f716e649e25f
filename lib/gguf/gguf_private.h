/* What the files that read GGUF models share: the way from metadata to the files of a model
 * directory, and which tensor of the file holds which canonical one. */
#ifndef PARE_GGUF_PARTS_H
#define PARE_GGUF_PARTS_H

#include "../../formats/gguf.h"
#include "../model/model.h"

/* ---- metadata (lib/gguf/config.c) */
/* Metadata "PREFIX.NAME", or NULL; prefix is general.architecture for a model's sizes. */
const struct gguf_value *gguf_meta(const struct gguf *g, const char *prefix, const char *name);
/* A text or a whole number of metadata; NULL / `missing` where there is none. The text is a copy:
 * free() it. */
char *gguf_meta_text(const struct gguf *g, const char *key);
int64_t gguf_meta_int(const struct gguf *g, const char *key, int64_t missing);
/* The config.json that transformers would have for this model, in its legacy spelling. tied: the
 * head is the embedding. NULL on error: names the architecture or the metadata that is not
 * supported. New reference. */
json_t *gguf_config(struct gguf *g, int tied, struct err *e);
/* 1 if the architecture rotates neighbouring channels, so that rows of q and k stand permuted
 * inside their heads (llama.cpp's "NORM" rope). */
int gguf_interleaved(const struct gguf *g);
/* The frequency divisors of a one-dimensional tensor such as rope_freqs.weight: NULL if there is
 * none, or on error. free() them. */
double *gguf_divisors(struct gguf *g, const char *tensor, int64_t n, struct err *e);
/* rope_scaling for a model whose rope_freqs.weight holds these n divisors: llama3's parameters
 * where they give them, else the bare list (as longrope, whose short and long factors are then
 * equal). NULL: all are 1. New reference. */
json_t *gguf_rope_from_divisors(const double *divisor, int64_t n, double theta,
                                int64_t max_positions);

/* ---- tokenizer (lib/gguf/tokenizer.c): texts of JSON files, NULL on error or where the file says
 * nothing; free() them */
char *gguf_tokenizer_json(const struct gguf *g, struct err *e);
char *gguf_tokenizer_config(const struct gguf *g);
char *gguf_generation_config(const struct gguf *g);

/* ---- tensors (lib/gguf/views.c) */
/* Canonical tensor [rows, cols] (a vector: cols 1) of the head: row r is row offset + r of
 * `tensor`, or, with head > 0, row offset + the place of r in the neighbour order of a head of that
 * many channels. */
struct gguf_view {
    int tensor;
    int64_t rows, cols, offset, head;
    int minus_one; /* stored as 1 + w */
};
/* Views of all tensors of h, whose dtypes are set: those of the file where a dtype is that
 * (gguf_dtype), else f32. -1: a tensor is missing, has another shape than the head asks for, or
 * nobody asks for it. */
int gguf_views_make(struct gguf_view **views, struct model_spec *h, struct gguf *g, struct err *e);
static inline int64_t gguf_view_row(const struct gguf_view *v, int64_t r)
{
    /* half-split channel s * head/2 + j is stored as 2 j + s */
    int64_t in = v->head ? r % v->head : 0;
    return v->offset + (v->head ? r - in + in % (v->head / 2) * 2 + in / (v->head / 2) : r);
}

#endif
