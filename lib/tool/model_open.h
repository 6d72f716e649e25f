/* Opening a MODEL operand: a Hugging Face directory, a .gguf file, a .tsz model stream, or "-". */
#ifndef PARE_MODEL_OPEN_H
#define PARE_MODEL_OPEN_H

#include "../model/model.h"

/* ignored: keys of config.json that a directory is read without (NULL-terminated; NULL: none). NULL
 * on error, which says which file is missing, and what to do about a directory with only
 * pytorch_model.bin or tokenizer.model. */
struct model_in *model_open(const char *operand, const char *const *ignored, struct err *e);

/* An error if there is nothing by that name; "-" is there. */
int model_is_there(const char *operand, struct err *e);

/* A directory or a GGUF file: a model that is no stream. Pipes are not looked into, since the bytes
 * read would be lost. */
int model_is_foreign(const char *path);

#endif
