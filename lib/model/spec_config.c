/* config.json -> struct model_spec. Every default and rule by layer index is resolved per
 * layer on reading (head size, KV heads, 4E, window rules, score scale, rope tables), so that a cut
 * never changes what they implied. Refuses unknown families and keys, and sizes that are out of
 * bounds or contradict each other. */
#include <math.h>
#include <string.h>

#include "config.h"

/* Like the bounds of axes.def: every product of sizes stays inside 63 bits. */
enum {
    MAX_POSITIONS = 1 << 24,
    MAX_EXPERTS = 1 << 18 /* of all layers: each may be tensors of its own */
};

static const struct {
    const char *name;
    enum act act;
} activations[] = {{"silu", ACT_SILU},           {"swish", ACT_SILU},
                   {"gelu", ACT_GELU},           {"gelu_new", ACT_GELU_TANH},
                   {"gelu_fast", ACT_GELU_TANH}, {"gelu_pytorch_tanh", ACT_GELU_TANH},
                   {"relu2", ACT_RELU2},         {NULL, ACT_COUNT}};

static enum act read_activation(const struct config *c)
{
    json_t *v = config_value(c, "activation"), *other = config_value(c, "activation_names");
    const char *name = json_string_value(v),
               *meant = name ? json_string_value(json_object_get(other, name)) : NULL;
    name = meant ? meant : name;
    int i = 0;
    while (activations[i].name && (!name || strcmp(name, activations[i].name)))
        i++;
    char show[80];
    if (!activations[i].name)
        err_set(c->e, "config.json: %s %s is not a supported activation",
                config_key(c->family, "activation"), config_show(v, show));
    json_decref(other);
    json_decref(v);
    return activations[i].act;
}

static const struct family *read_family(const json_t *config, struct err *e)
{
    const json_t *type = json_object_get(config, "model_type");
    const struct family *f = json_is_string(type) ? family_find(json_string_value(type)) : NULL;
    if (!f)
        config_unknown_family(config, e);
    return f;
}

double config_embed_scale(const struct config *c, int64_t hidden_size)
{
    return c->family->embed_by_width ? sqrt((double)hidden_size)
                                     : config_real(c, "embed_scale", 1e-6, 1e6, 1);
}

int64_t config_window(const struct config *c)
{
    int64_t window = config_int(c, "sliding_window", 0, ANY_LENGTH, 0);
    return config_flag(c, "use_sliding_window", 1) ? window : 0;
}

/* 0 along an axis that the family does not have. */
static int64_t config_size(const struct config *c, enum axis a)
{
    if (a >= LAYER_AXES && !family_has_axis(c->family, a))
        return 0;
    return config_int(c, axis_rows[a].name, 1, axis_rows[a].most, 1);
}

static void read_sizes(const struct config *c, struct model_spec *h)
{
    for (enum axis a = MODEL_AXES; a < LAYER_AXES; a++)
        model_spec_set_size(h, a, 0, config_size(c, a));
    int64_t listed = config_count_blocks(c);
    if (listed)
        h->num_hidden_layers = listed;
    h->learned_positions = config_flag(c, "learned_positions", 0);
    h->max_position_embeddings = config_int(c, "max_position_embeddings", 1,
                                            h->learned_positions ? MAX_POSITIONS : ANY_LENGTH, 0);
    h->norm_eps = config_real(c, "norm_eps", 0, 1, 0);
    h->embed_scale = config_embed_scale(c, h->hidden_size);
    h->logit_scale = config_real(c, "logit_scale", 1e-6, 1e6, 1) /
                     config_real(c, "logit_divisor", 1e-6, 1e6, 1);
    h->logit_cap = config_real(c, "logit_cap", 0, 1e6, 0);
    h->attention_cap = config_real(c, "attention_cap", 0, 1e6, 0);
    h->residual_scale = config_real(c, "residual_scale", 1e-6, 1e6, 1);
    h->activation = read_activation(c);
    h->experts_per_token = config_int(c, "num_experts_per_tok", 1, axis_rows[AXIS_X].most, 0);
    config_flag(c, "norm_topk_prob", 0);
    h->tie_word_embeddings = config_flag(c, "tie_word_embeddings", 0);
    if (family_has_axis(c->family, AXIS_M))
        config_read_time_steps(c, h);
}

