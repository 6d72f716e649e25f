/* Shared by the files that write GGUF models: the form that a model takes, its metadata, and the
 * types of its tensors. */
#ifndef PARE_GGUF_WRITE_H
#define PARE_GGUF_WRITE_H

#include "gguf.h"
#include "gguf_private.h"

/* ---- rope (lib/gguf/rope_write.c): base, scaling, and tables of divisors where those say it */
struct gguf_rope {
    struct rope_said said;
    double attention; /* attn_factor; 1: the usual one */
    double local_theta;
    struct {
        const char *name;
        float *values; /* [dims/2] */
    } tables[2];
    int n_tables;
};
int gguf_rope_make(struct gguf_rope *r, const struct model_spec *h, const struct family_gguf *row,
                   struct err *e);
void gguf_rope_free(struct gguf_rope *r);
void gguf_put_rope(struct gguf_head *head, const char *arch, const struct gguf_rope *r,
                   const struct model_spec *h);

/* ---- form (lib/gguf/form.c) */
struct gguf_form {
    struct model_spec as; /* the model as the file states it: its family, scores without folds */
    const struct family_gguf *row;
    struct gguf_rope rope;
    struct layout layout;
    double *fold;     /* [as.n_tensors]: each canonical tensor is multiplied by it */
    int64_t n_folded; /* layers with a factor other than 1 */
    /* of the file: those of the layout, n_zero biases of zeros, rope tables, a second copy of the
     * embedding (head, -1: none). F32 until their types are chosen. */
    struct gguf_tensor *tensors;
    int n_tensors, first_zero, n_zero, first_table, head;
};
/* path: of the file to be written, beside which the form is tried. -1: no architecture of llama.cpp
 * can express the model, or nothing can be written there. */
int gguf_form_make(struct gguf_form *f, const struct model_spec *h, const char *path,
                   struct err *e);
/* Writes the tensors that no canonical one fills: biases of zeros and rope tables. */
int gguf_form_write(const struct gguf_form *f, struct gguf_out *out, struct err *e);
void gguf_form_free(struct gguf_form *f);
/* May the layers of a model of the family consist of different blocks, which lists of sizes say? */
static inline int gguf_has_lists(const struct family *f)
{
    return config_key(f, "block_configs") || gguf_has_mixers(f);
}

/* ---- metadata (lib/gguf/config_write.c): all that gguf_config reads but the rope tables */
void gguf_put_config(struct gguf_head *head, const struct gguf_form *f);

/* ---- types (lib/gguf/types.c) */
/* What `--type` names: llama.cpp's file types. A mixture gives some matrices more bits. */
enum gguf_mixture { EVEN, SMALL, MEDIUM };
struct gguf_recipe {
    const char *name;
    int file_type; /* general.file_type */
    enum gguf_type type;
    enum gguf_mixture mixture;
};
enum { GGUF_FALLEN = 16 };                               /* kinds of fallback that are noted */
const struct gguf_recipe *gguf_recipe(const char *name); /* NULL: unknown */
/* Sets the types of f's tensors. recipe NULL: those of the values, which are the file's. even: one
 * type for all matrices. Returns a note on rows that are not whole blocks of the type, or NULL;
 * free() it. */
char *gguf_choose_types(struct gguf_form *f, const struct gguf_recipe *recipe, int even);
/* The recipe for what most values of a model are stored as. */
const struct gguf_recipe *gguf_recipe_of(const struct model_spec *h);

/* ---- the model as a whole (lib/gguf/about_write.c) */
struct gguf_name {
    char *title, *base, *size, *finetune, *version; /* "" where there is none */
};
/* The parts of a name such as "SmolLM2-135M-Instruct", with the size that `parameters` are. */
struct gguf_name gguf_name(const char *name, int64_t parameters);
void gguf_name_free(struct gguf_name *x);
void gguf_put_about(struct gguf_head *head, const struct gguf_name *name,
                    const struct gguf_sink_options *o, const char *id,
                    const struct gguf_recipe *recipe);
/* What a model card says (lib/gguf/card_write.c): licence, languages, tags, data, and what the
 * model was made from, or base_model if the card does not say it. NULL: no card; not known. */
void gguf_put_card(struct gguf_head *head, const char *card, const char *base_model);

/* ---- tokenizer (lib/gguf/tokenizer_write.c): texts of the model's files, NULL where it has none
 */
struct gguf_texts {
    char *tokenizer, *tokenizer_config, *generation_config, *chat_template;
};
int gguf_put_tokenizer(struct gguf_head *head, const struct gguf_texts *texts, const json_t *config,
                       int64_t vocab_size, struct err *e);

#endif
