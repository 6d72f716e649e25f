/* GGUF metadata -> config.json: see gguf/gguf_private.h. In: general.architecture and its sizes,
 * the rope tensors. Sizes that are lists of equal values count as one. Refused: metadata of the
 * architecture that is not understood here, files that are one part of several, layers of
 * different widths (but see blocks.c), rotary dimensions that the family does not support. */
#include "gguf_private.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../model/model.h"

/* Metadata of an architecture that is read below, or does not change the function. */
static const char *const known[] = {"context_length",
                                    "embedding_length",
                                    "block_count",
                                    "feed_forward_length",
                                    "vocab_size",
                                    "attention.head_count",
                                    "attention.head_count_kv",
                                    "attention.key_length",
                                    "attention.value_length",
                                    "attention.layer_norm_rms_epsilon",
                                    "attention.layer_norm_epsilon",
                                    "attention.causal",
                                    "attention.sliding_window",
                                    "attention.sliding_window_pattern",
                                    "rope.dimension_count",
                                    "rope.freq_base",
                                    "rope.scaling.type",
                                    "rope.scaling.factor",
                                    "rope.scaling.attn_factor",
                                    "rope.scaling.original_context_length",
                                    "rope.scaling.finetuned",
                                    "rope.scale_linear",
                                    "tensor_data_layout",
                                    "expert_count",
                                    "expert_used_count",
                                    "expert_feed_forward_length",
                                    "expert_shared_feed_forward_length"};

/* Metadata that some families have a key for; unknown in the others. When absent, llama.cpp's
 * default equals the class's. */
const struct gguf_fact gguf_facts[] = {
    {"attn_logit_softcapping", "attention_cap", 0},
    {"final_logit_softcapping", "logit_cap", 0},
    {"rope.freq_base_swa", "rope_local_theta", 0},
    {"use_parallel_residual", "use_parallel_residual", 1},
    {"attention.scale", "attention_scale", 0},
    {"embedding_scale", "embed_scale", 0},
    {"residual_scale", "residual_scale", 0},
    {"logit_scale", "logit_divisor", 0},
    {"logit_scale", "logit_scale", 0},
    {NULL, NULL, 0},
};

struct making {
    const struct gguf *g;
    const char *arch;
    const struct family *family;
    const struct family_gguf *row;
    json_t *config;
    struct err *e;
};

/* ---- metadata */

/* A number of the architecture, or a list of equal ones. missing NAN: required. */
static double number(const struct making *m, const char *name, double missing)
{
    const struct gguf_value *v = gguf_meta(m->g, m->arch, name);
    double first = missing, x;
    if (!v && isnan(missing))
        err_set(m->e, "'%s' has no metadata %s.%s", gguf_path(m->g), m->arch, name);
    for (int64_t i = 0; v && i < v->n; i++) {
        if (!gguf_real(v, i, &x) || isnan(x))
            err_set(m->e, "'%s': %s.%s must be a number", gguf_path(m->g), m->arch, name);
        else if (i && x != first)
            err_set(m->e,
                    "'%s': %s.%s differs between layers (%g and %g), which config.json for family "
                    "%s cannot express",
                    gguf_path(m->g), m->arch, name, first, x, m->family->name);
        else
            first = x;
    }
    return m->e->set ? 1 : first;
}

static int64_t size(const struct making *m, const char *name, int64_t missing)
{
    double x = number(m, name, missing < 0 ? NAN : (double)missing);
    if (x != floor(x) || x < 0 || x > 0x1p40)
        err_set(m->e, "'%s': %s.%s must be a non-negative integer, not %g", gguf_path(m->g),
                m->arch, name, x);
    return m->e->set ? 1 : (int64_t)x;
}

static int has(const struct making *m, const char *tensor) { return gguf_find(m->g, tensor) >= 0; }

/* ---- config.json */

