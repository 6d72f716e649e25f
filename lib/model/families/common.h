/* What many families share, as fragments of the .def language (see expand.h). Fragments are named
 * for what they are, not after a family: a family that differs has its own rows.
 *
 * Canonical names, the same in every family (E hidden, HD query heads x head size, KD KV heads x
 * head size, F FFN, V vocabulary, P positions):
 *   embed_tokens [V,E]  embed_positions [P,E]  norm [E]  lm_head [V,E], absent when tied
 *   layers.{L}.
 *     input_layernorm [E]  q_proj [HD,E]  k_proj v_proj [KD,E]  o_proj [E,HD]  q_norm k_norm [D]
 *     post_attention_layernorm [E]: before the MLP, whatever its name in a checkpoint
 *     gate_proj up_proj [F,E]  down_proj [E,F]
 *     router [X,E]  experts_gate_proj experts_up_proj experts_down_proj [X x N,E]
 *     shared_gate_proj shared_up_proj [S,E]  shared_down_proj [E,S]  shared_gate [1,E]
 *     attention_output_norm mlp_output_norm [E]: of what a branch adds
 *     Mamba-2, M heads of R channels in G groups, states of Z, a convolution of W tokens:
 *     z_proj x_proj [MR,E]  b_proj c_proj [GZ,E]  dt_proj [M,E]
 *     x_conv [MR,W]  b_conv c_conv [GZ,W]  mamba_norm [MR]  out_proj [E,MR]
 *     scan.weight scan.bias scan.skip [M]: A_log, dt_bias, D
 * A q_norm or k_norm as wide as all heads, [HD] and [KD], treats them as one. Slots: x residual, n
 * norm output, q k v o attention, z s b c d Mamba, g u h MLP, p experts' weights, y what a branch
 * adds. */
#ifndef PARE_FAMILIES_COMMON_H
#define PARE_FAMILIES_COMMON_H

/* ---- rows */
#define KEY(fact, key, fallback) KEY_ROW(#fact, #key, #fallback, NULL, ALWAYS)
#define KEY_NULL(fact, key, fallback, null) KEY_ROW(#fact, #key, #fallback, #null, ALWAYS)
#define KEY_REQUIRED(fact, key) KEY_ROW(#fact, #key, NULL, NULL, ALWAYS)
/* the value may be a JSON object */
#define NO_KEY(fact, ...) KEY_ROW(#fact, NULL, #__VA_ARGS__, NULL, ALWAYS)
#define VALUE_WHEN(when, fact, value) KEY_ROW(#fact, NULL, #value, NULL, when)
#define STORED(name, layout) STORED_ROW(name, layout, 0, ALWAYS)
#define STORED_WHEN(when, name, layout) STORED_ROW(name, layout, 0, when)
#define STORED_TRANSPOSED(name, layout) STORED_ROW(name, layout, 1, ALWAYS)
#define GGUF_STORED(name, layout) GGUF_STORED_ROW(name, layout, 0, ALWAYS)
#define GGUF_STORED_TRANSPOSED(name, layout) GGUF_STORED_ROW(name, layout, 1, ALWAYS)
#define GGUF_STORED_WHEN(when, name, layout) GGUF_STORED_ROW(name, layout, 0, when)

#define ALWAYS NULL
#define NEVER "never"
#define UNLESS_TIED "!tied"
#define WITH_EXPERTS "experts"
#define WITHOUT_EXPERTS "!experts"

/* ---- config keys. SIZES: the class defaults of V, E, F, L, H, Pm */
#define SIZES(V, E, F, L, H, Pm) \
    KEY(vocab_size, vocab_size, V) \
    KEY(hidden_size, hidden_size, E) \
    KEY(intermediate_size, intermediate_size, F) \
    KEY(num_hidden_layers, num_hidden_layers, L) \
    KEY(num_attention_heads, num_attention_heads, H) \
    KEY(max_position_embeddings, max_position_embeddings, Pm)
