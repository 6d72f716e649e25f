/* GGUF metadata -> config.json: see gguf/gguf_private.h; its rope: gguf/rope.c. In:
 * general.architecture and its sizes. Sizes that are lists of equal values count as one. Refused:
 * metadata of the architecture that is not understood here, files that are one part of several,
 * layers of different widths (but see blocks.c). */
#include "gguf_private.h"

#include <inttypes.h>
#include <math.h>
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

static int has(const struct gguf_making *m, const char *tensor)
{
    return gguf_find(m->g, tensor) >= 0;
}

/* Has any layer the tensor? */
static int any_has(const struct gguf_making *m, const char *in_layer, int64_t layers)
{
    char name[TENSOR_NAME];
    int found = 0;
    for (int64_t l = 0; l < layers && !found; l++) {
        snprintf(name, sizeof name, "blk.%" PRId64 ".%s", l, in_layer);
        found = has(m, name);
    }
    return found;
}

static int has_blocks(const struct gguf_making *m)
{
    return config_key(m->family, "block_configs") != NULL;
}

/* The number of layers, where it is no more than a config may have. */
static int64_t layers(const struct gguf_making *m)
{
    int64_t L = gguf_size(m, "block_count", -1), most = axis_rows[AXIS_L].most;
    if (L > most)
        err_set(m->e, "'%s': %s.block_count %" PRId64 " is more than the limit of %" PRId64,
                gguf_path(m->g), m->arch, L, most);
    return m->e->set ? 0 : L;
}

static int64_t heads(const struct gguf_making *m)
{
    if (gguf_has_mixers(m->family))
        return gguf_common_size(m, "attention.head_count", layers(m));
    return has_blocks(m) ? gguf_block_heads(m->g, m->arch, layers(m), m->e)
                         : gguf_size(m, "attention.head_count", -1);
}

/* E / H; 0 if H is 0 or does not divide E. */
static int64_t width_by_heads(const struct gguf_making *m)
{
    int64_t E = gguf_size(m, "embedding_length", -1), H = heads(m);
    return H > 0 && E % H == 0 ? E / H : 0;
}

static int64_t head_size(const struct gguf_making *m)
{
    return gguf_size(m, "attention.key_length", width_by_heads(m));
}

/* All layers have experts. */
static void put_experts(const struct gguf_making *m)
{
    int64_t width = gguf_size(m, "feed_forward_length", -1),
            shared = gguf_size(m, "expert_shared_feed_forward_length", width);
    gguf_put_fact(m, "num_experts", json_integer(gguf_size(m, "expert_count", -1)));
    gguf_put_fact(m, "num_experts_per_tok", json_integer(gguf_size(m, "expert_used_count", -1)));
    gguf_put_fact(m, "moe_intermediate_size",
                  json_integer(gguf_size(m, "expert_feed_forward_length", width)));
    gguf_put_fact(m, "shared_expert_intermediate_size", json_integer(shared));
    gguf_put_fact(m, "norm_topk_prob", json_boolean(m->row->renormalises));
}

/* Of layers that are alike, or of each. */
static void put_layer_sizes(const struct gguf_making *m)
{
    if (has_blocks(m)) {
        gguf_put_fact(m, "block_configs", gguf_blocks(m->g, m->arch, layers(m), m->e));
        return;
    }
    if (family_has_axis(m->family, AXIS_M))
        gguf_put_mamba(m);
    if (gguf_has_mixers(m->family)) {
        gguf_put_mixers(m, layers(m));
        return;
    }
    gguf_put_fact(m, "intermediate_size", json_integer(gguf_size(m, "feed_forward_length", -1)));
    if (family_has_axis(m->family, AXIS_X))
        put_experts(m);
    gguf_put_fact(m, "num_key_value_heads",
                  json_integer(gguf_size(m, "attention.head_count_kv", heads(m))));
}