/* Scores are q k times a constant, or over the root of query_pre_attn_scalar or the head size. */
static double read_scale(const struct config *c, int64_t head_dim, int64_t l)
{
    double scale = config_real(c, "attention_scale", 1e-6, 1e6, 0),
           scalar = config_real(c, "query_pre_attn_scalar", 1e-6, 1e9, (double)head_dim);
    if (!config_flag(c, "scale_attn_weights", 1))
        scale = 1;
    else if (scale == 0)
        scale = 1 / sqrt(scalar);
    return config_flag(c, "scale_attn_by_inverse_layer_idx", 0) ? scale / (double)(l + 1) : scale;
}

/* ---- which layers rotate and which have a window */

typedef int layer_rule(const struct config *c, const struct layer *y, int64_t l);

static int is_nth(const struct config *c, const char *interval, int64_t l)
{
    return (l + 1) % config_int(c, interval, 1, ANY_LENGTH, 1) == 0;
}

static int rope_but_every_nth(const struct config *c, const struct layer *y, int64_t l)
{
    (void)y;
    return !is_nth(c, "no_rope_layer_interval", l);
}

static int rope_with_window(const struct config *c, const struct layer *y, int64_t l)
{
    (void)c, (void)l;
    return y->sliding_window > 0;
}

static int rope_unless_full(const struct config *c, const struct layer *y, int64_t l)
{
    (void)l;
    return y->sliding_window > 0 || !config_window(c);
}

static int rope_unless_alibi(const struct config *c, const struct layer *y, int64_t l)
{
    (void)y, (void)l;
    return !config_flag(c, "alibi", 0);
}

static int rope_if_named(const struct config *c, const struct layer *y, int64_t l)
{
    json_t *name = config_value(c, "position_embedding");
    int named = json_is_string(name) && !strcmp(json_string_value(name), "rope");
    (void)y, (void)l;
    json_decref(name);
    return named;
}

static layer_rule *const rope_rules[ROPE_RULES] = {
    [ROPE_BUT_EVERY_NTH] = rope_but_every_nth, [ROPE_WITH_WINDOW] = rope_with_window,
    [ROPE_UNLESS_FULL] = rope_unless_full,     [ROPE_UNLESS_ALIBI] = rope_unless_alibi,
    [ROPE_IF_NAMED] = rope_if_named,
};

static int window_all(const struct config *c, const struct layer *y, int64_t l)
{
    (void)c, (void)y, (void)l;
    return 1;
}

static int window_every_other(const struct config *c, const struct layer *y, int64_t l)
{
    (void)c, (void)y;
    return l % 2 == 0;
}

static int window_but_every_nth(const struct config *c, const struct layer *y, int64_t l)
{
    (void)y;
    return !is_nth(c, "sliding_window_pattern", l);
}

static int window_from_layer(const struct config *c, const struct layer *y, int64_t l)
{
    (void)y;
    return l >= config_int(c, "max_window_layers", 0, ANY_LENGTH, 0);
}

static int window_even_below(const struct config *c, const struct layer *y, int64_t l)
{
    return window_every_other(c, y, l) && !window_from_layer(c, y, l);
}

static int window_without_rope(const struct config *c, const struct layer *y, int64_t l)
{
    (void)c, (void)l;
    return y->rope < 0;
}

static layer_rule *const window_rules[WINDOW_RULES] = {
    [WINDOW_ALL] = window_all,
    [WINDOW_EVERY_OTHER] = window_every_other,
    [WINDOW_BUT_EVERY_NTH] = window_but_every_nth,
    [WINDOW_FROM_LAYER] = window_from_layer,
    [WINDOW_EVEN_BELOW] = window_even_below,
    [WINDOW_WITHOUT_ROPE] = window_without_rope,
};

/* A list with one entry per layer, NULL if the config has none; json_decref it. */
static json_t *layer_list(const struct config *c, const char *fact, int64_t n_layers)
{
    json_t *list = config_value(c, fact);
    if (list && json_is_null(list)) {
        json_decref(list);
        return NULL;
    }
    if (list && (int64_t)json_array_size(list) != n_layers)
        err_set(c->e, "config.json: %s has %zu entries for %lld layers", fact,
                json_array_size(list), (long long)n_layers);
    return list;
}

