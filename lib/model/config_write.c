/* struct model_spec -> config.json: the current values under the keys that were read, and whether
 * that config alone would give the same model again. */
#include <math.h>
#include <string.h>

#include "config.h"

static void put(struct model_spec *h, const char *fact, int64_t value)
{
    const struct config c = {.family = h->family, .json = h->config};
    const char *key = config_spelling(&c, fact);
    if (key)
        json_object_set_new(h->config, key, json_integer(value));
}

/* That of the first layer which has one. */
static void put_size(struct model_spec *h, enum axis a)
{
    int64_t l = 0, last = a < LAYER_AXES ? 0 : h->num_hidden_layers - 1;
    while (l < last && !model_spec_size(h, a, l))
        l++;
    if (model_spec_size(h, a, l))
        put(h, axis_rows[a].name, model_spec_size(h, a, l));
}

/* Writes layer_types where the class has it and a window is in use or the config had them, and
 * max_window_layers for readers that know only that: the number of full-attention layers before the
 * sliding ones, where these are a suffix. */
static void put_windows(struct model_spec *h)
{
    /* values of another type were refused on reading */
    struct err ignored = {0};
    struct config c = {.family = h->family, .json = h->config, .e = &ignored};
    int in_use = config_window(&c) > 0;
    const char *types = config_key(h->family, "layer_types"),
               *from = config_key(h->family, "max_window_layers");
    int64_t full = 0, L = h->num_hidden_layers, sliding = 0;
    json_t *list = json_array();
    for (int64_t l = 0; l < L; l++) {
        int window = h->layers[l].sliding_window > 0;
        sliding += window;
        full += !window && !sliding;
        json_array_append_new(list, json_string(window ? "sliding_attention" : "full_attention"));
    }
    if (types && (in_use || json_object_get(h->config, types)))
        json_object_set(h->config, types, list);
    if (from && full + sliding == L)
        json_object_set_new(h->config, from, json_integer(full));
    json_decref(list);
}

static void put_no_rope(struct model_spec *h)
{
    const char *key = config_key(h->family, "no_rope_layers");
    json_t *list = json_array();
    for (int64_t l = 0; l < h->num_hidden_layers; l++)
        json_array_append_new(list, json_integer(h->layers[l].rope >= 0));
    if (key)
        json_object_set(h->config, key, list);
    json_decref(list);
}

void model_spec_update_config(struct model_spec *h)
{
    struct err ignored = {0}; /* the same values were checked on reading */
    const struct config c = {.family = h->family, .json = h->config, .e = &ignored};
    for (enum axis a = MODEL_AXES; a < AXIS_COUNT; a++)
        if (a != AXIS_D || h->family->explicit_head_dim)
            put_size(h, a);
    json_object_set_new(h->config, config_key(h->family, "tie_word_embeddings"),
                        json_boolean(h->tie_word_embeddings));
    put_no_rope(h);
    put_windows(h);
    config_write_blocks(h);
    config_write_mixers(h);
    config_write_experts(h);
    h->embed_scale = config_embed_scale(&c, h->hidden_size);
}

/* How far values may be apart, relative to the first: what a file rounds. */
static int differ(double a, double b, double off) { return fabs(a - b) > off * fabs(a); }

static int ropes_differ(const struct rope_table *a, const struct rope_table *b, double off)
{
    int other = a->dims != b->dims || a->interleaved != b->interleaved ||
                a->long_after != b->long_after || differ(a->factor, b->factor, off) ||
                (a->long_after && differ(a->long_factor, b->long_factor, off));
    for (int64_t i = 0; i < a->dims / 2 && !other; i++)
        other = differ(a->inv_freq[i], b->inv_freq[i], off) ||
                (a->long_after && differ(a->long_inv_freq[i], b->long_inv_freq[i], off));
    return other;
}

/* The name of the first model-wide value in which two models differ, or NULL. */
static const char *model_difference(const struct model_spec *a, const struct model_spec *b,
                                    double off)
{
    for (enum axis x = MODEL_AXES; x < LAYER_AXES; x++)
        if (model_spec_size(a, x, 0) != model_spec_size(b, x, 0))
            return axis_rows[x].name;
    if (a->tie_word_embeddings != b->tie_word_embeddings)
        return "tie_word_embeddings";
    if (a->experts_per_token != b->experts_per_token)
        return "num_experts_per_tok";
    if (a->experts_per_token &&
        model_spec_flag(a, "norm_topk_prob") != model_spec_flag(b, "norm_topk_prob"))
        return "norm_topk_prob";
    if (differ(a->norm_eps, b->norm_eps, off) || a->activation != b->activation)
        return "norm_eps or activation";
    if (differ(a->embed_scale, b->embed_scale, off) ||
        differ(a->residual_scale, b->residual_scale, off) ||
        differ(a->logit_scale, b->logit_scale, off) || differ(a->logit_cap, b->logit_cap, off) ||
        differ(a->attention_cap, b->attention_cap, off))
        return "scales";
    if (differ(a->dt_min, b->dt_min, off) || a->dt_max != b->dt_max)
        return "limits of time steps";
    for (int i = 0; i < a->n_ropes && i < b->n_ropes; i++)
        if (ropes_differ(&a->ropes[i], &b->ropes[i], off))
            return "rope";
    return a->n_ropes == b->n_ropes ? NULL : "rope";
}

/* The same for the values of a layer. */
static const char *layer_difference(const struct model_spec *a, const struct model_spec *b,
                                    double off, int64_t *layer)
{
    for (int64_t l = 0; l < a->num_hidden_layers; l++) {
        const struct layer *x = &a->layers[l], *y = &b->layers[l];
        *layer = l;
        if (x->kinds != y->kinds)
            return "kinds";
        for (enum axis k = LAYER_AXES; k < AXIS_COUNT; k++) {
            unsigned kinds = family_axis_kinds(a->family, k);
            if ((!kinds || kinds & x->kinds) && layer_size(x, k) != layer_size(y, k))
                return axis_rows[k].name;
        }
        if (x->sliding_window != y->sliding_window)
            return "sliding_window";
        if (x->rope != y->rope)
            return "rope";
        if (differ(x->attention_scale, y->attention_scale, off))
            return "attention_scale";
    }
    return NULL;
}

const char *model_spec_difference(const struct model_spec *a, const struct model_spec *b,
                                  double off, int64_t *layer)
{
    *layer = -1;
    const char *what = model_difference(a, b, off);
    return what ? what : layer_difference(a, b, off, layer);
}

int model_spec_check_config(const struct model_spec *h, struct err *e)
{
    struct model_spec again;
    if (model_spec_from_config(&again, h->config, e))
        return -1;
    int64_t layer;
    const char *what = model_spec_difference(h, &again, 1e-12, &layer);
    unsigned lost = layer < 0 ? 0 : again.layers[layer].kinds & ~h->layers[layer].kinds;
    model_spec_free(&again);
    if (what && !strcmp(what, "kinds"))
        return err_set(e,
                       "config.json for model_type %s cannot express a layer without %s, as layer "
                       "%lld is; a model stream (.tsz) can",
                       h->family->name, lost == KIND_mlp ? "MLP" : block_kind_name(lost),
                       (long long)layer);
    if (what && layer >= 0)
        return err_set(e,
                       "config.json for model_type %s cannot express the %s of layer %lld; a model "
                       "stream (.tsz) can",
                       h->family->name, what, (long long)layer);
    return what ? err_set(e, "config.json for model_type %s cannot express this model's %s",
                          h->family->name, what)
                : 0;
}