#define KV_HEADS(K) KEY_NULL(num_key_value_heads, num_key_value_heads, K, =num_attention_heads)
#define HEAD_DIM(D) KEY_NULL(head_dim, head_dim, D, =hidden_size/num_attention_heads)
#define HEAD_DIM_DERIVED HEAD_DIM(=hidden_size/num_attention_heads)
/* Token ids do not change the function, but a class that another stands in for may have others. */
#define TOKEN_IDS(pad, bos, eos) \
    KEY_NULL(pad_token_id, pad_token_id, pad, null) \
    KEY_NULL(bos_token_id, bos_token_id, bos, null) \
    KEY_NULL(eos_token_id, eos_token_id, eos, null)
/* Experts beside an MLP of intermediate_size, which the layers without experts have: how many,
 * their width, how many work for a token */
#define EXPERTS_OF_SOME_LAYERS(X, N, top) \
    KEY(num_experts, num_experts, X) \
    KEY(num_experts, num_local_experts, X) \
    KEY(moe_intermediate_size, moe_intermediate_size, N) \
    KEY(num_experts_per_tok, num_experts_per_tok, top) \
    KEY(norm_topk_prob, norm_topk_prob, false) \
    KEY(decoder_sparse_step, decoder_sparse_step, 1) \
    KEY(mlp_only_layers, mlp_only_layers, null)
/* The rope facts of one table; rope_scaling and rope_parameters are read with it. */
#define ROPE(theta) \
    KEY(rope_theta, rope_theta, theta) \
    KEY(original_max_position_embeddings, original_max_position_embeddings, null)

/* ---- canonical tensors. LINEAR: a matrix and its bias along the rows; LAYERNORM: with a bias */
#define LINEAR(name, out, in, bias) \
    TENSOR(name ".weight", out, in, ALWAYS) \
    TENSOR(name ".bias", out, NONE, bias)
#define RMSNORM(name, axis) TENSOR(name ".weight", axis, NONE, ALWAYS)
#define LAYERNORM(name, axis) RMSNORM(name, axis) TENSOR(name ".bias", axis, NONE, ALWAYS)
#define EMBEDDING TENSOR("embed_tokens.weight", V, E, ALWAYS)
#define HEAD TENSOR("lm_head.weight", V, E, UNLESS_TIED)
#define ATTENTION_TENSORS(qkv_bias, o_bias) \
    LINEAR("layers.{L}.q_proj", HD, E, qkv_bias) \
    LINEAR("layers.{L}.k_proj", KD, E, qkv_bias) \
    LINEAR("layers.{L}.v_proj", KD, E, qkv_bias) \
    LINEAR("layers.{L}.o_proj", E, HD, o_bias)
#define MLP_TENSORS(bias) \
    LINEAR("layers.{L}.up_proj", F, E, bias) \
    LINEAR("layers.{L}.down_proj", E, F, bias)
#define GLU_TENSORS(bias) \
    LINEAR("layers.{L}.gate_proj", F, E, bias) \
    MLP_TENSORS(bias)

/* The MLP of layers without experts, in families that have some with them */
#define DENSE_GLU_TENSORS \
    TENSOR("layers.{L}.gate_proj.weight", F, E, WITHOUT_EXPERTS) \
    TENSOR("layers.{L}.up_proj.weight", F, E, WITHOUT_EXPERTS) \
    TENSOR("layers.{L}.down_proj.weight", E, F, WITHOUT_EXPERTS)
/* A mixture of experts. down_proj lies transposed, so that row i of all three matrices of an expert
 * is what its neuron i reads and writes */
#define EXPERT_TENSORS \
    TENSOR("layers.{L}.router.weight", X, E, WITH_EXPERTS) \
    TENSOR("layers.{L}.experts_gate_proj.weight", XN, E, WITH_EXPERTS) \
    TENSOR("layers.{L}.experts_up_proj.weight", XN, E, WITH_EXPERTS) \
    TENSOR("layers.{L}.experts_down_proj.weight", XN, E, WITH_EXPERTS)