/* 1 and 0 in no_rope_layers: with rope and without. */
static int entry_rotates(const struct config *c, const json_t *entry)
{
    int64_t rotates = json_integer_value(entry);
    char show[80];
    if (!json_is_integer(entry) || rotates < 0 || rotates > 1)
        err_set(c->e,
                "config.json: no_rope_layers has %s; its entries must be 1 (rope) or 0 (none)",
                config_show(entry, show));
    return rotates != 0;
}

static void read_ropes(const struct config *c, struct model_spec *h)
{
    layer_rule *rotates = rope_rules[c->family->ropes];
    json_t *list = rotates ? layer_list(c, "no_rope_layers", h->num_hidden_layers) : NULL;
    for (int64_t l = 0; l < h->num_hidden_layers && rotates && !c->e->set; l++) {
        struct layer *y = &h->layers[l];
        int turns = list ? entry_rotates(c, json_array_get(list, (size_t)l)) : rotates(c, y, l);
        y->rope = turns ? 0 : -1;
    }
    json_decref(list);
}

static int entry_slides(const struct config *c, const json_t *entry)
{
    const char *type = json_string_value(entry);
    char show[80];
    if (!type || (strcmp(type, "sliding_attention") && strcmp(type, "full_attention")))
        err_set(c->e, "config.json: layer_types has %s, which is not supported",
                config_show(entry, show));
    return type && !strcmp(type, "sliding_attention");
}

static void read_windows(const struct config *c, struct model_spec *h)
{
    layer_rule *slides = window_rules[c->family->windows];
    int64_t window = config_window(c);
    json_t *types = slides ? layer_list(c, "layer_types", h->num_hidden_layers) : NULL;
    int local = config_rope_tables(c->family) > 1, /* a table of their own */
        needed = types || local || c->family->ropes == ROPE_WITH_WINDOW;
    for (int64_t l = 0; l < h->num_hidden_layers && slides && !c->e->set; l++) {
        struct layer *y = &h->layers[l];
        int sliding = types ? entry_slides(c, json_array_get(types, (size_t)l)) : slides(c, y, l);
        if (needed && sliding && !window)
            err_set(c->e, "config.json: layer_types has sliding_attention, but no sliding_window "
                          "is in use");
        y->sliding_window = sliding ? window : 0;
        if (sliding && local)
            y->rope = 1;
    }
    json_decref(types);
}

static void read_layers(const struct config *c, struct model_spec *h)
{
    struct layer first = {
        .kinds = family_kinds(c->family),
        .rope = config_rope_tables(c->family) ? 0 : -1,
    };
    for (enum axis a = LAYER_AXES; a < AXIS_COUNT; a++)
        layer_set_size(&first, a, config_size(c, a));
    for (int64_t l = 0; l < h->num_hidden_layers; l++) {
        h->layers[l] = first;
        h->layers[l].attention_scale = read_scale(c, first.head_dim, l);
    }
    config_read_blocks(c, h);
    config_read_mixers(c, h);
    config_read_experts(c, h);
    /* some windows depend on rope, some ropes on the window */
    int ropes_first = c->family->windows == WINDOW_WITHOUT_ROPE;
    if (ropes_first)
        read_ropes(c, h);
    read_windows(c, h);
    if (!ropes_first)
        read_ropes(c, h);
}

static int64_t entry_int(const json_t *entry, const char *key, int64_t l, int64_t low, int64_t high,
                         struct err *e)
{
    const json_t *v = json_object_get(entry, key);
    int64_t n = json_integer_value(v);
    char show[80];
    if (json_is_integer(v) && n >= low && n <= high)
        return n;
    err_set(e, "the header's layer %lld: %s is %s; it must be a whole number from %lld to %lld",
            (long long)l, key, v ? config_show(v, show) : "missing", (long long)low,
            (long long)high);
    return low;
}

/* Absent: 0, along an axis that layers may lack. */
static int64_t entry_size(const json_t *entry, const struct config *c, enum axis a, int64_t l)
{
    const char *name = axis_rows[a].name;
    int lacks = !family_has_axis(c->family, a) ||
                (family_has_axis(c->family, AXIS_X) && axis_may_lack(a));
    if (lacks && !json_object_get(entry, name))
        return 0;
    return entry_int(entry, name, l, 1, axis_rows[a].most, c->e);
}

