/* block_configs: a config.json's list of the shapes of the layers, for the classes that have one
 * (DeciLM, as nemotron-nas). An entry, with the keys that other readers insist on:
 *   {"attention": {"n_heads_in_group": 4, "no_op": false, "replace_with_linear": false},
 *    "ffn": {"ffn_mult": 2.625, "no_op": false, "replace_with_linear": false}}
 * The number of query heads is one for all layers; n_heads_in_group of them share a KV head. The
 * FFN width is intermediate_size, or the next multiple of 256 from 2/3 ffn_mult hidden_size.
 *
 * Refused, by key: linear maps in place of a block, windows, attention sinks, experts, keys unknown
 * here, a layer with neither block. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../base/mem.h"
#include "config.h"

enum { FFN_UNIT = 256 };

static const char *const attention_keys[] = {"no_op",
                                             "n_heads_in_group",
                                             "replace_with_linear=false",
                                             "sparsify=null",
                                             "window_length=null",
                                             "num_sink_tokens=null",
                                             "use_prefill_window_in_sink_attention=false",
                                             "unshifted_sink=false",
                                             "llama4=null",
                                             "mamba=null",
                                             NULL};
static const char *const ffn_keys[] = {"no_op",      "ffn_mult",
                                       "hidden_act", "intermediate_size",
                                       "gated=true", "replace_with_linear=false",
                                       "moe=null",   "sparsify=null",
                                       NULL};
static const char *const block_keys[] = {"attention", "ffn", "parallel_blocks=null", NULL};

/* ---- reading */

struct reading {
    const struct config *c;
    struct model_spec *h;
    int64_t layer;
};

static int refuse(const struct reading *r, const char *part, const char *key, const json_t *value,
                  const char *why)
{
    char show[80];
    return err_set(r->c->e, "config.json: block_configs[%lld]%s.%.100s is %s%s",
                   (long long)r->layer, part, key, value ? config_show(value, show) : "missing",
                   why);
}

static int check_block(const struct reading *r, const json_t *block, const char *part,
                       const char *const *keys)
{
    const char *key;
    json_t *value;
    if (!json_is_object(block))
        return err_set(r->c->e, "config.json: block_configs[%lld]%s must be an object",
                       (long long)r->layer, part);
    json_object_foreach((json_t *)block, key, value)
        if (config_listed(keys, key, value) <= 0)
            return refuse(r, part, key, value, ", which is not supported");
    return 0;
}

/* Does the layer have this block? */
static int is_there(const struct reading *r, const json_t *block, const char *part)
{
    const json_t *no_op = json_object_get(block, "no_op");
    if (no_op && !json_is_boolean(no_op))
        refuse(r, part, "no_op", no_op, "; it must be true or false");
    return !json_is_true(no_op);
}

static int64_t read_kv_heads(const struct reading *r, const json_t *attention)
{
    const json_t *group = json_object_get(attention, "n_heads_in_group");
    int64_t n = json_integer_value(group), H = r->h->layers[r->layer].num_attention_heads;
    if (n > 0 && H % n == 0)
        return H / n;
    refuse(r, ".attention", "n_heads_in_group", group, "; it must divide num_attention_heads");
    return 1;
}

/* As DeciLM rounds it, in the same order. */
static int64_t width_of_mult(double mult, int64_t hidden_size)
{
    double width = 2 * (rint(mult * 1e6) / 1e6) * (double)hidden_size / 3;
    return ((int64_t)width + FFN_UNIT - 1) / FFN_UNIT * FFN_UNIT;
}

static int64_t read_ffn_width(const struct reading *r, const json_t *ffn)
{
    const json_t *mult = json_object_get(ffn, "ffn_mult"),
                 *exact = json_object_get(ffn, "intermediate_size");
    int64_t most = axis_rows[AXIS_F].most, n = json_integer_value(exact), said = n;
    double m = json_number_value(mult);
    if (mult && !json_is_null(mult)) {
        n = m > 0 && m < 1e6 ? width_of_mult(m, r->h->hidden_size) : 0;
        if (n < 1 || n > most)
            refuse(r, ".ffn", "ffn_mult", mult, ", which gives no valid width");
        if (exact && !json_is_null(exact) && said != n)
            refuse(r, ".ffn", "intermediate_size", exact, "; ffn_mult gives another width");
    } else if (n < 1 || n > most) {
        refuse(r, ".ffn", "intermediate_size", exact, "; it must be a positive number of neurons");
    }
    return r->c->e->set ? 1 : n;
}

/* A layer's own activation must be that of all. */
static void check_activation(const struct reading *r, const json_t *ffn)
{
    const json_t *own = json_object_get(ffn, "hidden_act");
    json_t *all = config_value(r->c, "activation");
    if (own && !json_is_null(own) && !json_equal(own, all))
        refuse(r, ".ffn", "hidden_act", own, "; it must be hidden_act of the model");
    json_decref(all);
}

