/* config.json for a directory: see hf/config.h. What is refused, and what is written instead,
 * follows from facts about transformers 5 that the families declare: a class that requires
 * hidden_size to be a multiple of num_attention_heads, one that checks longrope's lists against
 * their quotient, one without head_dim, one with a single shape for all layers. A twin is another
 * class that computes the same function: its config, read again, must give the same model and the
 * same tensors.
 *
 * Classes with a shape for each layer (block_configs) have readers outside transformers, which
 * differ: what none can run is refused, what some cannot run is said in the note. */
#include "config.h"
#include "hf.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../model/model.h"

/* Why the family's class in transformers rejects this shape, or NULL. */
static const char *refusal(const struct model_spec *h)
{
    const struct rope_table *r = h->n_ropes ? &h->ropes[0] : NULL;
    int64_t E = h->hidden_size, H = h->layers[0].num_attention_heads, D = h->layers[0].head_dim;
    if (!h->family->any_width && E % H)
        return "requires hidden_size to be a multiple of num_attention_heads";
    if (h->family->longrope_by_width && r && r->long_after > 0 && r->dims != E / H * r->dims / D)
        return "measures longrope against hidden_size / num_attention_heads";
    if (h->family->qk_norms_by_width && model_spec_find(h, "layers.0.q_norm.weight") >= 0 &&
        E / H != D)
        return "makes norms of q and k hidden_size / num_attention_heads wide";
    return NULL;
}

/* Does its config.json have a shape for each layer? */
static int has_blocks(const struct model_spec *h)
{
    return config_key(h->family, "block_configs") != NULL;
}

/* Of which sizes block_configs have one for each layer. */
static int in_blocks(enum axis a) { return a == AXIS_K || a == AXIS_F; }

/* Refuses layers that differ in a size for which the config has one number. */
static int check_even(const struct model_spec *h, enum axis a, struct err *e)
{
    unsigned kinds = family_axis_kinds(h->family, a);
    int64_t first = -1, size = 0;
    for (int64_t l = 0; l < h->num_hidden_layers; l++) {
        if ((kinds && !(h->layers[l].kinds & kinds)) || !layer_size(&h->layers[l], a))
            continue;
        if (first < 0)
            size = layer_size(&h->layers[first = l], a);
        if (layer_size(&h->layers[l], a) == size)
            continue;
        char *text = model_spec_size_text(h, a, NULL);
        err_set(e,
                "%s differs between layers (%.200s), but config.json for model_type %s has one "
                "number for all layers; a model stream (.tsz) can hold that",
                axis_rows[a].name, text, h->family->name);
        free(text);
        return -1;
    }
    return 0;
}

/* Refuses what the config of no family can express. */
static int check_common(const struct model_spec *h, struct err *e)
{
    for (enum axis a = LAYER_AXES; a < AXIS_COUNT; a++)
        if (!in_blocks(a) && check_even(h, a, e))
            return -1;
    return 0;
}

/* Refuses Mamba heads for whose channels the class has no whole number mamba_expand. */
static int check_expand(const struct model_spec *h, struct err *e)
{
    int64_t E = h->hidden_size, width = config_mixer_width(h);
    if (!width || width % E == 0 || !config_key(h->family, "mamba_expand"))
        return 0;
    return err_set(e,
                   "config.json for %s states the channels of all Mamba heads of a layer as a "
                   "multiple of hidden_size: %" PRId64 " do not suit hidden_size %" PRId64
                   ", %" PRId64 " would; a model stream (.tsz) can hold that",
                   h->family->name, width, E, (width / E + 1) * E);
}

