/* Which tensor of a GGUF file holds which canonical one: see gguf/gguf_private.h. The rows come
 * from the family; matrices are [out, in] in every architecture, so the last ones of experts, which
 * are canonical the other way, are transposed. */
#include <stdlib.h>
#include <string.h>

#include "../base/text.h"
#include "gguf_private.h"

/* Tensors that are read elsewhere (gguf/config.c) or repeat the metadata. */
static int is_table(const char *name)
{
    return !strcmp(name, "rope_freqs.weight") || !strcmp(name, "rope_factors_long.weight") ||
           !strcmp(name, "rope_factors_short.weight") || text_ends(name, "attn_rot_embd");
}

static int has_tensor(void *g, const char *name) { return gguf_find(g, name) >= 0; }

static int check_tensor(const struct gguf *g, int i, const struct tensor *want, struct err *e)
{
    if (i < 0)
        return err_set(e, "'%s' has no tensor %s, which its metadata requires", gguf_path(g),
                       want->name);
    const struct gguf_tensor *t = gguf_tensor(g, i);
    struct tensor found = {.ndim = t->ndim};
    char a[TENSOR_SHAPE], b[TENSOR_SHAPE];
    memcpy(found.shape, t->shape, (size_t)t->ndim * sizeof *t->shape);
    if (t->ndim == 1 && want->ndim == 2 && want->shape[0] == 1) /* a matrix of one row */
        found = (struct tensor){.ndim = 2, .shape = {1, t->shape[0]}};
    if (!tensor_same_shape(&found, want))
        return err_set(e, "'%s': tensor %s has shape %s; the metadata requires %s", gguf_path(g),
                       t->name, tensor_shape(&found, a), tensor_shape(want, b));
    if (want->ndim == 1 && gguf_bytes(t->type, 1) < 0)
        return err_set(e, "'%s': vector %s is quantised (%s), which is not supported", gguf_path(g),
                       t->name, gguf_type_name(t->type));
    return 0;
}

int gguf_is_plus1(const struct model_spec *h, int i)
{
    struct tensor_parts p = tensor_take_apart(h->tensors[i].name);
    return h->family->norm_plus1 && strstr(p.stem, "norm") && !strcmp(p.suffix, ".weight");
}

int gguf_is_decay(const struct model_spec *h, int i)
{
    struct tensor_parts p = tensor_take_apart(h->tensors[i].name);
    return !strcmp(p.stem, "scan") && !strcmp(p.suffix, ".weight");
}

static void set_dtypes(const struct gguf_layout *l, struct model_spec *h, const struct gguf *g)
{
    for (int i = 0; i < h->n_tensors; i++) {
        int stored = l->found[layout_view(&l->layout, i)->stored],
            dtype = gguf_dtype(gguf_tensor(g, stored)->type);
        int is_changed = gguf_is_plus1(h, i) || gguf_is_decay(h, i) ||
                         (dtype == DT_Q8_0 && layout_view(&l->layout, i)->transposed);
        h->tensors[i].dtype = dtype < 0 || is_changed ? DT_F32 : (enum dtype)dtype;
    }
}

/* Every tensor of the file belongs to the model, is a table, or repeats the embedding. */
static int check_used(const struct gguf_layout *l, const struct model_spec *h, const struct gguf *g,
                      struct err *e)
{
    char *used = mem_alloc((size_t)gguf_count(g));
    for (int k = 0; k < l->layout.n_stored; k++)
        used[l->found[k]] = 1;
    for (int i = 0; i < gguf_count(g); i++) {
        const char *name = gguf_tensor(g, i)->name;
        int repeats = h->tie_word_embeddings && !strcmp(name, "output.weight");
        if (!used[i] && !is_table(name) && !repeats)
            err_set(e, "'%s' has tensor %s, which family %s does not know", gguf_path(g), name,
                    h->family->name);
    }
    free(used);
    return e->set ? -1 : 0;
}

int gguf_layout_make(struct gguf_layout *l, struct model_spec *h, struct gguf *g,
                     const struct family_gguf *row, struct err *e)
{
    *l = (struct gguf_layout){0};
    if (layout_make(&l->layout, h, h->family->gguf_stored, row->neighbours, has_tensor, g, e))
        return -1;
    l->found = mem_alloc((size_t)l->layout.n_stored * sizeof *l->found);
    for (int k = 0; k < l->layout.n_stored && !e->set; k++) {
        l->found[k] = gguf_find(g, l->layout.stored[k].name);
        check_tensor(g, l->found[k], &l->layout.stored[k], e);
    }
    if (e->set || check_used(l, h, g, e)) {
        gguf_layout_free(l);
        return -1;
    }
    set_dtypes(l, h, g);
    return 0;
}

void gguf_layout_free(struct gguf_layout *l)
{
    layout_free(&l->layout);
    free(l->found);
    *l = (struct gguf_layout){0};
}
