/* The metadata of an architecture, as llama.cpp's converter names them: see gguf/write.h. The
 * inverse of gguf/config.c, but from the sizes and values of the model, never from the spelling of
 * its config.json. */
#include <stdlib.h>
#include <string.h>

#include "write.h"

struct writing {
    struct gguf_head *head;
    const struct gguf_form *f;
    char key[200];
};

static const char *key(struct writing *w, const char *name)
{
    snprintf(w->key, sizeof w->key, "%s.%s", w->f->row->arch, name);
    return w->key;
}

static void put_size(struct writing *w, const char *name, int64_t n)
{
    gguf_put_u32(w->head, key(w, name), n);
}

static void put_real(struct writing *w, const char *name, double x)
{
    gguf_put_real(w->head, key(w, name), x);
}

/* Have all layers blocks of the kind? */
static int all_have(const struct model_spec *h, unsigned kind)
{
    int64_t l = 0;
    while (l < h->num_hidden_layers && h->layers[l].kinds & kind)
        l++;
    return l == h->num_hidden_layers;
}

/* A size of the layers: a number, or where layers have shapes of their own or lack the blocks that
 * have it a list, with 0 for a layer without. */
static void put_layers(struct writing *w, const char *name, enum axis a, unsigned kind)
{
    const struct model_spec *h = &w->f->as;
    if (!config_key(h->family, "block_configs") && all_have(h, kind)) {
        put_size(w, name, layer_size(&h->layers[0], a));
        return;
    }
    int64_t *n = mem_alloc((size_t)h->num_hidden_layers * sizeof *n);
    for (int64_t l = 0; l < h->num_hidden_layers; l++)
        n[l] = h->layers[l].kinds & kind ? layer_size(&h->layers[l], a) : 0;
    gguf_put_u32s(w->head, key(w, name), n, h->num_hidden_layers);
    free(n);
}

/* The width of an MLP, where every layer has experts in place of one that of the config. */
static void put_mlp(struct writing *w)
{
    const struct model_spec *h = &w->f->as;
    const struct layer *y = &h->layers[0];
    struct err ignored = {0}; /* bad values were refused on reading */
    const struct config c = {.family = h->family, .json = h->config, .e = &ignored};
    int64_t width = config_int(&c, "intermediate_size", 1, axis_rows[AXIS_F].most,
                               y->moe_intermediate_size);
    if (!y->num_experts) {
        put_layers(w, "feed_forward_length", AXIS_F, KIND_mlp);
        return;
    }
    put_size(w, "feed_forward_length", width);
    put_size(w, "expert_count", y->num_experts);
    put_size(w, "expert_used_count", h->experts_per_token);
    if (width != y->moe_intermediate_size)
        put_size(w, "expert_feed_forward_length", y->moe_intermediate_size);
    if (y->shared_expert_intermediate_size)
        put_size(w, "expert_shared_feed_forward_length", y->shared_expert_intermediate_size);
}

/* Is the model's last norm one of root mean squares? */
static int is_rms(const struct family *f)
{
    for (const struct family_line *l = f->end; l->out; l++)
        if (l->op == OP_rmsnorm)
            return 1;
    return 0;
}

/* The window, and which layers have it where that is not what the architecture assumes. */
static void put_windows(struct writing *w)
{
    const struct model_spec *h = &w->f->as;
    int64_t window = 0, L = h->num_hidden_layers, every = gguf_windows(w->f->row, L), usual = 1;
    int64_t *slides = mem_alloc((size_t)L * sizeof *slides);
    for (int64_t l = 0; l < L; l++) {
        slides[l] = h->layers[l].sliding_window > 0;
        window = slides[l] ? h->layers[l].sliding_window : window;
        usual &= every && slides[l] == ((l + 1) % every != 0);
    }
    if (window || every)
        put_size(w, "attention.sliding_window", window);
    if (every && !usual)
        gguf_put_flags(w->head, key(w, "attention.sliding_window_pattern"), slides, L);
    free(slides);
}

/* The value of a fact that gguf_facts knows. */
static double fact_value(const struct gguf_form *f, const char *fact)
{
    const struct model_spec *h = &f->as;
    const struct {
        const char *fact;
        double value;
    } values[] = {
        {"attention_cap", h->attention_cap},
        {"logit_cap", h->logit_cap},
        {"rope_local_theta", f->rope.local_theta},
        {"attention_scale", h->layers[0].attention_scale},
        {"embed_scale", h->embed_scale},
        {"residual_scale", h->residual_scale},
        {"logit_divisor", 1 / h->logit_scale},
        {"logit_scale", h->logit_scale},
    };
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        if (!strcmp(values[i].fact, fact))
            return values[i].value;
    return model_spec_flag(h, fact);
}

static void put_facts(struct writing *w)
{
    for (const struct gguf_fact *x = gguf_facts; x->name; x++) {
        if (!config_key(w->f->as.family, x->fact) || !strncmp(x->name, "rope.", 5))
            continue;
        double value = fact_value(w->f, x->fact);
        if (x->is_flag)
            gguf_put_flag(w->head, key(w, x->name), value != 0);
        else if (value != 0)
            put_real(w, x->name, value);
    }
}

static void put_mamba(struct writing *w)
{
    const struct layer *y = &w->f->as.layers[0];
    if (!y->mamba_num_heads)
        return;
    put_size(w, "ssm.conv_kernel", y->mamba_conv_kernel);
    put_size(w, "ssm.inner_size", layer_units(y, AXIS_R));
    put_size(w, "ssm.state_size", y->mamba_state_size);
    put_size(w, "ssm.time_step_rank", y->mamba_num_heads);
    put_size(w, "ssm.group_count", y->mamba_num_groups);
}

void gguf_put_config(struct gguf_head *head, const struct gguf_form *f)
{
    struct writing w = {.head = head, .f = f};
    const struct model_spec *h = &f->as;
    put_size(&w, "block_count", h->num_hidden_layers);
    put_size(&w, "context_length", h->max_position_embeddings);
    put_size(&w, "embedding_length", h->hidden_size);
    put_mlp(&w);
    if (gguf_has_mixers(h->family)) /* llama.cpp goes by layer 0 */
        put_size(&w, "attention.head_count", h->layers[0].num_attention_heads);
    else
        put_layers(&w, "attention.head_count", AXIS_H, KIND_attention);
    put_layers(&w, "attention.head_count_kv", AXIS_K, KIND_attention);
    put_size(&w, "attention.key_length", h->layers[0].head_dim);
    put_size(&w, "attention.value_length", h->layers[0].head_dim);
    put_size(&w, "vocab_size", h->vocab_size);
    put_real(
        &w, is_rms(h->family) ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon",
        h->norm_eps);
    if (f->row->both_epsilons)
        put_real(&w, "attention.layer_norm_epsilon", h->norm_eps);
    put_mamba(&w);
    put_windows(&w);
    put_facts(&w);
    gguf_put_rope(head, f->row->arch, &f->rope, h);
    if (f->row->rope_switch)
        gguf_put_flag(head, key(&w, "rope.scaling.finetuned"), h->n_ropes > 0);
}