/* Refuses what else no class of this family can express. */
static int check_shape(const struct model_spec *h, struct err *e)
{
    for (enum axis a = LAYER_AXES; a < AXIS_COUNT; a++)
        if (in_blocks(a) && !has_blocks(h) && check_even(h, a, e))
            return -1;
    const struct layer *y = &h->layers[0];
    int64_t E = h->hidden_size, H = y->num_attention_heads, D = y->head_dim;
    const char *width = config_key(h->family, "hidden_size"),
               *heads = config_key(h->family, "num_attention_heads");
    if (!h->family->explicit_head_dim && E != H * D)
        return err_set(
            e,
            "config.json for %s has no head_dim, so %s must be %s times the head size, "
            "but this model has %s %" PRId64 ", %s %" PRId64 " and a head size of %" PRId64
            "; what would work: hidden size %" PRId64 " with %" PRId64
            " head%s, or any other multiple of %" PRId64 " with that many heads",
            h->family->name, width, heads, width, E, heads, H, D, H * D, H, H == 1 ? "" : "s", D);
    if (check_expand(h, e))
        return -1;
    if (has_blocks(h) && !(y->kinds & KIND_attention))
        return err_set(e,
                       "vLLM cannot run a model of model_type %s that has no attention in layer 0: "
                       "leave layer 0 out of --drop-attention",
                       h->family->name);
    if (!h->family->explicit_head_dim && !has_blocks(h) && H != y->num_key_value_heads &&
        !config_key(h->family, "num_key_value_heads"))
        return err_set(e,
                       "config.json for %s has no key for KV heads, so num_key_value_heads must "
                       "be the %s %" PRId64 ", not %" PRId64,
                       h->family->name, heads, H, y->num_key_value_heads);
    return 0;
}

/* ---- the config of another family */

/* Does any layer have this tensor? */
static int has(const struct model_spec *h, const char *in_layer)
{
    int64_t layer;
    for (int i = 0; i < h->n_tensors; i++)
        if (!strcmp(tensor_layer(h->tensors[i].name, &layer), in_layer))
            return 1;
    return 0;
}

/* A fact from the model; else from the config or its class defaults. NULL: unknown, or the config
 * has it elsewhere. */
static json_t *fact_value(const struct model_spec *h, const char *fact)
{
    const struct layer *y = &h->layers[0];
    struct err ignored = {0}; /* bad values were refused on reading */
    const struct config c = {.family = h->family, .json = h->config, .e = &ignored};
    if (!strcmp(fact, "sliding_window"))
        return y->sliding_window ? json_integer(y->sliding_window) : json_null();
    if (!strcmp(fact, "use_sliding_window"))
        return json_boolean(y->sliding_window > 0);
    if (!strcmp(fact, "attention_bias"))
        return json_boolean(has(h, "o_proj.bias"));
    if (!strcmp(fact, "mlp_bias"))
        return json_boolean(has(h, "down_proj.bias"));
    if (!strcmp(fact, "rope_theta") && json_object_get(h->config, "rope_parameters"))
        return NULL; /* the config has it */
    return config_value(&c, fact);
}

/* Need the key not be written, since the class takes null for it anyway? */
static int implied(const struct family_key *k, const json_t *value)
{
    return json_is_null(value) && (!k->fallback || !strcmp(k->fallback, "null"));
}

/* The standard name of a rope scaling type for which the family uses another. */
static void rename_rope(const struct model_spec *h, json_t *config)
{
    static const char *const places[] = {"rope_scaling", "rope_parameters"};
    struct err ignored = {0};
    const struct config c = {.family = h->family, .json = h->config, .e = &ignored};
    json_t *names = config_value(&c, "rope_types");
    for (int i = 0; i < 2 && names; i++) {
        json_t *rope = json_object_get(config, places[i]), *type = json_object_get(rope, "type");
        type = type ? type : json_object_get(rope, "rope_type");
        json_t *name = type ? json_object_get(names, json_string_value(type)) : NULL;
        if (!type)
            continue;
        json_object_set(rope, "rope_type", name ? name : type);
        json_object_del(rope, "type");
    }
    json_decref(names);
}

/* The config of h for another family: all of that family's keys with explicit values, since
 * defaults differ, and those of the present keys that it knows. */
