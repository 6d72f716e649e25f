/* Which tensor of a directory's safetensors holds which canonical one: see hf/tensors.h.
 *
 * Accepted from older or converted checkpoints: names without the base prefix, another name for the
 * head, rotary tables and causal masks (ignored), a head beside tied embeddings (equal: ignored;
 * different: the model is not tied), a tied model that stores only its head. Refused: missing,
 * unexpected or misshapen tensors, dtypes that are not floating point. */
#include "tensors.h"

#include <stdlib.h>
#include <string.h>

#include "../base/minmax.h"
#include "../base/text.h"

struct matching {
    struct safetensors *sf;
    const char *dir;
    struct model_spec *h;
    int prefixed; /* names have the base model's prefix */
};

/* Tables and masks that older releases saved beside the weights. */
static int is_buffer(const char *name)
{
    return text_ends(name, "rotary_emb.inv_freq") || text_ends(name, ".attn.bias") ||
           text_ends(name, ".attn.masked_bias") || text_ends(name, ".attention.bias") ||
           text_ends(name, ".attention.masked_bias");
}

static int has_prefix(const struct safetensors *sf, const char *prefix)
{
    for (int i = 0; i < sf_count(sf); i++)
        if (!strncmp(sf_tensor(sf, i)->name, prefix, strlen(prefix)))
            return 1;
    return 0;
}

/* A checkpoint saved from the base model lacks the prefix everywhere. */
static int find_stored(const struct matching *m, const char *name)
{
    const char *prefix = m->h->family->base_prefix;
    int lacking = !m->prefixed && text_begins(name, prefix);
    return sf_find(m->sf, lacking ? name + strlen(prefix) : name);
}

static int has_stored(void *self, const char *name) { return find_stored(self, name) >= 0; }

/* The tensor outside the blocks that stores this canonical one alone: its index and its name in the
 * file; if absent, -1 and the expected name. */
static int find_alone(const struct matching *m, const char *stem, char name[TENSOR_NAME])
{
    const struct family_stored *row = m->h->family->stored;
    int found = -1;
    *name = 0;
    for (; found < 0 && row->name; row++)
        if (!strcmp(row->layout, stem)) {
            char other[TENSOR_NAME];
            snprintf(other, TENSOR_NAME, "%s.weight", row->name);
            found = find_stored(m, other);
            if (found >= 0 || !*name)
                strcpy(name, other);
        }
    return found;
}

static int same_bytes(const struct matching *m, int a, int b, struct err *e)
{
    const struct tensor *x = sf_tensor(m->sf, a), *y = sf_tensor(m->sf, b);
    int64_t n = tensor_bytes(x);
    if (x->dtype != y->dtype || !tensor_same_shape(x, y))
        return 0;
    char *block = mem_alloc(2 << 20);
    int same = 1;
    for (int64_t at = 0; at < n && same; at += 1 << 20) {
        int64_t part = min64(n - at, 1 << 20);
        same = !sf_read(m->sf, a, at, block, part, e) &&
               !sf_read(m->sf, b, at, block + (1 << 20), part, e) &&
               !memcmp(block, block + (1 << 20), (size_t)part);
    }
    free(block);
    return same;
}

/* A model that says it is tied may still store its head. Returns the sf index to use for the
 * embeddings instead (-1: none); sets *ignore to a head that only repeats them; unties the
 * model where head and embeddings differ. */
static int resolve_tie(const struct matching *m, int *ignore, struct err *e)
{
    struct model_spec *h = m->h;
    char name[TENSOR_NAME];
    *ignore = -1;
    if (!h->tie_word_embeddings)
        return -1;
    int x = find_alone(m, "lm_head", name), w = find_alone(m, "embed_tokens", name);
    if (x < 0 || w < 0)
        return x;
    if (same_bytes(m, x, w, e)) {
        *ignore = x;
        return -1;
    }
    h->tie_word_embeddings = 0;
    json_object_set_new(h->config, "tie_word_embeddings", json_false());
    model_spec_list_tensors(h, DT_F32);
    return -1;
}

