/* What a config.json says of Mamba-2 layers: which layers have them, and the limits of their time
 * steps. See config.h. A class lists the blocks of its layers (layers_block_type, or an older
 * hybrid_override_pattern of one letter for each), or those with attention (attn_layer_indices),
 * the others being Mamba layers.
 *
 * Refused: blocks of other kinds, such as mixtures of experts beside Mamba layers; limits that are
 * not two numbers in ascending order; another activation than SiLU. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../base/mem.h"
#include "config.h"

/* Names that configs give the kinds of block; written: the first. */
static const struct {
    const char *name;
    char letter;
    unsigned kind;
} block_names[] = {{"linear_attention", 'M', KIND_mamba},
                   {"full_attention", '*', KIND_attention},
                   {"mlp", '-', KIND_mlp},
                   {"mamba", 'M', KIND_mamba},
                   {"attention", '*', KIND_attention}};
enum { BLOCK_NAMES = sizeof block_names / sizeof *block_names };

static unsigned kind_of_name(const struct config *c, const json_t *entry)
{
    char show[80];
    for (int i = 0; i < BLOCK_NAMES && json_is_string(entry); i++)
        if (!strcmp(block_names[i].name, json_string_value(entry)))
            return block_names[i].kind;
    err_set(c->e, "config.json: layers_block_type has %s, which is not supported",
            config_show(entry, show));
    return KIND_mlp;
}

static unsigned kind_of_letter(const struct config *c, char letter)
{
    for (int i = 0; i < BLOCK_NAMES; i++)
        if (block_names[i].letter == letter)
            return block_names[i].kind;
    err_set(c->e, "config.json: hybrid_override_pattern has '%c', which is not supported", letter);
    return KIND_mlp;
}

/* The config's list of blocks, or its pattern; NULL: the class has none. New reference. */
static json_t *blocks_listed(const struct config *c)
{
    json_t *list = config_value(c, "layers_block_type"), *pattern;
    if (!list || json_is_array(list))
        return list;
    pattern = config_value(c, "hybrid_override_pattern");
    if (!json_is_null(list) || !json_is_string(pattern))
        err_set(c->e, "config.json: layers_block_type must list the blocks of the layers");
    json_decref(list);
    return pattern;
}

int64_t config_count_blocks(const struct config *c)
{
    json_t *list = blocks_listed(c);
    int64_t n = json_is_string(list) ? (int64_t)json_string_length(list)
                                     : (int64_t)json_array_size(list);
    if (list && !c->e->set && (n < 1 || n > axis_rows[AXIS_L].most))
        err_set(c->e, "config.json lists the blocks of %lld layers", (long long)n);
    int known = list != NULL;
    json_decref(list);
    return known ? n : 0;
}

/* A layer is one block, or where the class has an MLP in every layer a mixer and that. */
static void read_blocks(const struct config *c, struct model_spec *h, const json_t *list)
{
    const char *letters = json_string_value(list);
    unsigned also = config_flag(c, "mlp_everywhere", 0) ? KIND_mlp : 0;
    for (int64_t l = 0; l < h->num_hidden_layers && !c->e->set; l++) {
        unsigned kind = letters ? kind_of_letter(c, letters[l])
                                : kind_of_name(c, json_array_get(list, (size_t)l));
        if (kind == also)
            err_set(c->e,
                    "config.json: %s has \"mlp\", but with model_type %s every layer has attention "
                    "or a Mamba mixer besides its MLP",
                    config_spelled(c, "layers_block_type"), c->family->name);
        h->layers[l].kinds = kind | also;
    }
}

/* Of a class that has experts beside Mamba layers: none, so far. */
static void refuse_experts(const struct config *c)
{
    int64_t experts = config_int(c, "num_experts", 0, axis_rows[AXIS_X].most, 0);
    if (experts && !family_has_axis(c->family, AXIS_X) && !c->e->set)
        err_set(c->e,
                "config.json: %s is %lld; model_type %s is not supported with experts, only with 0",
                config_spelled(c, "num_experts"), (long long)experts, c->family->name);
}

/* attn_layer_indices: the layers listed have attention, the others Mamba. */
static void read_indices(const struct config *c, struct model_spec *h, const json_t *list)
{
    size_t i;
    const json_t *entry;
    char show[80];
    for (int64_t l = 0; l < h->num_hidden_layers; l++)
        h->layers[l].kinds &= ~(unsigned)KIND_attention;
    json_array_foreach(list, i, entry) {
        int64_t l = json_integer_value(entry);
        if (!json_is_integer(entry) || l < 0 || l >= h->num_hidden_layers)
            err_set(c->e, "config.json: attn_layer_indices has %s, which is not a layer",
                    config_show(entry, show));
        else
            h->layers[l].kinds = KIND_any;
    }
    if (!json_is_array(list) && !json_is_null(list))
        err_set(c->e, "config.json: attn_layer_indices is %s; it must be a list of layers",
                config_show(list, show));
}

