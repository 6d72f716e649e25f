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

#endif