/* "kinds": ["attention"]; absent: all kinds of the family's blocks. */
static unsigned entry_kinds(const json_t *entry, const struct config *c, int64_t l)
{
    const json_t *list = json_object_get(entry, "kinds");
    unsigned all = family_kinds(c->family), kinds = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        unsigned bit = 1;
        while (name && bit <= all && strcmp(name, block_kind_name(bit)))
            bit <<= 1;
        kinds |= name ? bit : all + 1;
    }
    if (list && (!kinds || kinds & ~all)) {
        char show[80];
        err_set(c->e, "the header's layer %lld: kinds is %s, which family %s does not have",
                (long long)l, config_show(list, show), c->family->name);
    }
    return list ? kinds : all;
}

/* Per-layer values of a stream header. */
static void read_layer_list(const struct config *c, struct model_spec *h, const json_t *list)
{
    if ((int64_t)json_array_size(list) != h->num_hidden_layers)
        err_set(c->e, "the header lists %zu layers, but its config says %lld",
                json_array_size(list), (long long)h->num_hidden_layers);
    for (int64_t l = 0; l < h->num_hidden_layers && !c->e->set; l++) {
        const json_t *entry = json_array_get(list, (size_t)l),
                     *scale = json_object_get(entry, "attention_scale");
        h->layers[l] = (struct layer){
            .kinds = entry_kinds(entry, c, l),
            .sliding_window = entry_int(entry, "sliding_window", l, 0, ANY_LENGTH, c->e),
            .rope = entry_int(entry, "rope", l, -1, config_rope_tables(c->family) - 1, c->e),
            .attention_scale = json_number_value(scale),
        };
        for (enum axis a = LAYER_AXES; a < AXIS_COUNT; a++)
            layer_set_size(&h->layers[l], a, entry_size(entry, c, a, l));
        if (!(h->layers[l].attention_scale > 0 && h->layers[l].attention_scale < 1e6))
            err_set(c->e, "the header's layer %lld has no valid attention_scale", (long long)l);
    }
}

static int check_layers(const struct config *c, const struct model_spec *h)
{
    int64_t experts = 0;
    for (int64_t l = 0; l < h->num_hidden_layers && !c->e->set; l++) {
        const struct layer *y = &h->layers[l];
        layer_check_sizes(y, l, "config.json", c->e);
        if ((experts += y->num_experts) > MAX_EXPERTS)
            err_set(
                c->e,
                "config.json: layers 0 to %lld have %lld experts; at most %d are allowed in all",
                (long long)l, (long long)experts, MAX_EXPERTS);
        if (y->num_experts && y->num_experts < h->experts_per_token)
            err_set(c->e,
                    "config.json: num_experts_per_tok is %lld, but layer %lld has %lld experts",
                    (long long)h->experts_per_token, (long long)l, (long long)y->num_experts);
        if (y->head_dim != h->layers[0].head_dim)
            err_set(c->e, "the header's layer %lld has head_dim %lld, but layer 0 has %lld",
                    (long long)l, (long long)y->head_dim, (long long)h->layers[0].head_dim);
    }
    return c->e->set ? -1 : 0;
}

/* Refuses flags that are not booleans; model_spec_flag relies on it. */
static void check_flag(const struct config *c, const char *when)
{
    if (when && !family_when_of_layer(when))
        config_when(c, when);
}

int config_read_spec(struct model_spec *h, json_t *config, const json_t *layers, struct err *e)
{
    *h = (struct model_spec){0};
    if (!json_is_object(config))
        return err_set(e, "config.json is not a JSON object");
    struct config c = {.family = read_family(config, e), .json = config, .e = e};
    if (!c.family || config_check_keys(&c))
        return -1;
    h->family = c.family;
    h->config = json_incref(config);
    h->hist = json_array();
    read_sizes(&c, h);
    if (!e->set) {
        h->layers = mem_alloc((size_t)h->num_hidden_layers * sizeof *h->layers);
        if (layers)
            read_layer_list(&c, h, layers);
        else
            read_layers(&c, h);
    }
    for (const struct family_tensor *t = c.family->tensors; t->name && !e->set; t++)
        check_flag(&c, t->when);
    for (const struct family_line *l = c.family->block; l->out && !e->set; l++)
        check_flag(&c, l->when);
    if (e->set || check_layers(&c, h) || config_ropes(&c, h, h->layers[0].head_dim)) {
        model_spec_free(h);
        return -1;
    }
    return 0;
}

int model_spec_from_config(struct model_spec *h, json_t *config, struct err *e)
{
    return config_read_spec(h, config, NULL, e);
}