static void put_sizes(const struct gguf_making *m)
{
    int64_t E = gguf_size(m, "embedding_length", -1), H = heads(m);
    int64_t derived = width_by_heads(m), D = head_size(m);
    int embed = gguf_find(m->g, "token_embd.weight");
    if (!D || gguf_size(m, "attention.value_length", D) != D)
        err_set(m->e,
                "'%s': heads with %" PRId64 " key and %" PRId64 " value channels are not supported",
                gguf_path(m->g), D, gguf_size(m, "attention.value_length", D));
    if (!config_key(m->family, "head_dim") && D != derived)
        err_set(m->e,
                "'%s': family %s cannot combine heads of %" PRId64
                " channels with a hidden size of %" PRId64,
                gguf_path(m->g), m->family->name, D, E);
    if (embed < 0)
        err_set(m->e, "'%s' has no tensor token_embd.weight", gguf_path(m->g));
    if (m->e->set)
        return;
    gguf_put_fact(m, "vocab_size", json_integer(gguf_tensor(m->g, embed)->shape[0]));
    gguf_put_fact(m, "hidden_size", json_integer(E));
    gguf_put_fact(m, "num_hidden_layers", json_integer(gguf_size(m, "block_count", -1)));
    gguf_put_fact(m, "num_attention_heads", json_integer(H));
    put_layer_sizes(m);
    if (m->family->explicit_head_dim || D != derived)
        gguf_put_fact(m, "head_dim", json_integer(D));
    gguf_put_fact(m, "max_position_embeddings", json_integer(gguf_size(m, "context_length", -1)));
}

/* The class defaults, written out. */
static void put_default(const struct gguf_making *m, const char *fact)
{
    json_t *nothing = json_object();
    struct config c = {.family = m->family, .json = nothing, .e = m->e};
    gguf_put_fact(m, fact, config_value(&c, fact));
    json_decref(nothing);
}

static void put_window(const struct gguf_making *m, int64_t window)
{
    int taken = config_key(m->family, "sliding_window") &&
                !config_key(m->family, "use_sliding_window");
    json_t *types = gguf_layer_types(m->g, m->arch, layers(m), m->e);
    if ((window && !taken) || (types && !config_key(m->family, "layer_types")))
        err_set(m->e,
                "'%s': %s.attention.sliding_window %" PRId64
                " is not supported for this architecture",
                gguf_path(m->g), m->arch, window);
    gguf_put_fact(m, "sliding_window", window ? json_integer(window) : json_null());
    if (types)
        gguf_put_fact(m, "layer_types", types);
}

static void put_facts(const struct gguf_making *m)
{
    for (int i = 0; gguf_facts[i].name; i++)
        if (gguf_meta(m->g, m->arch, gguf_facts[i].name)) {
            double x = gguf_number(m, gguf_facts[i].name, NAN);
            gguf_put_fact(m, gguf_facts[i].fact,
                          gguf_facts[i].is_flag ? json_boolean(x != 0) : gguf_json_real(x));
        }
}

/* Without it in the file, llama.cpp scales scores by key_length, or for some models, which it
 * recognises by their number of layers, by hidden_size / num_attention_heads. */
static void put_score_scale(const struct gguf_making *m)
{
    int64_t wide = m->row->wide_score_layers;
    int is_wide = wide && gguf_size(m, "block_count", -1) == wide;
    int64_t scalar = is_wide ? width_by_heads(m) : head_size(m);
    if (!scalar)
        err_set(m->e,
                "'%s': the hidden size, from which the attention scale follows, must be a multiple "
                "of the number of heads",
                gguf_path(m->g));
    gguf_put_fact(m, "query_pre_attn_scalar", json_integer(scalar));
    if (!gguf_meta(m->g, m->arch, "attention.scale"))
        gguf_put_fact(m, "attention_scale", json_real(1 / sqrt((double)(scalar ? scalar : 1))));
}

