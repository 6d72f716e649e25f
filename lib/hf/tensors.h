/* The tensors of a Hugging Face directory, matched with the canonical ones. */
#ifndef PARE_HF_TENSORS_H
#define PARE_HF_TENSORS_H

#include "../../formats/safetensors.h"
#include "../model/model.h"

/* Which tensor of the files holds which canonical one. */
struct hf_layout {
    struct layout layout;
    int *found; /* [layout.n_stored]: index in the files */
};
/* Matches all tensors of h, sets their dtypes to those stored, and unties h if it stores a head
 * that differs from the embeddings. dir: for messages. -1: a tensor is missing, misshapen, of a
 * dtype that weights cannot have, or not part of the model; nothing to free then. */
int hf_layout_make(struct hf_layout *l, struct model_spec *h, struct safetensors *sf,
                   const char *dir, struct err *e);
void hf_layout_free(struct hf_layout *l);

#endif