static void put(const struct making *m, const char *fact, json_t *value)
{
    const char *key = config_key(m->family, fact);
    if (key)
        json_object_set_new(m->config, key, value);
    else
        json_decref(value);
}

static int has_blocks(const struct making *m)
{
    return config_key(m->family, "block_configs") != NULL;
}

/* The number of layers, where it is no more than a config may have. */
static int64_t layers(const struct making *m)
{
    int64_t L = size(m, "block_count", -1), most = axis_rows[AXIS_L].most;
    if (L > most)
        err_set(m->e, "'%s': %s.block_count %" PRId64 " is more than the limit of %" PRId64,
                gguf_path(m->g), m->arch, L, most);
    return m->e->set ? 0 : L;
}

static int64_t heads(const struct making *m)
{
    return has_blocks(m) ? gguf_block_heads(m->g, m->arch, layers(m), m->e)
                         : size(m, "attention.head_count", -1);
}

/* E / H; 0 if H is 0 or does not divide E. */
static int64_t width_by_heads(const struct making *m)
{
    int64_t E = size(m, "embedding_length", -1), H = heads(m);
    return H > 0 && E % H == 0 ? E / H : 0;
}

static int64_t head_size(const struct making *m)
{
    return size(m, "attention.key_length", width_by_heads(m));
}

/* All layers have experts. */
static void put_experts(const struct making *m)
{
    int64_t width = size(m, "feed_forward_length", -1),
            shared = size(m, "expert_shared_feed_forward_length", width);
    put(m, "num_experts", json_integer(size(m, "expert_count", -1)));
    put(m, "num_experts_per_tok", json_integer(size(m, "expert_used_count", -1)));
    put(m, "moe_intermediate_size", json_integer(size(m, "expert_feed_forward_length", width)));
    put(m, "shared_expert_intermediate_size", json_integer(shared));
    put(m, "norm_topk_prob", json_boolean(m->row->renormalises));
}

/* Of layers that are alike, or of each. */
static void put_layer_sizes(const struct making *m)
{
    if (has_blocks(m)) {
        put(m, "block_configs", gguf_blocks(m->g, m->arch, layers(m), m->e));
        return;
    }
    put(m, "intermediate_size", json_integer(size(m, "feed_forward_length", -1)));
    if (family_has_axis(m->family, AXIS_X))
        put_experts(m);
    put(m, "num_key_value_heads", json_integer(size(m, "attention.head_count_kv", heads(m))));
}

static void put_sizes(const struct making *m)
{
    int64_t E = size(m, "embedding_length", -1), H = heads(m);
    int64_t derived = width_by_heads(m), D = head_size(m);
    int embed = gguf_find(m->g, "token_embd.weight");
    if (!D || size(m, "attention.value_length", D) != D)
        err_set(m->e,
                "'%s': heads with %" PRId64 " key and %" PRId64 " value channels are not supported",
                gguf_path(m->g), D, size(m, "attention.value_length", D));
    if (!config_key(m->family, "head_dim") && D != derived)
        err_set(m->e,
                "'%s': family %s cannot combine heads of %" PRId64
                " channels with a hidden size of %" PRId64,
                gguf_path(m->g), m->family->name, D, E);
    if (embed < 0)
        err_set(m->e, "'%s' has no tensor token_embd.weight", gguf_path(m->g));
    if (m->e->set)
        return;
    put(m, "vocab_size", json_integer(gguf_tensor(m->g, embed)->shape[0]));
    put(m, "hidden_size", json_integer(E));
    put(m, "num_hidden_layers", json_integer(size(m, "block_count", -1)));
    put(m, "num_attention_heads", json_integer(H));
    put_layer_sizes(m);
    if (m->family->explicit_head_dim || D != derived)
        put(m, "head_dim", json_integer(D));
    put(m, "max_position_embeddings", json_integer(size(m, "context_length", -1)));
}