/* Mamba-2: biases of what reads the stream, of out_proj and of the convolution */
#define MAMBA_TENSORS(in_bias, out_bias, conv_bias) \
    LINEAR("layers.{L}.z_proj", MR, E, in_bias) \
    LINEAR("layers.{L}.x_proj", MR, E, in_bias) \
    LINEAR("layers.{L}.b_proj", GZ, E, in_bias) \
    LINEAR("layers.{L}.c_proj", GZ, E, in_bias) \
    LINEAR("layers.{L}.dt_proj", M, E, in_bias) \
    LINEAR("layers.{L}.x_conv", MR, W, conv_bias) \
    LINEAR("layers.{L}.b_conv", GZ, W, conv_bias) \
    LINEAR("layers.{L}.c_conv", GZ, W, conv_bias) \
    TENSOR("layers.{L}.scan.weight", M, NONE, ALWAYS) \
    TENSOR("layers.{L}.scan.bias", M, NONE, ALWAYS) \
    TENSOR("layers.{L}.scan.skip", M, NONE, ALWAYS) \
    LINEAR("layers.{L}.out_proj", E, MR, out_bias)

/* ---- stored names of the Llama set */
#define STORED_OUTSIDE \
    STORED("model.embed_tokens", "embed_tokens") \
    STORED("model.norm", "norm") \
    STORED("lm_head", "lm_head")
#define STORED_NORMS \
    STORED("model.layers.{L}.input_layernorm", "input_layernorm") \
    STORED("model.layers.{L}.post_attention_layernorm", "post_attention_layernorm")
#define STORED_ATTENTION \
    STORED("model.layers.{L}.self_attn.q_proj", "q_proj") \
    STORED("model.layers.{L}.self_attn.k_proj", "k_proj") \
    STORED("model.layers.{L}.self_attn.v_proj", "v_proj") \
    STORED("model.layers.{L}.self_attn.o_proj", "o_proj")
#define STORED_QK_NORMS \
    STORED("model.layers.{L}.self_attn.q_norm", "q_norm") \
    STORED("model.layers.{L}.self_attn.k_norm", "k_norm")
#define STORED_OUTPUT_NORMS \
    STORED("model.layers.{L}.post_attention_layernorm", "attention_output_norm") \
    STORED("model.layers.{L}.post_feedforward_layernorm", "mlp_output_norm")
#define STORED_MLP \
    STORED("model.layers.{L}.mlp.up_proj", "up_proj") \
    STORED("model.layers.{L}.mlp.down_proj", "down_proj")
#define STORED_GLU \
    STORED("model.layers.{L}.mlp.gate_proj", "gate_proj") \
    STORED_MLP

#define STORED_EXPERTS \
    STORED("model.layers.{L}.mlp.gate", "router") \
    STORED("model.layers.{L}.mlp.experts.{N}.gate_proj", "X*experts_gate_proj") \
    STORED("model.layers.{L}.mlp.experts.{N}.up_proj", "X*experts_up_proj") \
    STORED_TRANSPOSED("model.layers.{L}.mlp.experts.{N}.down_proj", "X*experts_down_proj")

#define STORED_MAMBA(in) \
    STORED(in ".in_proj", "z_proj|x_proj|b_proj|c_proj|dt_proj") \
    STORED(in ".conv1d", "1:(x_conv|b_conv|c_conv)") \
    STORED(in ".A_log!", "scan.weight") \
    STORED(in ".dt_bias!", "scan.bias") \
    STORED(in ".D!", "scan.skip") \
    STORED(in ".out_proj", "out_proj")

/* ---- names in a GGUF file, the same in every architecture. q, k, v and gate, up may be fused; an
 * architecture that knows them only so has these rows first */