static json_t *config_for(const struct model_spec *h, const struct family *to)
{
    json_t *config = json_object(), *value;
    const char *key;
    json_object_foreach(h->config, key, value)
        if (config_knows(to, key, value))
            json_object_set_new(config, key, json_deep_copy(value));
    rename_rope(h, config);
    for (const struct family_key *k = to->keys; k->fact; k++)
        if (k->key && (value = fact_value(h, k->fact))) {
            if (!implied(k, value))
                json_object_set(config, k->key, value);
            json_decref(value);
        }
    if (!config_key(to, "partial_rotary_factor")) /* it is 1, and refused beside scaled rope */
        json_object_del(config, "partial_rotary_factor");
    json_object_set_new(config, "model_type", json_string(to->name));
    json_object_set_new(config, "architectures", json_pack("[s]", to->architecture));
    return config;
}

/* Refuses tensors other than those that the config implies. */
static int check_tensors(const struct model_spec *h, struct err *e)
{
    struct model_spec asked;
    model_spec_copy(&asked, h);
    model_spec_list_tensors(&asked, DT_F32);
    int i = 0, n = h->n_tensors, m = asked.n_tensors;
    while (i < n && i < m && !strcmp(asked.tensors[i].name, h->tensors[i].name))
        i++;
    if (i < n)
        err_set(e, "model_type %s has no %s", h->family->name, h->tensors[i].name);
    else if (i < m)
        err_set(e, "this model has no %s", asked.tensors[i].name);
    model_spec_free(&asked);
    return e->set ? -1 : 0;
}

/* Makes h a model of that family; -1, leaving h unchanged, if that family cannot express it. */
static int become(struct model_spec *h, const struct family *to, struct err *e)
{
    struct model_spec twin;
    model_spec_copy(&twin, h);
    json_decref(twin.config);
    twin.config = config_for(h, to);
    twin.family = to;
    model_spec_update_config(&twin);
    const char *why = refusal(&twin);
    if (why)
        err_set(e, "model_type %s %s", to->name, why);
    if (why || check_tensors(&twin, e) || check_shape(&twin, e) ||
        model_spec_check_config(&twin, e)) {
        model_spec_free(&twin);
        return -1;
    }
    model_spec_free(h);
    *h = twin;
    return 0;
}

/* Makes h a model of the first twin that can express it; -1: none, and e says why the last cannot.
 */
static int become_twin(struct model_spec *h, struct err *e)
{
    for (const char *const *twin = h->family->twins; *twin; twin++) {
        *e = (struct err){0};
        if (!become(h, family_find(*twin), e))
            return 0;
    }
    return -1;
}

/* Where the class refuses the shape. */
static int write_twin(struct model_spec *h, const char *why, char note[400], struct err *e)
{
    const char *from = h->family->name;
    const struct layer *y = &h->layers[0];
    struct err ignored = {0};
    if (become_twin(h, &ignored))
        return err_set(e,
                       "transformers' class for %s %s, and no other class computes the same: "
                       "hidden_size %" PRId64 " does not suit num_attention_heads %" PRId64
                       " with head_dim %" PRId64 ", %" PRId64 " would",
                       from, why, h->hidden_size, y->num_attention_heads, y->head_dim,
                       y->num_attention_heads * y->head_dim);
    y = &h->layers[0];
    snprintf(note, 400,
             "transformers' class for %s %s: written as model_type %s, which computes the same "
             "(hidden_size %" PRId64 ", num_attention_heads %" PRId64 ", head_dim %" PRId64 ")",
             from, why, h->family->name, h->hidden_size, y->num_attention_heads, y->head_dim);
    return 0;
}

