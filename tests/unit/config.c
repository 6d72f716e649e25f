/* Reading config.json: defaults and rules of every family, and what must be refused, by name. */
#include <math.h>
#include <string.h>

#include "spec.h"

/* Two layers of nemotron-nas, alike. */
#define BLOCK(attention, ffn) "{'attention':" attention ",'ffn':" ffn "}"
#define BLOCKS(attention, ffn) \
    "{'model_type':'nemotron-nas','hidden_size':48,'num_attention_heads':6,'num_hidden_layers':2," \
    "'" \
    "block_configs':[" BLOCK(attention, ffn) "," BLOCK(attention, ffn) "]}"

/* ---- rules of reading */

static void test_rules(void)
{
    struct err e;
    struct model_spec h;
#define READS(config, condition) \
    do { \
        int rc_ = head_of(&h, config, &e); \
        CHECK(!rc_ && (condition), "%s: %s %s", config, #condition, e.msg); \
        if (!rc_) \
            model_spec_free(&h); \
    } while (0)
    READS("{'model_type':'mistral'}",
          h.layers[0].num_key_value_heads == 8 && h.layers[31].sliding_window == 4096);
    READS("{'model_type':'mistral','num_key_value_heads':null,'sliding_window':null}",
          h.layers[0].num_key_value_heads == 32 && !h.layers[0].sliding_window);
    READS("{'model_type':'llama','num_attention_heads':16}",
          h.layers[0].num_key_value_heads == 16 && h.layers[0].head_dim == 256);
    READS("{'model_type':'qwen2','num_key_value_heads':null,'num_attention_heads':16}",
          h.layers[0].num_key_value_heads == 16);
    READS("{'model_type':'qwen3'}",
          h.layers[0].head_dim == 128 && h.norm_eps == 1e-6 && !h.tie_word_embeddings);
    READS("{'model_type':'olmo2'}",
          h.norm_eps == 1e-5 && h.layers[0].num_key_value_heads == 32 && !h.tie_word_embeddings);
    READS(SMALL("olmo2", ""),
          h.tensors[model_spec_find(&h, "layers.1.q_norm.weight")].shape[0] == 48 &&
              h.tensors[model_spec_find(&h, "layers.1.k_norm.weight")].shape[0] == 16);
    READS("{'model_type':'smollm3'}", h.layers[0].num_key_value_heads == 4 &&
                                          h.tie_word_embeddings && h.layers[2].rope == 0 &&
                                          h.layers[3].rope == -1 && h.layers[34].rope == 0 &&
                                          h.layers[35].rope == -1 && !h.layers[3].sliding_window);
    READS(SMALL("smollm3", ",'no_rope_layers':[0,1,1,0],'no_rope_layer_interval':2"),
          h.layers[0].rope == -1 && h.layers[1].rope == 0 && h.layers[3].rope == -1);
    READS(SMALL("smollm3",
                ",'use_sliding_window':true,'sliding_window':7,'no_rope_layer_interval':2"),
          !h.layers[0].sliding_window && h.layers[1].sliding_window == 7);
    READS("{'model_type':'gemma2'}",
          h.layers[0].head_dim == 256 && h.layers[0].sliding_window == 4096 &&
              !h.layers[1].sliding_window && h.attention_cap == 50 && h.logit_cap == 30 &&
              h.embed_scale == 48 && h.layers[0].attention_scale == 0.0625 &&
              h.activation == ACT_GELU_TANH);
    READS(SMALL("gemma2", ",'query_pre_attn_scalar':144,'attn_logit_softcapping':null,'final_logit_"
                          "softcapping':null,'head_dim':64"),
          !h.attention_cap && !h.logit_cap && h.layers[3].attention_scale == 1.0 / 12);
    READS("{'model_type':'gemma3_text'}", h.layers[4].sliding_window == 4096 &&
                                              !h.layers[5].sliding_window &&
                                              h.layers[6].sliding_window && !h.logit_cap);
    READS(SMALL("gemma3_text", ",'sliding_window_pattern':2,'attn_logit_softcapping':9.0"),
          h.layers[2].rope == 1 && h.layers[3].rope == 0 && !h.attention_cap);
    READS("{'model_type':'gpt_neox'}", h.activation == ACT_GELU && !h.tie_word_embeddings &&
                                           model_spec_find(&h, "layers.9.k_proj.bias") >= 0 &&
                                           model_spec_flag(&h, "use_parallel_residual") &&
                                           h.ropes[0].inv_freq[0] == 1);
    READS("{'model_type':'gpt_neox','attention_bias':false,'use_parallel_residual':false}",
          model_spec_find(&h, "layers.9.k_proj.bias") < 0 &&
              model_spec_find(&h, "layers.9.up_proj.bias") >= 0 &&
              model_spec_flag(&h, "!use_parallel_residual"));
    READS("{'model_type':'granite'}", h.layers[7].attention_scale == 1 && h.embed_scale == 1 &&
                                          h.residual_scale == 1 && h.logit_scale == 1);
    READS(SMALL("granite", ",'attention_multiplier':0.25,'embedding_multiplier':12,"
                           "'residual_multiplier':0.5,'logits_scaling':8"),
          h.layers[3].attention_scale == 0.25 && h.embed_scale == 12 && h.residual_scale == 0.5 &&
              h.logit_scale == 0.125);
    READS("{'model_type':'starcoder2'}", !h.layers[0].sliding_window && h.tie_word_embeddings &&
                                             h.activation == ACT_GELU_TANH &&
                                             model_spec_find(&h, "layers.9.up_proj.bias") >= 0);
    READS(SMALL("starcoder2", ",'use_bias':false,'sliding_window':9"),
          h.layers[3].sliding_window == 9 && model_spec_find(&h, "layers.3.o_proj.bias") < 0);
    READS("{'model_type':'mixtral'}",
          h.layers[31].num_experts == 8 && h.layers[31].moe_intermediate_size == 14336 &&
              h.experts_per_token == 2 && !h.layers[31].intermediate_size &&
              model_spec_flag(&h, "norm_topk_prob") && !h.layers[0].sliding_window);
    READS("{'model_type':'mixtral','num_experts':5,'sliding_window':7}",
          h.layers[3].num_experts == 5 && h.layers[3].sliding_window == 7);
    READS("{'model_type':'gemma','hidden_act':'gelu'}",
          h.layers[0].head_dim == 256 && h.activation == ACT_GELU_TANH && h.tie_word_embeddings &&
              h.layers[0].num_key_value_heads == 16 && h.norm_eps == 1e-6);
    READS("{'model_type':'phi'}", h.ropes[0].dims == 32 && h.layers[3].num_key_value_heads == 32 &&
                                      h.activation == ACT_GELU_TANH && h.norm_eps == 1e-5 &&
                                      model_spec_find(&h, "lm_head.bias") >= 0 &&
                                      model_spec_find(&h, "layers.3.up_proj.bias") >= 0);
    READS("{'model_type':'phi','qk_layernorm':true}",
          h.tensors[model_spec_find(&h, "layers.0.q_norm.weight")].shape[0] == 64 &&
              h.tensors[model_spec_find(&h, "layers.0.k_norm.bias")].shape[0] == 64);
    READS("{'model_type':'stablelm'}",
          h.ropes[0].dims == 20 && h.layers[0].head_dim == 80 && h.norm_eps == 1e-5 &&
              model_spec_find(&h, "layers.0.q_norm.weight") < 0 &&
              model_spec_find(&h, "layers.0.post_attention_layernorm.bias") >= 0);
    READS("{'model_type':'stablelm','use_parallel_residual':true,'qk_layernorm':true}",
          model_spec_find(&h, "layers.0.post_attention_layernorm.weight") < 0 &&
              h.tensors[model_spec_find(&h, "layers.0.q_norm.weight")].shape[0] == 2560);
    READS("{'model_type':'cohere'}", h.ropes[0].interleaved && h.logit_scale == 0.0625 &&
                                         h.ropes[0].inv_freq[32] == pow(500000, -0.5) &&
                                         h.tie_word_embeddings && !h.layers[0].sliding_window);
    READS("{'model_type':'cohere','use_qk_norm':true,'num_key_value_heads':8}",
          h.tensors[model_spec_find(&h, "layers.0.q_norm.weight")].shape[0] == 8192 &&
              h.tensors[model_spec_find(&h, "layers.0.k_norm.weight")].shape[0] == 1024 &&
              model_spec_find(&h, "layers.0.q_norm.bias") < 0);
    READS("{'model_type':'cohere2'}", h.layers[2].sliding_window == 4096 && !h.layers[2].rope &&
                                          !h.layers[3].sliding_window && h.layers[3].rope == -1);
    READS("{'model_type':'falcon','num_kv_heads':71}",
          h.layers[0].num_key_value_heads == 1 && h.layers[0].intermediate_size == 4 * 4544 &&
              h.activation == ACT_GELU && h.tie_word_embeddings &&
              model_spec_find(&h, "layers.0.post_attention_layernorm.weight") < 0);
    READS("{'model_type':'falcon','alibi':true}",
          h.layers[0].rope == -1 && h.layers[31].rope == -1);
    READS("{'model_type':'falcon','new_decoder_architecture':true,'num_attention_heads':64,'num_kv_"
          "heads':8,'hidden_size':8192}",
          h.layers[0].num_key_value_heads == 8 &&
              model_spec_find(&h, "layers.0.post_attention_layernorm.weight") >= 0);
    READS("{'model_type':'glm4'}", h.layers[0].head_dim == 128 && h.ropes[0].dims == 64 &&
                                       h.ropes[0].interleaved && h.norm_eps == 1.5625e-7 &&
                                       model_spec_find(&h, "layers.0.q_proj.bias") >= 0 &&
                                       model_spec_find(&h, "layers.0.o_proj.bias") < 0);
    READS("{'model_type':'exaone4'}",
          h.layers[2].rope == 0 && h.layers[3].rope == -1 && h.layers[2].sliding_window == 4096);
    READS("{'model_type':'exaone4','sliding_window':null}",
          h.layers[3].rope == 0 && !h.layers[2].sliding_window);
    READS("{'model_type':'ernie4_5'}", h.layers[0].head_dim == 128 && h.tie_word_embeddings &&
                                           h.ropes[0].interleaved &&
                                           model_spec_find(&h, "layers.0.q_proj.bias") < 0);
    READS("{'model_type':'seed_oss'}", h.layers[0].num_attention_heads == 80 &&
                                           h.layers[0].head_dim == 128 &&
                                           model_spec_find(&h, "layers.0.k_proj.bias") >= 0 &&
                                           model_spec_find(&h, "layers.0.o_proj.bias") < 0);
    /* theta 10000 times 50^(128/126), to the power of -2 * 63 / 128 */
    READS(
        "{'model_type':'hunyuan_v1_dense','rope_scaling':{'type':'dynamic','alpha':50,'factor':1}}",
        fabs(h.ropes[0].inv_freq[63] / 2.3095639e-6 - 1) < 1e-6 && !h.ropes[0].most);
    READS("{'model_type':'hunyuan_v1_dense','rope_scaling':{'type':'dynamic','factor':4}}",
          h.ropes[0].most == 2048);
    READS("{'model_type':'qwen2_moe'}",
          h.layers[0].num_experts == 60 && h.layers[0].shared_expert_intermediate_size == 5632 &&
              h.experts_per_token == 4 && !model_spec_flag(&h, "norm_topk_prob") &&
              model_spec_find(&h, "layers.3.shared_gate.weight") >= 0 &&
              model_spec_find(&h, "layers.3.k_proj.bias") >= 0 && !h.layers[0].sliding_window);
    /* experts in layers 1 and 3, but for those listed; a window in layers 0 and 2, below 2 */
    READS(SMALL("qwen2_moe", ",'decoder_sparse_step':2,'mlp_only_layers':[3],'num_experts':6,"
                             "'use_sliding_window':true,'sliding_window':9,"
                             "'max_window_layers':2"),
          !h.layers[0].num_experts && h.layers[0].intermediate_size &&
              h.layers[1].num_experts == 6 && !h.layers[1].intermediate_size &&
              !h.layers[3].num_experts && h.layers[0].sliding_window == 9 &&
              !h.layers[1].sliding_window && !h.layers[2].sliding_window);
    READS("{'model_type':'qwen3_moe','num_local_experts':12,'norm_topk_prob':true}",
          h.layers[0].num_experts == 12 && h.experts_per_token == 8 && h.layers[0].head_dim == 64 &&
              model_spec_flag(&h, "norm_topk_prob"));
    READS("{'model_type':'olmoe'}", h.layers[0].num_experts == 64 &&
                                        h.layers[0].moe_intermediate_size == 2048 &&
                                        !model_spec_flag(&h, "norm_topk_prob"));
    READS("{'model_type':'granitemoe'}",
          h.layers[0].attention_scale == 1 && model_spec_flag(&h, "norm_topk_prob"));
    /* 2/3 of 48: 32 a unit of ffn_mult, up to a multiple of 256, after rounding to six places */
    READS(BLOCKS("{'n_heads_in_group':3}", "{'ffn_mult':8}"),
          h.layers[0].num_key_value_heads == 2 && h.layers[0].intermediate_size == 256 &&
              h.layers[0].head_dim == 8 && h.layers[0].kinds == KIND_any);
    READS(BLOCKS("{'n_heads_in_group':3}", "{'ffn_mult':8.0625}"),
          h.layers[0].intermediate_size == 512);
    READS(BLOCKS("{'n_heads_in_group':3}", "{'ffn_mult':8.0312499}"), /* not 256.9 but 257 */
          h.layers[0].intermediate_size == 512);
    READS(BLOCKS("{'n_heads_in_group':1}", "{'intermediate_size':300,'hidden_act':'silu'}"),
          h.layers[0].num_key_value_heads == 6 && h.layers[0].intermediate_size == 300);
    READS(BLOCKS("{'no_op':true,'n_heads_in_group':null}", "{'ffn_mult':8,'gated':true}"),
          h.layers[0].kinds == KIND_mlp && h.layers[1].kinds == KIND_mlp &&
              model_spec_find(&h, "layers.1.q_proj.weight") < 0);
    READS(BLOCKS("{'n_heads_in_group':2}", "{'no_op':true,'ffn_mult':null}"),
          h.layers[1].kinds == KIND_attention &&
              model_spec_find(&h, "layers.1.post_attention_layernorm.weight") < 0);
    READS("{'model_type':'nemotron_h','num_hidden_layers':9,'layers_block_type':"
          "['linear_attention','mlp','attention']}",
          h.num_hidden_layers == 3 && h.layers[0].kinds == KIND_mamba &&
              h.layers[1].kinds == KIND_mlp && h.layers[2].kinds == KIND_attention &&
              h.layers[0].mamba_num_heads == 128 && h.layers[0].mamba_num_groups == 8 &&
              h.layers[0].mamba_head_dim == 64 && h.layers[0].mamba_state_size == 128 &&
              h.layers[0].mamba_conv_kernel == 4 && h.dt_min == 0.001 && isinf(h.dt_max) &&
              h.layers[2].rope == -1 && model_spec_find(&h, "layers.0.x_conv.bias") >= 0 &&
              model_spec_find(&h, "layers.0.up_proj.weight") < 0 &&
              model_spec_find(&h, "layers.2.scan.weight") < 0);
    READS("{'model_type':'nemotron_h','hybrid_override_pattern':'*-M','mamba_n_groups':2,"
          "'use_conv_bias':false}",
          h.layers[0].kinds == KIND_attention && h.layers[2].kinds == KIND_mamba &&
              h.layers[2].mamba_num_groups == 2 && model_spec_find(&h, "layers.2.x_conv.bias") < 0);
    READS("{'model_type':'bamba','attn_layer_indices':[9,18,27],'mamba_d_head':'auto',"
          "'partial_rotary_factor':0.25}",
          h.layers[0].kinds == (KIND_mamba | KIND_mlp) && h.layers[9].kinds == KIND_any &&
              h.layers[0].mamba_head_dim == 64 && h.layers[0].mamba_num_groups == 1 &&
              h.ropes[0].dims == 64 && h.layers[9].head_dim == 128 && h.dt_min == 0 &&
              isinf(h.dt_max) && model_spec_find(&h, "layers.9.x_conv.bias") < 0 &&
              model_spec_find(&h, "layers.0.up_proj.weight") >= 0);
    READS(
        "{'model_type':'bamba','time_step_limit':[0.25,{'__float__':'Infinity'}],'mamba_expand':1,"
        "'rope_parameters':{'rope_theta':500,'partial_rotary_factor':0.25}}",
        h.dt_min == 0.25 && isinf(h.dt_max) && h.layers[31].kinds == (KIND_mamba | KIND_mlp) &&
            h.layers[0].mamba_head_dim == 32 && h.ropes[0].dims == 32);
    READS("{'model_type':'granitemoehybrid','num_local_experts':0,'num_hidden_layers':2,"
          "'layer_types':['mamba','attention'],'position_embedding_type':'nope',"
          "'attention_multiplier':0.5,'residual_multiplier':0.25}",
          h.num_hidden_layers == 2 && h.layers[0].kinds == (KIND_mamba | KIND_mlp) &&
              h.layers[1].kinds == KIND_any && h.layers[1].rope == -1 &&
              h.layers[1].attention_scale == 0.5 && h.residual_scale == 0.25 &&
              h.layers[0].intermediate_size == 1024 && h.layers[0].mamba_head_dim == 64);
    READS("{'model_type':'granitemoehybrid','num_local_experts':0,'layer_types':['attention'],"
          "'position_embedding_type':'rope'}",
          h.layers[0].kinds == KIND_any && h.layers[0].rope == 0);
    READS("{'model_type':'phi3'}", h.norm_eps == 1e-5 && !h.layers[0].sliding_window);
    READS("{'model_type':'phi3','sliding_window':2047}", h.layers[5].sliding_window == 2047);
    READS("{'model_type':'gpt2'}",
          h.tie_word_embeddings && h.learned_positions && h.activation == ACT_GELU_TANH &&
              h.layers[0].intermediate_size == 3072 && h.layers[0].rope == -1 &&
              h.layers[0].attention_scale == 0.125 && h.norm_eps == 1e-5);
    READS("{'model_type':'gpt2','n_inner':null,'n_embd':96}", h.layers[0].intermediate_size == 384);
    READS("{'model_type':'gpt2','scale_attn_weights':false}", h.layers[3].attention_scale == 1);
    READS("{'model_type':'gpt2','scale_attn_by_inverse_layer_idx':true}",
          h.layers[3].attention_scale == 0.03125);
    READS(SMALL("nemotron", ""),
          h.activation == ACT_RELU2 && h.norm_eps == 1e-5 && h.layers[0].head_dim == 8);
    READS(SMALL("llama", ",'hidden_act':'gelu'"), h.activation == ACT_GELU);
    READS(SMALL("llama", ",'attention_bias':true"),
          model_spec_find(&h, "layers.3.o_proj.bias") >= 0 &&
              model_spec_find(&h, "layers.3.up_proj.bias") < 0);
    READS(SMALL("qwen2", ""), model_spec_find(&h, "layers.3.v_proj.bias") >= 0 &&
                                  model_spec_find(&h, "layers.3.o_proj.bias") < 0);
    READS(SMALL("qwen2", ",'sliding_window':16"), !h.layers[3].sliding_window);
    READS(SMALL("qwen2", ",'sliding_window':16,'use_sliding_window':true,'max_window_layers':2"),
          !h.layers[1].sliding_window && h.layers[2].sliding_window == 16);
    READS(SMALL("qwen3", ",'use_sliding_window':true,'max_window_layers':0,'layer_types':['full_"
                         "attention','sliding_attention','full_attention',"
                         "'full_attention']"),
          !h.layers[0].sliding_window && h.layers[1].sliding_window == 4096 &&
              !h.layers[2].sliding_window);
}

/* ---- keys that the class does not read: accepted if they contradict nothing, and listed */

static void test_unread(void)
{
    static const struct {
        const char *config, *unread;
    } cases[] = {
        {SMALL("llama", ",'unsloth_fixed':true,'quantization_config':null"), "unsloth_fixed"},
        {SMALL("olmo2", ",'mlp_bias':true"), "mlp_bias"},
        {SMALL("llama", ",'kv_channels':8,'n_embd':48.0,'d_ff':null"), "kv_channels, n_embd, d_ff"},
        {SMALL("llama", ",'rope_scaling':{'type':'yarn','factor':4,'finetuned':true}"),
         "rope_scaling.finetuned"},
        {SMALL("qwen3", ",'rope_scaling':{'rope_type':'yarn','factor':4,'attn_factor':0.5}"),
         "rope_scaling.attn_factor (which vLLM reads)"},
        {"{'model_type':'gpt_neox','head_dim':96,'hidden_dropout':0.1}", "head_dim"},
        {"{'model_type':'gemma3_text','rope_parameters':{'full_attention':{'rope_theta':1e6}}}",
         NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e;
        struct model_spec h;
        int rc = head_of(&h, cases[i].config, &e);
        CHECK(!rc, "%s: %s", cases[i].config, e.msg);
        if (rc)
            continue;
        char *unread = config_unread(h.family, h.config);
        CHECK(!unread == !cases[i].unread && (!unread || !strcmp(unread, cases[i].unread)),
              "%s: unread are %s", cases[i].config, unread ? unread : "none");
        free(unread);
        model_spec_free(&h);
    }
}

/* ---- refusals: each names the culprit */

static void test_refusals(void)
{
    static const struct {
        const char *config, *says;
    } cases[] = {
        {"{'model_type':'cohere2','sliding_window':null}", "no sliding_window is in use"},
        {"{'model_type':'falcon','multi_query':1}", "multi_query is 1; it must be true or false"},
        {"{'model_type':'nemotron_h','layers_block_type':['mlp','moe']}",
         "layers_block_type has \"moe\", which is not supported"},
        {"{'model_type':'nemotron_h','hybrid_override_pattern':'M-E'}", "'E', which is not"},
        {"{'model_type':'nemotron_h'}", "layers_block_type must list the blocks of the layers"},
        {"{'model_type':'nemotron_h','hybrid_override_pattern':'M','mamba_hidden_act':'gelu'}",
         "mamba_hidden_act is \"gelu\"; that of Mamba layers must be \"silu\""},
        {"{'model_type':'nemotron_h','hybrid_override_pattern':'M','n_groups':7}",
         "mamba_num_heads 128, which is not a multiple of mamba_num_groups 7"},
        {"{'model_type':'bamba','attn_layer_indices':[32]}",
         "attn_layer_indices has 32, which is not a layer"},
        {"{'model_type':'bamba','attn_layer_indices':9}",
         "attn_layer_indices is 9; it must be a list of layers"},
        {"{'model_type':'bamba','time_step_limit':[2,1]}",
         "time_step_limit is [2,1]; it must be the least and the largest time step"},
        {"{'model_type':'granitemoehybrid','layer_types':['mamba']}",
         "num_local_experts is 8; model_type granitemoehybrid is not supported with experts"},
        {"{'model_type':'granitemoehybrid','num_local_experts':0,'layer_types':['mlp']}",
         "layer_types has \"mlp\", but with model_type granitemoehybrid every layer has attention"},
        {"{'model_type':'bamba','mamba_n_heads':7}",
         "mamba_d_head is missing and cannot be derived: 8192 is not a multiple of mamba_n_heads "
         "7"},
        {"{'model_type':'llama','rope_parameters':{'partial_rotary_factor':0.5}}",
         "partial_rotary_factor 0.5 changes the function"},
        {"{'hidden_size':8}", "no model_type, so the family is unknown (supported: llama, mistral"},
        {"{'model_type':'bert','hidden_size':8,'type_vocab_size':2}",
         "\"bert\" is not supported; 2 of its 3 keys are those of llama. CONTRIBUTING.md says how "
         "a family is added. Supported: llama, mistral"},
        {SMALL("qwen2_vl", ",'use_sliding_window':false,'max_window_layers':2"),
         "its name is like qwen2, qwen3, qwen2_moe, qwen3_moe; 7 of its 7 keys are those of qwen2"},
        {SMALL("llama", ",'quantization_config':{'bits':4}"), "quantization_config"},
        {SMALL("llama", ",'sliding_window':16"), "--ignore-key sliding_window"},
        {SMALL("llama", ",'kv_channels':16"), "kv_channels is 16, but model_type llama computes "
                                              "with head_dim 8 (--ignore-key kv_channels"},
        {SMALL("llama", ",'layernorm_epsilon':0.5"), "computes with rms_norm_eps 1e-6"},
        {"{'model_type':'gpt2','hidden_size':40}",
         "hidden_size is 40, but model_type gpt2 computes with n_embd 768"},
        {SMALL("llama", ",'partial_rotary_factor':0.5"), "partial_rotary_factor 0.5"},
        {SMALL("llama", ",'rope_parameters':{'partial_rotary_factor':0.5}"),
         "partial_rotary_factor 0.5"},
        {SMALL("llama", ",'rope_scaling':{'type':'mrope','mrope_section':[1]}"), "rope type mrope"},
        {SMALL("llama", ",'rope_scaling':{'type':'proportional'}"), "rope type proportional"},
        {SMALL("llama", ",'rope_scaling':{'type':'linear'}"), "no factor"},
        {SMALL("llama", ",'rope_scaling':{'type':'linear','factor':-2}"),
         "factor of the rope scaling is -2"},
        {SMALL("llama", ",'rope_scaling':4"), "rope_scaling is 4"},
        {SMALL("llama", ",'rope_theta':0"), "rope_theta is 0"},
        {SMALL("phi3",
               ",'rope_scaling':{'type':'su','short_factor':[1,1,1],'long_factor':[1,1,1,1]}"),
         "short_factor"},
        {SMALL("mistral", ",'attention_bias':true"), "attention_bias true"},
        {SMALL("granite", ",'logits_scaling':0"), "logits_scaling is 0"},
        {SMALL("mistral", ",'layer_types':['full_attention']"), "layer_types"},
        {SMALL("olmo2", ",'sliding_window':16"), "sliding_window"},
        {SMALL("smollm3", ",'no_rope_layers':[1,1,0]"),
         "no_rope_layers has 3 entries for 4 layers"},
        {SMALL("smollm3", ",'no_rope_layers':[1,1,0,2]"), "no_rope_layers has 2"},
        {SMALL("smollm3", ",'no_rope_layers':1"), "no_rope_layers has 0 entries"},
        {SMALL("smollm3", ",'no_rope_layer_interval':0"), "no_rope_layer_interval is 0"},
        {SMALL("gemma2", ",'use_bidirectional_attention':true"),
         "use_bidirectional_attention true"},
        {SMALL("gemma2", ",'attn_logit_softcapping':-1"), "attn_logit_softcapping is -1"},
        {SMALL("gemma2", ",'query_pre_attn_scalar':0"), "query_pre_attn_scalar is 0"},
        {SMALL("gemma3_text", ",'rope_scaling':{'type':'linear','factor':2},'rope_parameters':{'"
                              "full_attention':{'rope_theta':1}}"),
         "rope_scaling beside"},
        {SMALL("gemma3_text", ",'rope_parameters':{'rope_theta':1}"),
         "key rope_theta (1) in rope_parameters"},
        {SMALL("gemma3_text", ",'rope_parameters':{'sliding_attention':4}"),
         "sliding_attention is 4"},
        {SMALL("gemma3_text", ",'sliding_window':null"), "no sliding_window is in use"},
        {"{'model_type':'gemma3','text_config':{}}", "gemma3_text"},
        {"{'model_type':'gpt_neox','head_dim':64}",
         "head_dim is 64, but model_type gpt_neox computes with head_dim 96"},
        {"{'model_type':'gpt_neox','use_parallel_residual':1}", "use_parallel_residual is 1"},
        {SMALL("nemotron-nas", ",'block_configs':[]"), "block_configs must list the 4 layers"},
        {SMALL("nemotron-nas", ",'block_configs':[1,2,3,4]"), "block_configs[0] must be an object"},
        {BLOCKS("{'replace_with_linear':true}", "{'ffn_mult':8}"),
         "block_configs[0].attention.replace_with_linear is true, which is not supported"},
        {BLOCKS("{'n_heads_in_group':3}", "{'replace_with_linear':true}"),
         "block_configs[0].ffn.replace_with_linear is true, which is not supported"},
        {BLOCKS("{'n_heads_in_group':3,'window_length':64}", "{'ffn_mult':8}"),
         "attention.window_length is 64"},
        {BLOCKS("{'n_heads_in_group':3,'soft':1}", "{'ffn_mult':8}"), "attention.soft is 1"},
        {BLOCKS("{'n_heads_in_group':4}", "{'ffn_mult':8}"),
         "n_heads_in_group is 4; it must divide num_attention_heads"},
        {BLOCKS("{'n_heads_in_group':0}", "{'ffn_mult':8}"), "n_heads_in_group is 0"},
        {BLOCKS("{}", "{'ffn_mult':8}"), "n_heads_in_group is missing"},
        {BLOCKS("{'n_heads_in_group':3}", "{}"), "ffn.intermediate_size is missing"},
        {BLOCKS("{'n_heads_in_group':3}", "{'ffn_mult':-1}"), "ffn.ffn_mult is -1"},
        {BLOCKS("{'n_heads_in_group':3}", "{'ffn_mult':8,'intermediate_size':300}"),
         "ffn.intermediate_size is 300; ffn_mult gives another width"},
        {BLOCKS("{'n_heads_in_group':3}", "{'ffn_mult':8,'hidden_act':'relu2'}"),
         "ffn.hidden_act is \"relu2\""},
        {BLOCKS("{'n_heads_in_group':3}", "{'ffn_mult':8,'moe':{}}"), "ffn.moe is {}"},
        {BLOCKS("{'no_op':1}", "{'ffn_mult':8}"), "attention.no_op is 1; it must be true or false"},
        {BLOCKS("{'no_op':true}", "{'no_op':true}"),
         "block_configs[0] has neither attention nor FFN"},
        {SMALL("gpt2", ""), "hidden_size"},
        {"{'model_type':'gpt2','add_cross_attention':true}", "add_cross_attention true"},
        {"{'model_type':'gpt2','n_embd':770}", "770 is not a multiple of n_head 12"},
        {"{'model_type':'mixtral','num_experts_per_tok':9}",
         "num_experts_per_tok is 9, but layer 0 has 8 experts"},
        {"{'model_type':'qwen3_moe','mlp_only_layers':[1,'a']}", "mlp_only_layers has \"a\""},
        {"{'model_type':'qwen3_moe','mlp_only_layers':1}", "must be a list of layers"},
        {"{'model_type':'olmoe','clip_qkv':8.0}", "clip_qkv 8.0 changes the function"},
        {"{'model_type':'nemotron'}", "no num_key_value_heads"},
        {"{'model_type':'llama','num_attention_heads':6,'hidden_size':48,'num_key_value_heads':4}",
         "num_attention_heads 6, which is not a multiple of num_key_value_heads 4"},
        {"{'model_type':'llama','hidden_size':42,'num_attention_heads':6}", "must be even"},
        {"{'model_type':'llama','hidden_size':0}", "hidden_size is 0"},
        {"{'model_type':'llama','hidden_size':-4}", "hidden_size is -4"},
        {"{'model_type':'llama','hidden_size':'big'}", "hidden_size is \"big\""},
        {"{'model_type':'llama','hidden_size':48.5}", "hidden_size is 48.5"},
        {"{'model_type':'llama','vocab_size':99999999999}", "vocab_size is 99999999999"},
        {"{'model_type':'llama','num_hidden_layers':100000}", "num_hidden_layers is 100000"},
        {"{'model_type':'llama','num_attention_heads':4194304,'num_key_value_heads':1,'head_dim':"
         "4194304}",
         "more than the limit of 4194304 channels"},
        {SMALL("llama", ",'attention_bias':1"), "attention_bias is 1"},
        {SMALL("llama", ",'tie_word_embeddings':'yes'"), "tie_word_embeddings is \"yes\""},
        {SMALL("llama", ",'hidden_act':'quick_gelu'"), "hidden_act \"quick_gelu\""},
        {SMALL("llama", ",'rms_norm_eps':-1"), "rms_norm_eps is -1"},
        {SMALL("qwen2", ",'layer_types':['full_attention']"),
         "layer_types has 1 entries for 4 layers"},
        {SMALL("qwen2", ",'layer_types':['chunked_attention','full_attention','full_attention','"
                        "full_attention']"),
         "chunked_attention"},
        {SMALL("qwen2", ",'layer_types':['sliding_attention','full_attention','full_attention','"
                        "full_attention']"),
         "no sliding_window is in use"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e;
        struct model_spec h;
        int rc = head_of(&h, cases[i].config, &e);
        CHECK(rc == -1 && e.set && strstr(e.msg, cases[i].says), "%s: \"%s\" does not say \"%s\"",
              cases[i].config, e.msg, cases[i].says);
        if (!rc)
            model_spec_free(&h);
    }
}

int main(void)
{
    test_rules();
    test_unread();
    test_refusals();
    return check_report();
}