#define GGUF_QKV GGUF_STORED("blk.{L}.attn_qkv", "~q_proj|~k_proj|v_proj")
#define GGUF_NORMS_BY_HEAD \
    GGUF_STORED("blk.{L}.attn_q_norm", "H:q_norm") \
    GGUF_STORED("blk.{L}.attn_k_norm", "K:k_norm")
#define GGUF_GATE_UP GGUF_STORED("blk.{L}.ffn_up", "gate_proj|up_proj")
#define GGUF_NAMES \
    GGUF_STORED("token_embd", "embed_tokens") \
    GGUF_STORED("position_embd", "embed_positions") \
    GGUF_STORED("output_norm", "norm") \
    GGUF_STORED("output", "lm_head") \
    GGUF_STORED("blk.{L}.attn_norm", "input_layernorm") \
    GGUF_STORED("blk.{L}.attn_q", "~q_proj") \
    GGUF_STORED("blk.{L}.attn_k", "~k_proj") \
    GGUF_STORED("blk.{L}.attn_v", "v_proj") \
    GGUF_QKV \
    GGUF_STORED("blk.{L}.attn_output", "o_proj") \
    GGUF_STORED("blk.{L}.attn_q_norm", "q_norm") \
    GGUF_STORED("blk.{L}.attn_k_norm", "k_norm") \
    GGUF_STORED("blk.{L}.post_attention_norm", "attention_output_norm") \
    GGUF_STORED("blk.{L}.ffn_norm", "post_attention_layernorm") \
    GGUF_STORED("blk.{L}.ffn_gate", "gate_proj") \
    GGUF_STORED("blk.{L}.ffn_up", "up_proj") \
    GGUF_GATE_UP \
    GGUF_STORED("blk.{L}.ffn_down", "down_proj") \
    GGUF_STORED("blk.{L}.post_ffw_norm", "mlp_output_norm")

#define GGUF_EXPERTS \
    GGUF_STORED("blk.{L}.ffn_gate_inp", "router") \
    GGUF_STORED("blk.{L}.ffn_gate_exps", "X:experts_gate_proj") \
    GGUF_STORED("blk.{L}.ffn_up_exps", "X:experts_up_proj") \
    GGUF_STORED_TRANSPOSED("blk.{L}.ffn_down_exps", "X:experts_down_proj")
#define GGUF_SHARED_EXPERT \
    GGUF_STORED("blk.{L}.ffn_gate_shexp", "shared_gate_proj") \
    GGUF_STORED("blk.{L}.ffn_up_shexp", "shared_up_proj") \
    GGUF_STORED("blk.{L}.ffn_down_shexp", "shared_down_proj") \
    GGUF_STORED("blk.{L}.ffn_gate_inp_shexp", "shared_gate")

#define GGUF_MAMBA \
    GGUF_STORED("blk.{L}.ssm_in", "z_proj|x_proj|b_proj|c_proj|dt_proj") \
    GGUF_STORED("blk.{L}.ssm_conv1d", "x_conv|b_conv|c_conv") \
    GGUF_STORED("blk.{L}.ssm_a!", "M:scan.weight") \
    GGUF_STORED("blk.{L}.ssm_dt.bias!", "scan.bias") \
    GGUF_STORED("blk.{L}.ssm_d!", "M:scan.skip") \
    GGUF_STORED("blk.{L}.ssm_norm", "G:mamba_norm") \
    GGUF_STORED("blk.{L}.ssm_out", "out_proj")

/* ---- op lines. ATTENTION, GLU and MLP read one input and leave the branch's output in y */
#define PROJECTIONS(in) \
    BLOCK(attention, "q", linear, "q_proj", in) \
    BLOCK(attention, "k", linear, "k_proj", in) \
    BLOCK(attention, "v", linear, "v_proj", in)