/* The class defaults, written out. */
static void put_default(const struct making *m, const char *fact)
{
    json_t *nothing = json_object();
    struct config c = {.family = m->family, .json = nothing, .e = m->e};
    put(m, fact, config_value(&c, fact));
    json_decref(nothing);
}

static void put_window(const struct making *m, int64_t window)
{
    int taken = config_key(m->family, "sliding_window") &&
                !config_key(m->family, "use_sliding_window");
    json_t *types = gguf_layer_types(m->g, m->arch, layers(m), m->e);
    if ((window && !taken) || (types && !config_key(m->family, "layer_types")))
        err_set(m->e,
                "'%s': %s.attention.sliding_window %" PRId64
                " is not supported for this architecture",
                gguf_path(m->g), m->arch, window);
    put(m, "sliding_window", window ? json_integer(window) : json_null());
    if (types)
        put(m, "layer_types", types);
}

static void put_facts(const struct making *m)
{
    for (int i = 0; gguf_facts[i].name; i++)
        if (gguf_meta(m->g, m->arch, gguf_facts[i].name)) {
            double x = number(m, gguf_facts[i].name, NAN);
            put(m, gguf_facts[i].fact,
                gguf_facts[i].is_flag ? json_boolean(x != 0) : gguf_json_real(x));
        }
}

/* Without it in the file, llama.cpp scales scores by key_length, or for some models, which it
 * recognises by their number of layers, by hidden_size / num_attention_heads. */
static void put_score_scale(const struct making *m)
{
    int64_t wide = m->row->wide_score_layers;
    int is_wide = wide && size(m, "block_count", -1) == wide;
    int64_t scalar = is_wide ? width_by_heads(m) : head_size(m);
    if (!scalar)
        err_set(m->e,
                "'%s': the hidden size, from which the attention scale follows, must be a multiple "
                "of the number of heads",
                gguf_path(m->g));
    put(m, "query_pre_attn_scalar", json_integer(scalar));
    if (!gguf_meta(m->g, m->arch, "attention.scale"))
        put(m, "attention_scale", json_real(1 / sqrt((double)(scalar ? scalar : 1))));
}

/* Flags that no metadata state: whether there are such tensors. */
static void put_presences(const struct making *m)
{
    int qkv_bias = has(m, "blk.0.attn_q.bias") || has(m, "blk.0.attn_qkv.bias"),
        grouped = config_key(m->family, "multi_query") &&
                  size(m, "attention.head_count_kv", heads(m)) > 1;
    if (config_key(m->family, "qk_layernorm")) /* llama.cpp ignores what the metadata say */
        put(m, "use_parallel_residual", json_boolean(!has(m, "blk.0.ffn_norm.weight")));
    put(m, "qk_layernorm", json_boolean(has(m, "blk.0.attn_q_norm.weight")));
    put(m, "attention_bias", json_boolean(qkv_bias));
    put(m, "use_qkv_bias", json_boolean(qkv_bias));
    put(m, "use_bias", json_boolean(qkv_bias));
    put(m, "attention_out_bias", json_boolean(has(m, "blk.0.attn_output.bias")));
    put(m, "mlp_bias", json_boolean(has(m, "blk.0.ffn_up.bias")));
    put(m, "multi_query", json_boolean(!grouped));
    put(m, "new_decoder_architecture", json_boolean(grouped));
    put(m, "num_ln_in_parallel_attn", json_integer(has(m, "blk.0.attn_norm_2.weight") ? 2 : 1));
}

