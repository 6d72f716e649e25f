/* config.json for export: see hf_config.h. The refusals and twins are facts of transformers 5:
 * - LlamaConfig refuses hidden_size % num_attention_heads != 0 -> MistralConfig without a window,
 * or, with biases, SmolLM3Config with rope everywhere;
 * - Phi3Config measures longrope's lists against hidden_size / num_attention_heads instead of
 * head_dim -> MistralConfig, split tensors;
 * - a class without head_dim (GPT-2) can only say hidden_size = heads * head size: no twin. */
#include "config.h"

#include <inttypes.h>
#include <string.h>

#include "../model/model.h"

static int width_is_refused(const struct model_spec *h)
{
    return !h->family->any_width && h->hidden_size % h->layers[0].num_attention_heads;
}

static int longrope_is_refused(const struct model_spec *h)
{
    int64_t E = h->hidden_size, H = h->layers[0].num_attention_heads;
    return h->n_ropes && h->ropes[0].long_after > 0 &&
           h->ropes[0].dims != E / H * h->ropes[0].dims / h->layers[0].head_dim;
}

/* Values whose defaults differ between classes. */
static void say_everything(struct model_spec *h)
{
    json_t *c = h->config;
    const struct layer *y = &h->layers[0];
    json_object_set_new(c, "rms_norm_eps", json_real(h->norm_eps));
    json_object_set_new(c, "num_key_value_heads", json_integer(y->num_key_value_heads));
    json_object_set_new(c, "head_dim", json_integer(y->head_dim));
    json_object_set_new(c, "max_position_embeddings", json_integer(h->max_position_embeddings));
    json_object_set_new(c, "tie_word_embeddings", json_boolean(h->tie_word_embeddings));
    if (!json_object_get(c, "rope_theta") &&
        !json_object_get(json_object_get(c, "rope_parameters"), "rope_theta"))
        json_object_set_new(c, "rope_theta", json_real(10000));
    json_object_set_new(c, "sliding_window",
                        y->sliding_window ? json_integer(y->sliding_window) : json_null());
}

static void adapt_mistral(struct model_spec *h)
{
    /* refused beside scaled rope; it is 1 */
    json_object_del(h->config, "partial_rotary_factor");
}

static void adapt_smollm3(struct model_spec *h)
{
    json_t *rope = json_array();
    for (int64_t l = 0; l < h->num_hidden_layers; l++)
        json_array_append_new(rope, json_integer(1));
    json_object_set_new(h->config, "no_rope_layers", rope); /* 1: with rope */
    json_object_set_new(h->config, "use_sliding_window", json_false());
}

/* phi3's spellings of longrope, and its original length, which only counts at the top level there.
 */
static void adapt_longrope(struct model_spec *h)
{
    static const char *const keys[] = {"rope_scaling", "rope_parameters"};
    for (int i = 0; i < 2; i++) {
        json_t *rope = json_object_get(h->config, keys[i]);
        if (!json_is_object(rope))
            continue;
        json_object_del(rope, "type");
        json_object_set_new(rope, "rope_type", json_string("longrope"));
    }
    json_object_set_new(h->config, "original_max_position_embeddings",
                        json_integer(h->ropes[0].long_after));
    adapt_mistral(h);
}

static const struct twin {
    const char *from;
    int (*refused)(const struct model_spec *h);
    const char *to, *architecture;
    int takes_biases;
    void (*adapt)(struct model_spec *h);
    const char *why;
} twins[] = {
    {"llama", width_is_refused, "mistral", "MistralForCausalLM", 0, adapt_mistral,
     "wants hidden_size to be a multiple of num_attention_heads"},
    {"llama", width_is_refused, "smollm3", "SmolLM3ForCausalLM", 1, adapt_smollm3,
     "wants hidden_size to be a multiple of num_attention_heads"},
    {"phi3", longrope_is_refused, "mistral", "MistralForCausalLM", 0, adapt_longrope,
     "measures longrope against hidden_size / num_attention_heads"},
};

