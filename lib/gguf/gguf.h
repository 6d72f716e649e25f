/* A GGUF file: a source and a sink of a model. */
#ifndef PARE_LIB_GGUF_H
#define PARE_LIB_GGUF_H

#include "../model/model.h"

/* Sets source, self and spec of `in`. On -1 spec and self are already released. */
int gguf_source_open(struct model_in *in, const char *path, struct err *e);

/* The types that matrices may be stored as, in one line; is this one of them? */
extern const char gguf_type_names[];
int gguf_is_type(const char *name);

struct gguf_sink_options {
    const char *type; /* one of them; NULL: as the values are stored */
    int pure;         /* the same type for all matrices, instead of llama.cpp's choice */
    const char *name; /* of the model */
    /* a model card, whose metadata are taken over; what the model was made from, where the card
     * does not say it, "name" or "organization/name"; a text of JSON. NULL: none */
    const char *card, *base_model, *history;
};
/* DIR/NAME.gguf by llama.cpp's convention for names; free() it. */
char *gguf_path_in(const char *dir, const struct gguf_sink_options *o, const struct model_spec *h);
/* The file appears whole or not at all, at model_out_end. The options are borrowed. The note says
 * what differs between model and file. NULL on error: no architecture of llama.cpp can express the
 * model, or nothing can be written there. */
struct model_out *gguf_sink_open(const struct model_spec *spec, const char *path,
                                 const struct gguf_sink_options *o, struct err *e);

#endif