static void put_choices(const struct making *m, int tied)
{
    int rms = gguf_meta(m->g, m->arch, "attention.layer_norm_rms_epsilon") != NULL;
    put_default(m, "activation");
    put(m, "norm_eps",
        gguf_json_real(number(
            m, rms ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon", NAN)));
    put(m, "tie_word_embeddings", json_boolean(tied));
    put_facts(m);
    put_presences(m);
    int some_layers = gguf_windows(m->row, layers(m)) > 0;
    int64_t window = size(m, "attention.sliding_window", some_layers ? -1 : 0);
    put_window(m, m->row->window_layers && !some_layers ? 0 : window);
    put_score_scale(m);
}

/* The number of rotating channels, as partial_rotary_factor if the family has that key; otherwise
 * all channels of a head must rotate. */
static int64_t put_rotating(const struct making *m)
{
    int64_t D = head_size(m), R = size(m, "rope.dimension_count", D);
    if (R < 2 || R > D || R % 2 || (R != D && !config_key(m->family, "partial_rotary_factor")))
        err_set(m->e,
                "'%s': %s.rope.dimension_count %" PRId64 " is not supported for heads of %" PRId64
                " channels",
                gguf_path(m->g), m->arch, R, D);
    double part = (double)R / (double)D;
    if (floor(part * (double)D) < (double)R)
        part = nextafter(part, 2);
    put(m, "partial_rotary_factor", json_real(part));
    return R;
}

static json_t *longrope(struct making *m, int64_t n, struct gguf *g)
{
    double *near = gguf_divisors(g, "rope_factors_short.weight", n, m->e),
           *far = gguf_divisors(g, "rope_factors_long.weight", n, m->e);
    json_t *scaling = NULL;
    if (near && far) {
        scaling = json_pack("{s:s, s:o, s:o}", "type", "longrope", "short_factor",
                            gguf_json_reals(near, n), "long_factor", gguf_json_reals(far, n));
        int64_t P0 = size(m, "rope.scaling.original_context_length", -1),
                P = size(m, "context_length", -1);
        double s = (double)P / (double)P0, said = number(m, "rope.scaling.attn_factor", -1),
               usual = s <= 1 ? 1 : sqrt(1 + log(s) / log((double)P0));
        if (said > 0 && fabs(said - usual) > 1e-5)
            json_object_set_new(scaling, "attention_factor", gguf_json_real(said));
        json_object_set_new(m->config, "original_max_position_embeddings", json_integer(P0));
    }
    free(near);
    free(far);
    return scaling;
}

/* attention: what llama.cpp multiplies the usual magnitude by. */
static json_t *yarn(const struct making *m, double factor, double attention)
{
    json_t *scaling = json_pack("{s:s, s:o, s:I}", "rope_type", "yarn", "factor",
                                gguf_json_real(factor), "original_max_position_embeddings",
                                (json_int_t)size(m, "rope.scaling.original_context_length", -1));
    if (attention != 1)
        json_object_set_new(scaling, "attention_factor",
                            json_real(attention * (1 + 0.1 * log(factor))));
    return scaling;
}

static json_t *rope_scaling(struct making *m, int64_t R, double theta, struct gguf *g)
{
    const struct gguf_value *v = gguf_meta(m->g, m->arch, "rope.scaling.type");
    char *key = mem_format("%s.rope.scaling.type", m->arch),
         *type = v ? gguf_meta_text(m->g, key) : NULL;
    double factor = number(m, "rope.scaling.factor", number(m, "rope.scale_linear", 1)),
           attention = number(m, "rope.scaling.attn_factor", 1),
           *divisor = gguf_divisors(g, "rope_freqs.weight", R / 2, m->e);
    json_t *scaling = NULL;
    if (divisor)
        scaling = gguf_rope_from_divisors(divisor, R / 2, theta, size(m, "context_length", -1));
    else if (has(m, "rope_factors_long.weight"))
        scaling = longrope(m, R / 2, g);
    else if (type && !strcmp(type, "yarn"))
        scaling = yarn(m, factor, attention);
    else if (type && strcmp(type, "none") && strcmp(type, "linear"))
        err_set(m->e, "'%s': rope scaling %.60s is not supported", gguf_path(m->g), type);
    else if (factor != 1 && (!type || !strcmp(type, "linear")))
        scaling = json_pack("{s:s, s:o}", "rope_type", "linear", "factor", gguf_json_real(factor));
    int is_used = has(m, "rope_factors_long.weight") || (type && !strcmp(type, "yarn"));
    if (attention != 1 && !is_used)
        err_set(m->e, "'%s': %s.rope.scaling.attn_factor is not supported", gguf_path(m->g),
                m->arch);
    free(divisor);
    free(type);
    free(key);
    return scaling ? scaling : json_null();
}

static void put_rope(struct making *m, struct gguf *g)
{
    if (!config_key(m->family, "rope_theta") || m->e->set)
        return;
    int64_t R = put_rotating(m);
    double theta = number(m, "rope.freq_base", 10000);
    if (!m->e->set)
        put(m, "rope_theta", gguf_json_real(theta));
    if (!m->e->set)
        json_object_set_new(m->config, "rope_scaling", rope_scaling(m, R, theta, g));
}

static void put_token(const struct making *m, const char *key, const char *meta)
{
    int64_t id = gguf_meta_int(m->g, meta, -1);
    json_object_set_new(m->config, key, id < 0 ? json_null() : json_integer(id));
}

/* The dtype of the embedding stands for that of all matrices. */
static const char *torch_dtype(const struct making *m)
{
    int d = gguf_dtype(gguf_tensor(m->g, gguf_find(m->g, "token_embd.weight"))->type);
    if (d == DT_F16)
        return "float16";
    return d == DT_BF16 ? "bfloat16" : "float32";
}

/* ---- refusals */

static int is_known(const struct making *m, const char *name, size_t n)
{
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strlen(known[i]) == n && !memcmp(known[i], name, n))
            return 1;
    for (int i = 0; gguf_facts[i].name; i++)
        if (strlen(gguf_facts[i].name) == n && !memcmp(gguf_facts[i].name, name, n) &&
            config_key(m->family, gguf_facts[i].fact))
            return 1;
    return 0;
}

static int check_known(const struct making *m)
{
    size_t prefix = strlen(m->arch);
    for (int i = 0; i < gguf_values(m->g); i++) {
        struct gguf_text key = gguf_value_at(m->g, i)->key;
        if ((size_t)key.n <= prefix || strncmp(key.s, m->arch, prefix) || key.s[prefix] != '.')
            continue;
        if (!is_known(m, key.s + prefix + 1, (size_t)key.n - prefix - 1))
            return err_set(m->e,
                           "'%s': metadata key %.*s may change the function and is not supported",
                           gguf_path(m->g), (int)key.n, key.s);
    }
    if (size(m, "expert_count", 0) && !family_has_axis(m->family, AXIS_X))
        return err_set(m->e, "'%s' is a mixture of experts, which family %s is not",
                       gguf_path(m->g), m->family->name);
    if (gguf_meta_int(m->g, "split.count", 1) > 1)
        return err_set(m->e,
                       "'%s' is one of %" PRId64
                       " parts of a model; join them first (llama-gguf-split --merge)",
                       gguf_path(m->g), gguf_meta_int(m->g, "split.count", 1));
    return m->e->set ? -1 : 0;
}

json_t *gguf_config(struct gguf *g, const struct family *family, const struct family_gguf *row,
                    int tied, struct err *e)
{
    struct making m = {
        .g = g, .arch = row->arch, .family = family, .row = row, .config = json_object(), .e = e};
    if (!check_known(&m)) {
        json_object_set_new(m.config, "architectures", json_pack("[s]", family->architecture));
        json_object_set_new(m.config, "model_type", json_string(family->name));
        put_sizes(&m);
        put_rope(&m, g);
        put_choices(&m, tied);
        put_token(&m, "bos_token_id", "tokenizer.ggml.bos_token_id");
        put_token(&m, "eos_token_id", "tokenizer.ggml.eos_token_id");
        if (!e->set)
            json_object_set_new(m.config, "torch_dtype", json_string(torch_dtype(&m)));
    }
    if (!e->set)
        return m.config;
    json_decref(m.config);
    return NULL;
}
