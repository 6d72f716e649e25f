/* A Hugging Face directory: a source of a model, and what a model is written to. */
#ifndef PARE_HF_H
#define PARE_HF_H

#include "../model/model.h"

/* Sets source, self and spec of `in`. On -1 spec and self are released already. */
int hf_source_open(struct model_in *in, const char *dir, struct err *e);

struct hf_export_opts {
    int64_t max_shard_size;
    enum dtype dtype;
    int keep_dtype, overwrite;
};
/* note: set to a sentence for the user when a twin class was written, else "". The directory
 * appears whole or not at all. */
int hf_export(struct model_in *in, const char *dir, const struct hf_export_opts *o, char note[400],
              struct err *e);

#endif