static void read_block(const struct reading *r, const json_t *block)
{
    struct layer *y = &r->h->layers[r->layer];
    const json_t *attention = json_object_get(block, "attention"),
                 *ffn = json_object_get(block, "ffn");
    if (check_block(r, block, "", block_keys) ||
        check_block(r, attention, ".attention", attention_keys) ||
        check_block(r, ffn, ".ffn", ffn_keys))
        return;
    y->kinds = is_there(r, attention, ".attention") ? KIND_attention : 0;
    y->kinds |= is_there(r, ffn, ".ffn") ? KIND_mlp : 0;
    if (y->kinds & KIND_attention)
        y->num_key_value_heads = read_kv_heads(r, attention);
    if (y->kinds & KIND_mlp) {
        y->intermediate_size = read_ffn_width(r, ffn);
        check_activation(r, ffn);
    }
    if (!y->kinds)
        err_set(r->c->e,
                "config.json: block_configs[%lld] has neither attention nor FFN, which is not "
                "supported: remove the layer",
                (long long)r->layer);
}

/* Sizes of a missing block mean nothing, but later cuts compare them with others: they are those of
 * the first layer that has it. */
static void fill_missing(struct model_spec *h)
{
    const struct layer *with_attention = NULL, *with_mlp = NULL;
    for (int64_t l = h->num_hidden_layers; l--;) {
        with_attention = h->layers[l].kinds & KIND_attention ? &h->layers[l] : with_attention;
        with_mlp = h->layers[l].kinds & KIND_mlp ? &h->layers[l] : with_mlp;
    }
    for (int64_t l = 0; l < h->num_hidden_layers; l++) {
        struct layer *y = &h->layers[l];
        if (!(y->kinds & KIND_attention) && with_attention)
            y->num_key_value_heads = with_attention->num_key_value_heads;
        if (!(y->kinds & KIND_mlp) && with_mlp)
            y->intermediate_size = with_mlp->intermediate_size;
    }
}

void config_read_blocks(const struct config *c, struct model_spec *h)
{
    const char *key = config_key(c->family, "block_configs");
    const json_t *list = key ? json_object_get(c->json, key) : NULL;
    if (key && (int64_t)json_array_size(list) != h->num_hidden_layers)
        err_set(c->e, "config.json: %s must list the %lld layers", key,
                (long long)h->num_hidden_layers);
    for (int64_t l = 0; l < h->num_hidden_layers && key && !c->e->set; l++)
        read_block(&(struct reading){c, h, l}, json_array_get(list, (size_t)l));
    if (key && !c->e->set)
        fill_missing(h);
}

/* ---- writing */

int config_widths_by_mult(const struct model_spec *h)
{
    for (int64_t l = 0; l < h->num_hidden_layers; l++)
        if (h->layers[l].kinds & KIND_mlp && h->layers[l].intermediate_size % FFN_UNIT)
            return 0;
    return 1;
}

/* Its width, rounded up, is F: rounding to six places changes it by less than one. */
static json_t *mult_of_width(int64_t F, int64_t hidden_size)
{
    return json_real(rint(1.5e6 * (double)F / (double)hidden_size) / 1e6);
}

static json_t *ffn_of(const struct model_spec *h, const struct layer *y)
{
    int there = !!(y->kinds & KIND_mlp), by_mult = config_widths_by_mult(h);
    const char *key = by_mult ? "ffn_mult" : "intermediate_size";
    json_t *width = NULL;
    if (there)
        width = by_mult ? mult_of_width(y->intermediate_size, h->hidden_size)
                        : json_integer(y->intermediate_size);
    return json_pack("{s:o?, s:b, s:b}", key, width, "no_op", !there, "replace_with_linear", 0);
}

static json_t *attention_of(const struct layer *y)
{
    int there = !!(y->kinds & KIND_attention);
    json_t *group = NULL;
    if (there)
        group = json_integer(y->num_attention_heads / y->num_key_value_heads);
    return json_pack("{s:o?, s:b, s:b}", "n_heads_in_group", group, "no_op", !there,
                     "replace_with_linear", 0);
}

/* Does the config's list, as it stands, have these shapes? Then its spelling is kept. */
static int is_current(const struct model_spec *h)
{
    struct err e = {0};
    struct config c = {.family = h->family, .json = h->config, .e = &e};
    struct model_spec said = *h;
    size_t bytes = (size_t)h->num_hidden_layers * sizeof *h->layers;
    said.layers = memcpy(mem_alloc(bytes), h->layers, bytes);
    config_read_blocks(&c, &said);
    int same = !e.set;
    for (int64_t l = 0; l < h->num_hidden_layers && same; l++) {
        const struct layer *x = &h->layers[l], *y = &said.layers[l];
        same = x->kinds == y->kinds &&
               (!(x->kinds & KIND_attention) || x->num_key_value_heads == y->num_key_value_heads) &&
               (!(x->kinds & KIND_mlp) || x->intermediate_size == y->intermediate_size);
    }
    free(said.layers);
    return same;
}

void config_write_blocks(struct model_spec *h)
{
    const char *key = config_key(h->family, "block_configs");
    if (!key || is_current(h))
        return;
    json_t *list = json_array();
    for (int64_t l = 0; l < h->num_hidden_layers; l++) {
        const struct layer *y = &h->layers[l];
        json_array_append_new(
            list, json_pack("{s:o, s:o}", "attention", attention_of(y), "ffn", ffn_of(h, y)));
    }
    json_object_set_new(h->config, key, list);
    json_object_set_new(h->config, "intermediate_size", json_null());
    json_object_set_new(h->config, "num_key_value_heads", json_null());
}
