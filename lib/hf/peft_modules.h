/* The modules of a class in transformers that have adapters, and the canonical matrices in them. */
#ifndef PARE_HF_PEFT_MODULES_H
#define PARE_HF_PEFT_MODULES_H

#include "../model/model.h"

#define PEFT_PREFIX "base_model.model."
#define PEFT_CONFIG "adapter_config.json"
#define PEFT_WEIGHTS "adapter_model.safetensors"
enum { PEFT_PARTS = 8 };

/* Modules are numbered as the stored tensors are. */
struct peft_modules {
    struct model_spec spec; /* as exported */
    struct layout layout;
};
/* as_exported: as hf-export writes the model, which may be a twin of its family. */
int peft_modules_open(struct peft_modules *m, const struct model_spec *h, int as_exported,
                      struct err *e);
void peft_modules_close(struct peft_modules *m);

/* "model.layers.0.self_attn.q_proj", as transformers names it in memory, whatever a checkpoint
 * calls it; "" for a tensor that is not a matrix. */
void peft_module_name(const struct peft_modules *m, int module, char name[TENSOR_NAME]);
/* Rows and columns of its matrix, [out, in]. */
int64_t peft_module_rows(const struct peft_modules *m, int module);
int64_t peft_module_cols(const struct peft_modules *m, int module);
int peft_module_is_transposed(const struct peft_modules *m, int module);
/* The canonical tensors that it holds; how many, at most PEFT_PARTS. */
int peft_module_parts(const struct peft_modules *m, int module, int parts[PEFT_PARTS]);
/* The row of the module's matrix that row r of canonical tensor i is. */
int64_t peft_module_row(const struct peft_modules *m, int i, int64_t r);

#endif
