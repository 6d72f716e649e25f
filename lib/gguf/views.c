/* Which tensor of a GGUF file holds which canonical one: see gguf/gguf_private.h. q, k, v may be
 * fused (attn_qkv), gate and up too (ffn_up of twice the rows); matrices are [out, in] in every
 * architecture. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../base/text.h"
#include "gguf_private.h"

static const struct {
    const char *canonical, *stored;
} stems[] = {
    {"embed_tokens", "token_embd"},
    {"embed_positions", "position_embd"},
    {"norm", "output_norm"},
    {"lm_head", "output"},
    {"input_layernorm", "attn_norm"},
    {"q_proj", "attn_q"},
    {"k_proj", "attn_k"},
    {"v_proj", "attn_v"},
    {"o_proj", "attn_output"},
    {"q_norm", "attn_q_norm"},
    {"k_norm", "attn_k_norm"},
    {"post_attention_layernorm", "ffn_norm"},
    {"gate_proj", "ffn_gate"},
    {"up_proj", "ffn_up"},
    {"down_proj", "ffn_down"},
    {"attention_output_norm", "post_attention_norm"},
    {"mlp_output_norm", "post_ffw_norm"},
};

/* Tensors that are read elsewhere (gguf/config.c) or repeat what the metadata say. */
static int is_table(const char *name)
{
    return !strcmp(name, "rope_freqs.weight") || !strcmp(name, "rope_factors_long.weight") ||
           !strcmp(name, "rope_factors_short.weight") || text_ends(name, "attn_rot_embd");
}

static int find_stored(const struct gguf *g, const struct tensor_parts *p, const char *stem,
                       char name[TENSOR_NAME])
{
    if (p->layer < 0)
        snprintf(name, TENSOR_NAME, "%s%s", stem, p->suffix);
    else
        snprintf(name, TENSOR_NAME, "blk.%" PRId64 ".%s%s", p->layer, stem, p->suffix);
    return gguf_find(g, name);
}

static const char *stored_stem(const char *stem)
{
    for (size_t i = 0; i < sizeof stems / sizeof *stems; i++)
        if (!strcmp(stems[i].canonical, stem))
            return stems[i].stored;
    return stem;
}

/* Where in its tensor part p begins, in rows; *rows: of the whole tensor. */
static int64_t fused_offset(const struct model_spec *h, const struct tensor_parts *p, int64_t *rows)
{
    const struct layer *y = &h->layers[p->layer];
    int64_t q = y->num_attention_heads * y->head_dim, k = y->num_key_value_heads * y->head_dim;
    if (strcmp(stored_stem(p->stem), "ffn_gate") && strcmp(stored_stem(p->stem), "ffn_up")) {
        *rows = q + 2 * k;
        return *p->stem == 'q' ? 0 : *p->stem == 'k' ? q : q + k;
    }
    *rows = 2 * y->intermediate_size;
    return *p->stem == 'g' ? 0 : y->intermediate_size;
}

/* The fused tensor that holds p, or NULL: where q_proj stands alone so do k_proj and v_proj, where
 * there is a gate up_proj does. */
static const char *fused_stem(const struct gguf *g, const struct tensor_parts *p)
{
    char name[TENSOR_NAME];
    int attention = !strcmp(p->stem, "q_proj") || !strcmp(p->stem, "k_proj") ||
                    !strcmp(p->stem, "v_proj");
    if (attention)
        return find_stored(g, p, "attn_q", name) < 0 && find_stored(g, p, "attn_qkv", name) >= 0
                   ? "attn_qkv"
                   : NULL;
    if (strcmp(p->stem, "gate_proj") && strcmp(p->stem, "up_proj"))
        return NULL;
    return find_stored(g, p, "ffn_gate", name) < 0 && find_stored(g, p, "ffn_up", name) >= 0
               ? "ffn_up"
               : NULL;
}

static int has_gate(const struct model_spec *h)
{
    return model_spec_find(h, "layers.0.gate_proj.weight") >= 0;
}

static int check_shape(const struct gguf *g, int i, const struct tensor *want, int64_t rows,
                       struct err *e)
{
    const struct gguf_tensor *t = gguf_tensor(g, i);
    int64_t cols = want->ndim > 1 ? want->shape[1] : 1, found = t->ndim > 1 ? t->shape[1] : 1;
    if (t->ndim != want->ndim || t->shape[0] != rows || found != cols)
        return err_set(e,
                       "'%s': tensor %s has shape [%" PRId64 ", %" PRId64
                       "]%s, but its metadata ask for [%" PRId64 ", %" PRId64 "]",
                       gguf_path(g), t->name, t->shape[0], found, t->ndim > 2 ? " and more" : "",
                       rows, cols);
    if (t->ndim == 1 && gguf_bytes(t->type, 1) < 0)
        return err_set(e, "'%s': vector %s is quantised (%s), which is not supported", gguf_path(g),
                       t->name, gguf_type_name(t->type));
    return 0;
}

static int view_make(struct gguf_view *v, struct tensor *t, const struct model_spec *h,
                     const struct gguf *g, struct err *e)
{
    struct tensor_parts p = tensor_take_apart(t->name);
    char name[TENSOR_NAME];
    const char *fused = p.layer < 0 || (!has_gate(h) && !strcmp(p.stem, "up_proj"))
                            ? NULL
                            : fused_stem(g, &p);
    int64_t rows = t->shape[0];
    *v = (struct gguf_view){.rows = rows, .cols = t->ndim > 1 ? t->shape[1] : 1};
    v->tensor = find_stored(g, &p, fused ? fused : stored_stem(p.stem), name);
    if (v->tensor < 0)
        return err_set(e, "'%s' has no tensor %s, which its metadata ask for", gguf_path(g), name);
    if (fused)
        v->offset = fused_offset(h, &p, &rows);
    if (check_shape(g, v->tensor, t, rows, e))
        return -1;
    if (gguf_interleaved(g) && (!strcmp(p.stem, "q_proj") || !strcmp(p.stem, "k_proj")))
        v->head = h->layers[p.layer].head_dim;
    v->minus_one = h->family->norm_plus1 && strstr(p.stem, "norm") && !strcmp(p.suffix, ".weight");
    int dtype = gguf_dtype(gguf_tensor(g, v->tensor)->type);
    t->dtype = dtype < 0 || v->minus_one ? DT_F32 : (enum dtype)dtype;
    return 0;
}

int gguf_views_make(struct gguf_view **views, struct model_spec *h, struct gguf *g, struct err *e)
{
    char *used = mem_alloc((size_t)gguf_count(g));
    int failed = 0;
    *views = mem_alloc((size_t)h->n_tensors * sizeof **views);
    for (int i = 0; i < h->n_tensors && !failed; i++) {
        failed = view_make(&(*views)[i], &h->tensors[i], h, g, e);
        if (!failed)
            used[(*views)[i].tensor] = 1;
    }
    for (int i = 0; i < gguf_count(g) && !failed; i++) {
        const char *name = gguf_tensor(g, i)->name;
        if (!used[i] && !is_table(name) &&
            !(h->tie_word_embeddings && !strcmp(name, "output.weight")))
            failed = err_set(e, "'%s' has a tensor %s that family %s does not know", gguf_path(g),
                             name, h->family->name);
    }
    free(used);
    return failed;
}