static int match_tensor(const struct matching *m, const struct tensor *want, int k, struct err *e)
{
    if (k < 0)
        return err_set(e, "'%s' has no tensor %s, which its config.json requires", m->dir,
                       want->name);
    const struct tensor *t = sf_tensor(m->sf, k);
    char found[TENSOR_SHAPE], expected[TENSOR_SHAPE];
    if (!tensor_same_shape(t, want))
        return err_set(e, "'%s': tensor %s has shape %s; config.json requires %s", m->dir, t->name,
                       tensor_shape(t, found), tensor_shape(want, expected));
    if (t->dtype != DT_F64 && t->dtype != DT_F32 && t->dtype != DT_F16 && t->dtype != DT_BF16)
        return err_set(e, "'%s': tensor %s has dtype %s; weights must be f64, f32, f16 or bf16",
                       m->dir, t->name, dtype_name(t->dtype));
    return 0;
}

/* Dtypes of the canonical tensors: those of their views, which must all be the same. */
static int take_dtypes(const struct matching *m, const struct hf_layout *l, struct err *e)
{
    struct model_spec *h = m->h;
    for (int i = 0; i < h->n_tensors; i++) {
        const struct view_list *list = &l->layout.of[i];
        const struct tensor *first = sf_tensor(m->sf, l->found[list->views[0].stored]);
        for (int k = 1; k < list->n; k++) {
            const struct tensor *t = sf_tensor(m->sf, l->found[list->views[k].stored]);
            if (t->dtype != first->dtype)
                return err_set(e, "'%s': tensors %s and %s have different dtypes (%s, %s)", m->dir,
                               first->name, t->name, dtype_name(first->dtype),
                               dtype_name(t->dtype));
        }
        h->tensors[i].dtype = first->dtype;
    }
    return 0;
}

/* Finds the stored tensors of the layout. embed: index in the file of a head that stands for the
 * embeddings, -1: none. Marks the tensors used. */
static int find_tensors(const struct matching *m, struct hf_layout *l, int embed, char *used,
                        struct err *e)
{
    char embed_name[TENSOR_NAME] = "";
    if (embed >= 0)
        find_alone(m, "embed_tokens", embed_name);
    for (int i = 0; i < l->layout.n_stored; i++) {
        const struct tensor *want = &l->layout.stored[i];
        int k = strcmp(want->name, embed_name) ? find_stored(m, want->name) : embed;
        if (match_tensor(m, want, k, e))
            return -1;
        l->found[i] = k;
        used[k] = 1;
    }
    return 0;
}

/* Every tensor of the file belongs to the model or is ignored. */
static int check_used(const struct matching *m, const char *used, struct err *e)
{
    for (int i = 0; i < sf_count(m->sf); i++) {
        const char *name = sf_tensor(m->sf, i)->name;
        if (!used[i] && !is_buffer(name))
            return err_set(
                e, "'%s' has tensor %s, which family %s with this config.json does not know",
                m->dir, name, m->h->family->name);
    }
    return 0;
}

int hf_layout_make(struct hf_layout *l, struct model_spec *h, struct safetensors *sf,
                   const char *dir, struct err *e)
{
    struct matching m = {sf, dir, h, has_prefix(sf, h->family->base_prefix)};
    int ignore, embed = resolve_tie(&m, &ignore, e);
    *l = (struct hf_layout){0};
    if (e->set || layout_make(&l->layout, h, h->family->stored, 0, has_stored, &m, e))
        return -1;
    l->found = mem_alloc((size_t)l->layout.n_stored * sizeof *l->found);
    char *used = mem_alloc((size_t)sf_count(sf));
    if (ignore >= 0)
        used[ignore] = 1;
    int failed = find_tensors(&m, l, embed, used, e) || check_used(&m, used, e) ||
                 take_dtypes(&m, l, e);
    free(used);
    if (failed)
        hf_layout_free(l);
    return failed ? -1 : 0;
}

void hf_layout_free(struct hf_layout *l)
{
    layout_free(&l->layout);
    free(l->found);
    *l = (struct hf_layout){0};
}
