/* Low-rank adapters as a PEFT directory: adapter_config.json and adapter_model.safetensors, as
 * peft 0.21 writes and loads them.
 *
 * PEFT's adapters are of modules, as the class in transformers has them; ours are of canonical
 * matrices. A module that fuses several (Phi-3's qkv_proj) gets all their ranks: A has the rows of
 * each A, B the columns of each B, with zeros where these do not write. In return, a matrix takes
 * from the adapter of a fused module the ranks that write to its rows. The function is the same. */
#ifndef PARE_HF_PEFT_H
#define PARE_HF_PEFT_H

#include "../model/model.h"

/* Refuses a directory that cannot be written, and a model that none can hold. overwrite: dir may be
 * a PEFT directory, which is replaced. base: what base_model_name_or_path says, NULL: nothing. */
int peft_check(const char *dir, const struct model_spec *h, int overwrite, struct err *e);
int peft_write(const struct adapters *s, const struct model_spec *h, const char *dir,
               const char *base, int overwrite, struct err *e);

/* The adapters of a directory for a model of this spec, opened and allocated; id: a digest of them.
 * Refused: other methods than plain LoRA, biases and modules that are trained with it, adapters of
 * anything but matrices of blocks, misshapen or infinite ones. */
int peft_read(struct adapters *s, const struct model_spec *h, const char *dir, char id[ST_DIGEST],
              struct err *e);

/* A model with the sums of weights and adapters, matrices in the dtypes of `in`, q8_0 as f32; wide:
 * all that have adapters as f32. It takes `in` over, and borrows s; model_close it. */
struct model_in *peft_merge(struct model_in *in, const struct adapters *s, int wide);

#endif