/* Flags that no metadata state: whether there are such tensors. */
static void put_presences(const struct gguf_making *m)
{
    int qkv_bias = has(m, "blk.0.attn_q.bias") || has(m, "blk.0.attn_qkv.bias"),
        grouped = config_key(m->family, "multi_query") &&
                  gguf_size(m, "attention.head_count_kv", heads(m)) > 1;
    if (config_key(m->family, "qk_layernorm")) /* llama.cpp ignores what the metadata say */
        gguf_put_fact(m, "use_parallel_residual", json_boolean(!has(m, "blk.0.ffn_norm.weight")));
    gguf_put_fact(m, "qk_layernorm", json_boolean(has(m, "blk.0.attn_q_norm.weight")));
    gguf_put_fact(m, "qk_norms", json_boolean(has(m, "blk.0.attn_q_norm.weight")));
    gguf_put_fact(m, "attention_bias", json_boolean(qkv_bias));
    gguf_put_fact(m, "use_qkv_bias", json_boolean(qkv_bias));
    gguf_put_fact(m, "use_bias", json_boolean(qkv_bias));
    gguf_put_fact(m, "attention_out_bias", json_boolean(has(m, "blk.0.attn_output.bias")));
    gguf_put_fact(m, "mlp_bias", json_boolean(any_has(m, "ffn_up.bias", layers(m))));
    gguf_put_fact(m, "conv_bias", json_boolean(any_has(m, "ssm_conv1d.bias", layers(m))));
    gguf_put_fact(m, "multi_query", json_boolean(!grouped));
    gguf_put_fact(m, "new_decoder_architecture", json_boolean(grouped));
    gguf_put_fact(m, "num_ln_in_parallel_attn",
                  json_integer(has(m, "blk.0.attn_norm_2.weight") ? 2 : 1));
}

static void put_choices(const struct gguf_making *m, int tied)
{
    int rms = gguf_meta(m->g, m->arch, "attention.layer_norm_rms_epsilon") != NULL;
    put_default(m, "activation");
    gguf_put_fact(
        m, "norm_eps",
        gguf_json_real(gguf_number(
            m, rms ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon", NAN)));
    gguf_put_fact(m, "tie_word_embeddings", json_boolean(tied));
    put_facts(m);
    put_presences(m);
    int some_layers = gguf_windows(m->row, layers(m)) > 0;
    int64_t window = gguf_size(m, "attention.sliding_window", some_layers ? -1 : 0);
    put_window(m, m->row->window_layers && !some_layers ? 0 : window);
    put_score_scale(m);
}

static void put_token(const struct gguf_making *m, const char *key, const char *meta)
{
    int64_t id = gguf_meta_int(m->g, meta, -1);
    json_object_set_new(m->config, key, id < 0 ? json_null() : json_integer(id));
}

/* The dtype of the embedding stands for that of all matrices. */
static const char *torch_dtype(const struct gguf_making *m)
{
    int d = gguf_dtype(gguf_tensor(m->g, gguf_find(m->g, "token_embd.weight"))->type);
    if (d == DT_F16)
        return "float16";
    return d == DT_BF16 ? "bfloat16" : "float32";
}

/* ---- refusals */

static int is_known(const struct gguf_making *m, const char *name, size_t n)
{
    static const char *const mamba[] = {"ssm.conv_kernel", "ssm.inner_size", "ssm.state_size",
                                        "ssm.time_step_rank", "ssm.group_count"};
    for (size_t i = 0; i < sizeof mamba / sizeof *mamba; i++)
        if (strlen(mamba[i]) == n && !memcmp(mamba[i], name, n))
            return family_has_axis(m->family, AXIS_M);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strlen(known[i]) == n && !memcmp(known[i], name, n))
            return 1;
    for (int i = 0; gguf_facts[i].name; i++)
        if (strlen(gguf_facts[i].name) == n && !memcmp(gguf_facts[i].name, name, n) &&
            config_key(m->family, gguf_facts[i].fact))
            return 1;
    return 0;
}

static int check_known(const struct gguf_making *m)
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
    if (gguf_size(m, "expert_count", 0) && !family_has_axis(m->family, AXIS_X))
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
    const struct gguf_making m = {
        .g = g, .arch = row->arch, .family = family, .row = row, .config = json_object(), .e = e};
    if (!check_known(&m)) {
        json_object_set_new(m.config, "architectures", json_pack("[s]", family->architecture));
        json_object_set_new(m.config, "model_type", json_string(family->name));
        put_sizes(&m);
        gguf_config_rope(&m, head_size(&m));
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
