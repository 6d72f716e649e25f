/* A GGUF file as a source of a model. */
#ifndef PARE_LIB_GGUF_H
#define PARE_LIB_GGUF_H

#include "../model/model.h"

/* Sets source, self and spec of `in`. On -1 spec and self are already released. */
int gguf_source_open(struct model_in *in, const char *path, struct err *e);

#endif