void config_read_mixers(const struct config *c, struct model_spec *h)
{
    json_t *blocks = blocks_listed(c), *indices = config_value(c, "attn_layer_indices");
    refuse_experts(c);
    if (blocks && !c->e->set)
        read_blocks(c, h, blocks);
    if (indices && !c->e->set)
        read_indices(c, h, indices);
    json_decref(blocks);
    json_decref(indices);
}

/* ---- time steps */

/* Infinity, as transformers writes it. */
static double real_of(const json_t *v)
{
    const char *word = json_string_value(json_object_get(v, "__float__"));
    if (word)
        return strcmp(word, "Infinity") ? NAN : (double)INFINITY;
    return json_is_number(v) ? json_number_value(v) : (double)NAN;
}

void config_read_time_steps(const struct config *c, struct model_spec *h)
{
    json_t *limits = config_value(c, "time_step_limit"), *f = config_value(c, "mamba_activation");
    char show[80];
    h->dt_min = config_real(c, "time_step_min", 0, 1e6, 0);
    h->dt_max = INFINITY;
    if (limits && !json_is_null(limits)) {
        h->dt_min = real_of(json_array_get(limits, 0));
        h->dt_max = real_of(json_array_get(limits, 1));
        if (json_array_size(limits) != 2 || !(h->dt_min >= 0 && h->dt_min < h->dt_max))
            err_set(c->e,
                    "config.json: time_step_limit is %s; it must be the least and the largest time "
                    "step",
                    config_show(limits, show));
    }
    if (f && !(json_is_string(f) &&
               (!strcmp(json_string_value(f), "silu") || !strcmp(json_string_value(f), "swish"))))
        err_set(c->e, "config.json: %s is %s; that of Mamba layers must be \"silu\"",
                config_spelled(c, "mamba_activation"), config_show(f, show));
    json_decref(limits);
    json_decref(f);
}

/* ---- writing */

static int name_of(unsigned kinds)
{
    int i = 0;
    while (!(block_names[i].kind & kinds))
        i++;
    return i;
}

/* As a list, or where the config has a pattern, as one. */
static void write_blocks(struct model_spec *h, const char *names, const char *pattern)
{
    json_t *list = json_array();
    char *letters = mem_alloc((size_t)h->num_hidden_layers + 1);
    for (int64_t l = 0; l < h->num_hidden_layers; l++) {
        int i = name_of(h->layers[l].kinds);
        json_array_append_new(list, json_string(block_names[i].name));
        letters[l] = block_names[i].letter;
    }
    if (pattern && json_is_string(json_object_get(h->config, pattern)))
        json_object_set_new(h->config, pattern, json_string(letters));
    if (!pattern || !json_object_get(h->config, pattern) || json_object_get(h->config, names))
        json_object_set(h->config, names, list);
    json_decref(list);
    free(letters);
}

/* The layers with attention. */
static void write_indices(struct model_spec *h, const char *key)
{
    json_t *list = json_array();
    for (int64_t l = 0; l < h->num_hidden_layers; l++)
        if (h->layers[l].kinds & KIND_attention)
            json_array_append_new(list, json_integer(l));
    json_object_set_new(h->config, key, list);
}

int64_t config_mixer_width(const struct model_spec *h)
{
    for (int64_t l = 0; l < h->num_hidden_layers; l++)
        if (h->layers[l].kinds & KIND_mamba)
            return layer_units(&h->layers[l], AXIS_R);
    return 0;
}

/* Classes with mamba_expand demand that all Mamba heads together are such a multiple of hidden_size
 * wide, even where no layer has any: the heads that the config states then become hidden_size wide
 * unless theirs suits. */
static void write_expand(struct model_spec *h, const char *expand)
{
    int64_t E = h->hidden_size, used = config_mixer_width(h),
            width = used ? used : layer_units(&h->layers[0], AXIS_R);
    if (!used && width % E) {
        width = h->layers[0].mamba_num_heads * E;
        json_object_set_new(h->config, config_key(h->family, "mamba_head_dim"), json_integer(E));
    }
    if (width % E == 0)
        json_object_set_new(h->config, expand, json_integer(width / E));
}

void config_write_mixers(struct model_spec *h)
{
    const char *names = config_key(h->family, "layers_block_type"),
               *indices = config_key(h->family, "attn_layer_indices"),
               *expand = config_key(h->family, "mamba_expand");
    if (names)
        write_blocks(h, names, config_key(h->family, "hybrid_override_pattern"));
    if (indices)
        write_indices(h, indices);
    if (expand)
        write_expand(h, expand);
}