static int has_biases(const struct model_spec *h)
{
    for (int i = 0; i < h->n_tensors; i++) {
        size_t n = strlen(h->tensors[i].name);
        if (n > 5 && !strcmp(h->tensors[i].name + n - 5, ".bias"))
            return 1;
    }
    return 0;
}

static const struct twin *find_twin(const struct model_spec *h)
{
    for (size_t i = 0; i < sizeof twins / sizeof *twins; i++)
        if (!strcmp(twins[i].from, h->family->name) && twins[i].refused(h) &&
            (twins[i].takes_biases || !has_biases(h)))
            return &twins[i];
    return NULL;
}

static int write_twin(struct model_spec *h, const struct twin *t, char note[400], struct err *e)
{
    if (h->n_ropes && h->ropes[0].dims != h->layers[0].head_dim)
        return err_set(e,
                       "transformers' class for %s %s, and %s, which has the same function "
                       "otherwise, rotates whole heads: "
                       "hidden_size / num_attention_heads must be %" PRId64,
                       t->from, t->why, t->to, h->layers[0].head_dim);
    snprintf(note, 400,
             "transformers' class for %s %s: written as model_type %s, which computes the same "
             "(hidden_size %" PRId64 ", %" PRId64 " heads of %" PRId64 ")",
             t->from, t->why, t->to, h->hidden_size, h->layers[0].num_attention_heads,
             h->layers[0].head_dim);
    say_everything(h);
    t->adapt(h);
    json_object_set_new(h->config, "model_type", json_string(t->to));
    json_object_set_new(h->config, "architectures", json_pack("[s]", t->architecture));
    const struct family *f = family_find(t->to);
    if (f)
        h->family = f;
    return 0;
}

/* What no class of this family can say. */
static int check_shape(const struct model_spec *h, struct err *e)
{
    const struct layer *y = &h->layers[0];
    int64_t E = h->hidden_size, H = y->num_attention_heads, D = y->head_dim;
    if (!h->family->explicit_head_dim && E != H * D)
        return err_set(e,
                       "a %s directory has no head_dim: %s must be %s times the head size, but "
                       "this model has %" PRId64 " and %" PRId64 " heads of %" PRId64
                       "; sizes that would work: hidden %" PRId64 " with %" PRId64
                       " heads, or any other multiple of %" PRId64 " with that many heads",
                       h->family->name, config_key(h->family, "hidden_size"),
                       config_key(h->family, "num_attention_heads"), E, H, D, H * D, H, D);
    if (!h->family->explicit_head_dim && H != y->num_key_value_heads &&
        !config_key(h->family, "num_key_value_heads"))
        return err_set(e,
                       "a %s directory has no KV heads: %" PRId64 " heads with %" PRId64
                       " KV heads cannot be said in it",
                       h->family->name, H, y->num_key_value_heads);
    return 0;
}

static void say_dtype(json_t *config, enum dtype dtype)
{
    const char *name = dtype == DT_F64    ? "float64"
                       : dtype == DT_F16  ? "float16"
                       : dtype == DT_BF16 ? "bfloat16"
                                          : "float32";
    int v5 = json_object_get(config, "dtype") != NULL;
    if (v5)
        json_object_set_new(config, "dtype", json_string(name));
    if (!v5 || json_object_get(config, "torch_dtype"))
        json_object_set_new(config, "torch_dtype", json_string(name));
}

int hf_config_write(struct model_spec *h, enum dtype dtype, char note[400], struct err *e)
{
    *note = 0;
    model_spec_update_config(h);
    json_object_set_new(h->config, "architectures", json_pack("[s]", h->family->architecture));
    say_dtype(h->config, dtype);
    if (check_shape(h, e) || model_spec_check_config(h, e))
        return -1;
    const struct twin *t = find_twin(h);
    if (!t)
        return width_is_refused(h)
                   ? err_set(e,
                             "transformers' class for %s wants hidden_size %" PRId64
                             " to be a multiple of num_attention_heads %" PRId64,
                             h->family->name, h->hidden_size, h->layers[0].num_attention_heads)
                   : 0;
    if (write_twin(h, t, note, e))
        return -1;
    return strcmp(h->family->name, t->to) ? 0 : model_spec_check_config(h, e);
}