/* Where the config cannot express it; `why` says what. */
static int write_other(struct model_spec *h, const char *why, char note[400], struct err *e)
{
    const char *from = h->family->name;
    struct err refused = {0};
    if (!become_twin(h, &refused)) {
        snprintf(note, 400,
                 "config.json for model_type %s has one shape for all layers: written as "
                 "model_type %s, which has one for each and computes the same",
                 from, h->family->name);
        return 0;
    }
    return refused.set ? err_set(e, "%.240s; nor can another model_type: %.320s", why, refused.msg)
                       : err_set(e, "%s", why);
}

/* ---- what else the config says */

static void say_dtype(json_t *config, enum dtype dtype)
{
    static const char *const names[DT_COUNT] = {
        [DT_F64] = "float64", [DT_F16] = "float16", [DT_BF16] = "bfloat16"};
    const char *name = names[dtype] ? names[dtype] : "float32";
    int v5 = json_object_get(config, "dtype") != NULL;
    if (v5)
        json_object_set_new(config, "dtype", json_string(name));
    if (!v5 || json_object_get(config, "torch_dtype"))
        json_object_set_new(config, "torch_dtype", json_string(name));
}

/* Classes outside transformers are code on the Hub, which knows only widths that ffn_mult can
 * express. */
static void name_class(struct model_spec *h)
{
    const char *const *code = h->family->auto_map;
    json_object_set_new(h->config, "architectures", json_pack("[s]", h->family->architecture));
    if (!code[0])
        return;
    json_object_del(h->config, "auto_map");
    if (config_widths_by_mult(h))
        json_object_set_new(
            h->config, "auto_map",
            json_pack("{s:s, s:s}", "AutoConfig", code[0], "AutoModelForCausalLM", code[1]));
}

/* The first layer with attention but no MLP; -1: none. */
static int64_t attention_alone(const struct model_spec *h)
{
    for (int64_t l = 0; l < h->num_hidden_layers; l++)
        if (h->layers[l].kinds == KIND_attention)
            return l;
    return -1;
}

/* Which readers of block_configs do not compute this model. */
static void note_readers(const struct model_spec *h, char note[400])
{
    size_t used = strlen(note);
    int64_t alone = attention_alone(h);
    if (!has_blocks(h))
        return;
    if (!config_widths_by_mult(h))
        snprintf(note + used, 400 - used,
                 "%sFFN widths that are not multiples of 256 are written as intermediate_size, "
                 "which NVIDIA's class, MLX and llama.cpp do not read",
                 used ? "; " : "");
    used = strlen(note);
    if (alone >= 0)
        snprintf(note + used, 400 - used,
                 "%sllama.cpp ignores the attention of layer %" PRId64
                 ", which has no MLP: give it a narrow MLP instead",
                 used ? "; " : "", alone);
}

int hf_config_write(struct model_spec *h, enum dtype dtype, char note[400], struct err *e)
{
    struct err own = {0};
    *note = 0;
    model_spec_update_config(h);
    say_dtype(h->config, dtype);
    if (check_common(h, e))
        return -1;
    int failed = check_shape(h, &own) || model_spec_check_config(h, &own);
    const char *why = failed ? NULL : refusal(h);
    if (failed)
        failed = write_other(h, own.msg, note, e);
    else if (why)
        failed = write_twin(h, why, note, e);
    if (failed)
        return -1;
    name_class(h);
    note_readers(h, note);
    return 0;
}

int hf_check_shape(const struct model_spec *h, char note[400], struct err *e)
{
    struct model_spec copy;
    model_spec_copy(&copy, h);
    int bad = hf_config_write(&copy, DT_F32, note, e);
    model_spec_free(&copy);
    return bad;
}

int hf_is_portable(const struct model_spec *h)
{
    struct model_spec copy;
    struct err ignored = {0};
    char note[400];
    model_spec_copy(&copy, h);
    int fine = !hf_config_write(&copy, DT_F32, note, &ignored);
    fine = fine &&
           (!has_blocks(&copy) || (config_widths_by_mult(&copy) && attention_alone(&copy) < 0));
    model_spec_free(&copy);
    return fine;
}
