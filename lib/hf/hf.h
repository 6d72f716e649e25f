/* A Hugging Face directory: a source and a sink of a model. */
#ifndef PARE_HF_H
#define PARE_HF_H

#include "../model/model.h"
#include "peft.h"

/* Sets source, self and spec of `in`. Config.json is read as if it lacked the ignored keys
 * (NULL-terminated; NULL: none). On -1 spec and self are already released. */
int hf_source_open(struct model_in *in, const char *dir, const char *const *ignored, struct err *e);

/* The spec of a config.json alone, without weights or files; messages begin with 'name'. On -1
 * nothing is left. */
int hf_read_config(struct model_spec *h, const char *path, const char *name,
                   const char *const *ignored, struct err *e);

/* Can a directory hold a model of this shape? -1: no, and a sentence that says why. `note`: what
 * hf_sink_open would note about it, or "". */
int hf_check_shape(const struct model_spec *h, char note[400], struct err *e);

/* Does every reader of such a directory load this shape and compute the same? transformers has one
 * class for it; layers of different shapes have several readers, which differ. */
int hf_is_portable(const struct model_spec *h);

struct hf_sink_options {
    int64_t max_shard_size; /* bytes; 0: one file */
    enum dtype dtype;       /* of all weights, unless keep_dtype */
    int keep_dtype, overwrite;
};
/* Refuses a directory that hf_sink_open would refuse, and leaves nothing behind: for a check before
 * the model arrives. */
int hf_sink_check(const char *dir, const struct hf_sink_options *o, struct err *e);
/* The directory appears whole or not at all, at model_out_end. Its note says if a class other than
 * the model's was written, and if values were rounded. NULL on error. */
struct model_out *hf_sink_open(const struct model_spec *spec, const char *dir,
                               const struct hf_sink_options *o, struct err *e);
/* Before model_out_end: the spec as it is written, config and class included (borrowed); and one
 * file more. The model's own README.md is not written, since it describes another model. */
const struct model_spec *hf_sink_spec(const struct model_out *out);
int hf_sink_add(struct model_out *out, const char *name, const char *text);

/* ---- special tokens (lib/hf/tokens.c) */
/* A generation_config.json of the ids in a config.json; NULL: it has none. Free it. */
char *hf_generation_config(const json_t *config);
/* What transformers would stumble over in a file of the directory, config.json included: it is no
 * JSON object, or the id of a special token is not an entry of the vocabulary. A sentence, to free,
 * or NULL. */
char *hf_check_file(const char *name, const char *text, int64_t n, int64_t vocab_size);

#endif