#define ROTATE \
    BLOCK_WHEN(attention, "rope", "q", rope, NULL, "q") \
    BLOCK_WHEN(attention, "rope", "k", rope, NULL, "k")
#define ATTEND \
    BLOCK(attention, "o", attention, NULL, "q", "k", "v") \
    BLOCK(attention, "y", linear, "o_proj", "o")
#define ATTENTION(in) PROJECTIONS(in) ROTATE ATTEND
#define ATTENTION_QK_NORMED(in) \
    PROJECTIONS(in) \
    BLOCK(attention, "q", rmsnorm, "q_norm", "q") \
    BLOCK(attention, "k", rmsnorm, "k_norm", "k") \
    ROTATE ATTEND
/* LayerNorm of q and k, if a flag says so */
#define ATTENTION_QK_LAYERNORM(flag, in) \
    PROJECTIONS(in) \
    BLOCK_WHEN(attention, flag, "q", layernorm, "q_norm", "q") \
    BLOCK_WHEN(attention, flag, "k", layernorm, "k_norm", "k") \
    ROTATE ATTEND
#define GLU(in) \
    BLOCK(mlp, "g", linear, "gate_proj", in) \
    BLOCK(mlp, "u", linear, "up_proj", in) \
    BLOCK(mlp, "h", glu, NULL, "g", "u") \
    BLOCK(mlp, "y", linear, "down_proj", "h")
#define MLP(in) \
    BLOCK(mlp, "u", linear, "up_proj", in) \
    BLOCK(mlp, "h", act, NULL, "u") \
    BLOCK(mlp, "y", linear, "down_proj", "h")
#define DENSE_GLU(in) \
    BLOCK_WHEN(mlp, WITHOUT_EXPERTS, "g", linear, "gate_proj", in) \
    BLOCK_WHEN(mlp, WITHOUT_EXPERTS, "u", linear, "up_proj", in) \
    BLOCK_WHEN(mlp, WITHOUT_EXPERTS, "h", glu, NULL, "g", "u") \
    BLOCK_WHEN(mlp, WITHOUT_EXPERTS, "y", linear, "down_proj", "h")
/* p weights of the experts */
#define EXPERTS(in) \
    BLOCK_WHEN(mlp, WITH_EXPERTS, "p", linear, "router", in) \
    BLOCK_WHEN(mlp, WITH_EXPERTS, "p", route, NULL, "p") \
    BLOCK_WHEN(mlp, WITH_EXPERTS, "g", experts, "experts_gate_proj", in, "p") \
    BLOCK_WHEN(mlp, WITH_EXPERTS, "u", experts, "experts_up_proj", in, "p") \
    BLOCK_WHEN(mlp, WITH_EXPERTS, "h", glu, NULL, "g", "u") \
    BLOCK_WHEN(mlp, WITH_EXPERTS, "y", mixture, "experts_down_proj", "h", "p")
/* Up to the gate, which silu makes of z; what is scanned stays in s */
#define MAMBA(in) \
    BLOCK(mamba, "z", linear, "z_proj", in) \
    BLOCK(mamba, "s", linear, "x_proj", in) \
    BLOCK(mamba, "b", linear, "b_proj", in) \
    BLOCK(mamba, "c", linear, "c_proj", in) \
    BLOCK(mamba, "d", linear, "dt_proj", in) \
    BLOCK(mamba, "s", conv, "x_conv", "s") \
    BLOCK(mamba, "b", conv, "b_conv", "b") \
    BLOCK(mamba, "c", conv, "c_conv", "c") \
    BLOCK(mamba, "s", scan, "scan", "s", "b", "c", "d") \
    BLOCK(mamba, "s", glu, NULL, "z", "s")
#define MAMBA_OUT BLOCK(mamba, "y", linear, "out_proj", "s")
#define RESIDUAL(kind) BLOCK(kind, "x", add, NULL, "x", "y")

#endif
