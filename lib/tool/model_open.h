/* Opening a MODEL operand: a Hugging Face directory, a .gguf file, a .tsz model stream, or "-". */
#ifndef PARE_MODEL_OPEN_H
#define PARE_MODEL_OPEN_H

#include "../model/model.h"

/* NULL on error; says which file was missing (pytorch_model.bin or tokenizer.model alone: one
 * helpful sentence). */
struct model_in *model_open(const char *operand, struct err *e);

#endif
