#!/usr/bin/env python3
"""Writes GGUF files as llama.cpp's converter does, with python3's own library; the tests import
them.

    gguf.py make DIR OUT [TYPE] ['PYTHON']   DIR's model; its matrices as F32, F16, BF16 as they
                                             are, or as TYPE (Q8_0, Q4_0, F32); PYTHON runs on M
                                             (metadata {key: value}) and T {name: (type, shape,
                                             bytes)} before they are written
    gguf.py tiny DIR                         a llama directory of widths that quantise, whose values
                                             Q8_0 and Q4_0 hold exactly
    gguf.py vocab TOKENIZER.json OUT PRE     a tokenizer.json alone as the vocabulary of a model
                                             without tensors worth the name
    gguf.py agree DIR FILE...                FILE has the metadata that `make DIR` writes; more such
                                             pairs may follow
    gguf.py show FILE [PREFIX]               FILE's metadata, long lists shortened, and its tensors'
                                             types; of those that begin with PREFIX
    gguf.py same A B...                      streams (uncompressed) with the same id and, widened to
                                             f32, the same tensors; more such pairs may follow
    gguf.py near A B BOUND                   streams (uncompressed) of the same records, whose
                                             values differ by at most BOUND times the record's
                                             largest
"""
import json, math, os, random, re, struct, sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "hf"))
import st, stream

TYPES = {"F32": 0, "F16": 1, "BF16": 30, "Q4_0": 2, "Q8_0": 8}
ARCH = {
    "mistral": "llama", "mixtral": "llama", "nemotron-nas": "deci", "gemma3_text": "gemma3",
    "gpt_neox": "gptneox", "phi": "phi2", "cohere": "command-r", "glm": "chatglm",
    "hunyuan_v1_dense": "hunyuan-dense", "qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe"}
PERMUTED = "llama", "mistral", "smollm3", "granite", "nemotron-nas", "mixtral", "granitemoe"
PLUS_ONE = "nemotron", "gemma", "gemma2", "gemma3_text"
AFTER = [("post_attention_layernorm", "post_attention_norm"),
         ("pre_feedforward_layernorm", "ffn_norm"), ("post_feedforward_layernorm", "post_ffw_norm")]
OWN = {
    "gemma2": AFTER, "gemma3_text": AFTER, "olmo2": AFTER, "exaone4": AFTER, "seed_oss": AFTER[:1],
    "glm4": [("post_self_attn_layernorm", "post_attention_norm"),
             ("post_mlp_layernorm", "post_ffw_norm")],
    "phi": [(r"model\.final_layernorm", "output_norm"), (r"self_attn\.dense", "attn_output"),
            (r"mlp\.fc1", "ffn_up"), (r"mlp\.fc2", "ffn_down")],
    "falcon": [(r"transformer\.word_embeddings", "token_embd"), ("ln_attn", "attn_norm_2"),
               ("ln_mlp", "attn_norm"), (r"self_attention\.query_key_value", "attn_qkv"),
               (r"self_attention\.dense", "attn_output"), (r"mlp\.dense_h_to_4h", "ffn_up"),
               (r"mlp\.dense_4h_to_h", "ffn_down")],
    "hunyuan_v1_dense": [(r"self_attn\.query_layernorm", "attn_q_norm"),
                         (r"self_attn\.key_layernorm", "attn_k_norm")],
    "gpt_neox": [("gpt_neox.embed_in", "token_embd"), ("gpt_neox.final_layer_norm", "output_norm"),
                 ("embed_out", "output"), (r"attention\.query_key_value", "attn_qkv"),
                 (r"attention\.dense", "attn_output"), (r"mlp\.dense_h_to_4h", "ffn_up"),
                 (r"mlp\.dense_4h_to_h", "ffn_down")]}
NAMES = [(r"model\.embed_tokens|transformer\.wte", "token_embd"),
         (r"transformer\.wpe", "position_embd"), (r"model\.norm|transformer\.ln_f", "output_norm"),
         (r"lm_head", "output"), (r"input_layernorm|ln_1", "attn_norm"),
         (r"post_attention_layernorm|ln_2", "ffn_norm"), (r"self_attn\.([qkv])_proj", r"attn_\1"),
         (r"self_attn\.([qk])_norm", r"attn_\1_norm"),
         (r"self_attn\.qkv_proj|attn\.c_attn", "attn_qkv"),
         (r"self_attn\.o_proj|attn\.c_proj", "attn_output"),
         (r"mlp\.gate_up_proj|mlp\.up_proj|mlp\.c_fc", "ffn_up"), (r"mlp\.gate_proj", "ffn_gate"),
         (r"mlp\.down_proj|mlp\.c_proj", "ffn_down"),
         (r"mlp\.gate|block_sparse_moe\.gate|block_sparse_moe\.router\.layer", "ffn_gate_inp"),
         (r"mlp\.shared_expert\.(gate|up|down)_proj", r"ffn_\1_shexp"),
         (r"mlp\.shared_expert_gate", "ffn_gate_inp_shexp"),
         (r"mlp\.experts\.(gate|up|down)_proj", r"ffn_\1_exps")]
MIXTRAL = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}

def stack_experts(stored):
    """Tensors of single experts -> one of all; granitemoe's gate and up apart; a matrix of one row
    as a vector."""
    made, stacks = {}, {}
    for name, (dtype, shape, data) in stored.items():
        one = re.match(r"(.*\.)(?:mlp|block_sparse_moe)\.experts\.(\d+)\.(\w+)\.weight", name)
        layer = name.split("block_sparse_moe")[0] + "mlp.experts."
        if one:
            kind = MIXTRAL.get(one.group(3), one.group(3))
            key = f"{one.group(1)}mlp.experts.{kind}.weight"
            stacks.setdefault(key, {})[int(one.group(2))] = dtype, shape, data
        elif name.endswith("input_linear.weight"):
            units = [rows(x, 2) for x in rows(data, shape[0])]
            half = [shape[0], shape[1] // 2, shape[2]]
            for i, kind in enumerate(("gate_proj", "up_proj")):
                made[layer + kind + ".weight"] = dtype, half, b"".join(u[i] for u in units)
        elif name.endswith("output_linear.weight"):
            made[layer + "down_proj.weight"] = dtype, shape, data
        else:
            made[name] = dtype, shape[1:] if len(shape) == 2 and shape[0] == 1 else shape, data
    for name, x in stacks.items():
        dtype, shape, _ = x[0]
        made[name] = dtype, [len(x), *shape], b"".join(x[i][2] for i in range(len(x)))
    return made

def rename(name, family):
    stem, suffix = name.rsplit(".", 1)
    layer = re.match(r"(?:model\.layers|transformer\.h|gpt_neox\.layers)\.(\d+)\.(.*)", stem)
    for pattern, to in OWN.get(family, []) + NAMES:
        found = re.fullmatch(pattern, layer.group(2) if layer else stem)
        if found:
            return (f"blk.{layer.group(1)}." if layer else "") + found.expand(to) + "." + suffix
    raise KeyError(name)

def floats(dtype, data):
    if dtype == "BF16":
        return struct.unpack(f"<{len(data) // 2}f",
                             b"".join(b"\0\0" + data[i:i + 2] for i in range(0, len(data), 2)))
    if dtype == "Q8_0":
        return tuple(scale * q
                     for scale, *block in struct.iter_unpack("<e32b", data)
                     for q in block)
    code, size = {"F64": ("d", 8), "F32": ("f", 4), "F16": ("e", 2)}[dtype]
    return struct.unpack(f"<{len(data) // size}{code}", data)

def rows(data, n):
    size = len(data) // n
    return [data[i * size:(i + 1) * size] for i in range(n)]

def permute(data, n, heads):
    """q and k rows: neighbours rotate, row 2 j + s of a head is the checkpoint's s * D/2 + j."""
    r, D = rows(data, n), n // heads
    return b"".join(r[h * D + s * (D // 2) + j]
                    for h in range(heads)
                    for j in range(D // 2)
                    for s in range(2))

def kv_heads(c):
    if c["model_type"] == "gpt_neox":
        return c["num_attention_heads"]
    one = c.get("multi_query") and not c["new_decoder_architecture"]
    return 1 if one else c.get("num_kv_heads", c.get("num_key_value_heads"))

def regroup(data, n, heads, groups):
    """q, k and v rows of each group in turn -> those of all groups in turn."""
    r, per = rows(data, n), heads // groups
    D = n // (groups * (per + 2))
    return b"".join(r[(g * (per + 2) + unit) * D + i]
                    for part in (range(per), [per], [per + 1])
                    for g in range(groups)
                    for unit in part
                    for i in range(D))

def transpose(dtype, shape, data):
    size = st.SIZE[dtype]
    return shape[::-1], b"".join(data[(i * shape[1] + j) * size:(i * shape[1] + j + 1) * size]
                                 for j in range(shape[1])
                                 for i in range(shape[0]))

def quantise(kind, values):
    """Blocks of 32 that are exact for the values of tiny(); scales of Q8_0 differ from block to
    block."""
    out = []
    for i in range(0, len(values), 32):
        one = 256 << i // 32 % 3 if kind == "Q8_0" else 256
        q = [round(v * one) for v in values[i:i + 32]]
        assert [x / one for x in q] == list(
            values[i:i + 32]) and -8 <= min(q) * 256 // one and max(q) * 256 // one < 8
        out.append(struct.pack("<e", 1 / one))
        out.append(
            struct.pack("<32b", *q) if kind == "Q8_0" else bytes(q[j] + 8 | q[j + 16] + 8 << 4
                                                                 for j in range(16)))
    return b"".join(out)

def tensors(folder, config, kind):
    made = {}
    for name, (dtype, shape, data) in stack_experts(st.load(folder)).items():
        to = rename(name, config["model_type"])
        if config["model_type"] == "gpt2" and re.search(r"c_(attn|proj|fc)\.weight", name):
            shape, data = transpose(dtype, shape, data)
        if config["model_type"] in ("gpt_neox", "falcon") and "attn_qkv" in to:
            data = regroup(data, shape[0], config["num_attention_heads"], kv_heads(config))
        if config["model_type"] in PERMUTED and re.search(r"attn_[qk]\.", to):
            data = permute(data, shape[0], shape[0] // head_dim(config))
        if len(shape) == 1:
            plus = 1 if config["model_type"] in PLUS_ONE and "norm.weight" in to else 0
            dtype, data = "F32", struct.pack(f"<{shape[0]}f",
                                             *(x + plus for x in floats(dtype, data)))
        elif kind:
            values = floats(dtype, data)
            dtype, data = kind, struct.pack(f"<{len(values)}f", *
                                            values) if kind == "F32" else quantise(kind, values)
        made[to] = dtype, shape, data
    return made

def head_dim(c):
    E, H = c.get("hidden_size", c.get("n_embd")), c.get("num_attention_heads", c.get("n_head"))
    return c.get("head_dim", E // H)

def put_blocks(put, c):
    """Lists with a number for each layer; FFN widths as DeciLM rounds them."""
    H, blocks = c["num_attention_heads"], c["block_configs"]
    groups = [b["attention"]["n_heads_in_group"] for b in blocks]
    put("attention.head_count", [H if g else 0 for g in groups])
    put("attention.head_count_kv", [H // g if g else 0 for g in groups])
    def width(ffn):
        multiple = int(2 * (ffn.get("ffn_mult") or 0) * c["hidden_size"] / 3)
        return ffn.get("intermediate_size", -(-multiple // 256) * 256)
    put("feed_forward_length", [width(b["ffn"]) for b in blocks])

FFN_KEYS = "intermediate_size", "n_inner", "ffn_hidden_size"
SCALES = [("attention_multiplier", "attention.scale"), ("embedding_multiplier", "embedding_scale"),
          ("residual_multiplier", "residual_scale"), ("logits_scaling", "logit_scale"),
          ("logit_scale", "logit_scale")]

def metadata(c):
    arch = ARCH.get(c["model_type"], c["model_type"])
    rope = c.get("rope_parameters") or {}
    E, H = c.get("hidden_size", c.get("n_embd")), c.get("num_attention_heads", c.get("n_head"))
    D = head_dim(c)
    M = {"general.architecture": arch, "general.name": "tiny"}
    put = lambda key, value: M.__setitem__(arch + "." + key, value)
    put("context_length", c.get("max_position_embeddings", c.get("n_positions")))
    put("embedding_length", E)
    put("block_count", c.get("num_hidden_layers", c.get("n_layer")))
    put("feed_forward_length", next(c[key] for key in FFN_KEYS if key in c))
    experts = c.get("num_local_experts", c.get("num_experts"))
    if experts:
        put("expert_count", experts)
        put("expert_used_count", c["num_experts_per_tok"])
    if "moe_intermediate_size" in c:
        put("expert_feed_forward_length", c["moe_intermediate_size"])
    if "shared_expert_intermediate_size" in c:
        put("expert_shared_feed_forward_length", c["shared_expert_intermediate_size"])
    put("attention.head_count", H)
    if "block_configs" in c:
        put_blocks(put, c)
    if "num_key_value_heads" in c or "num_kv_heads" in c:
        if "block_configs" not in c:
            put("attention.head_count_kv", kv_heads(c))
        scaling = c.get("rope_scaling") or {}
        stretch = scaling["alpha"] ** (D / (D - 2)) if "alpha" in scaling else 1
        put("rope.freq_base", float(rope.get("rope_theta", c.get("rope_theta"))) * stretch)
        part = c.get("partial_rotary_factor", rope.get("partial_rotary_factor", 1))
        put("rope.dimension_count", int(part * D))
    if c["model_type"] == "gpt_neox":
        put("rope.dimension_count", int(c.get("rotary_pct", rope.get("partial_rotary_factor")) * D))
    if c["model_type"] in ("gpt_neox", "stablelm"):
        put("use_parallel_residual", c["use_parallel_residual"])
    if D != E // H or E % H:
        put("attention.key_length", D)
        put("attention.value_length", D)
    if "rms_norm_eps" in c:
        put("attention.layer_norm_rms_epsilon", c["rms_norm_eps"])
    else:
        put(
            "attention.layer_norm_epsilon",
            c.get("norm_eps",
                  c.get("norm_epsilon", c.get("layer_norm_epsilon", c.get("layer_norm_eps")))))
    for key in "attn_logit_softcapping", "final_logit_softcapping":
        if c.get(key):
            put(key, c[key])
    for key, name in SCALES:
        if key in c:
            put(name, c[key])
    if c["model_type"].startswith("gemma3"):
        put("rope.scaling.type", "linear")
        put("rope.scaling.factor", c["rope_scaling"]["factor"])
    if c["model_type"] in ("mistral", "mixtral", "gemma2", "gemma3_text", "starcoder2",
                           "cohere2"):
        put("attention.sliding_window", c["sliding_window"])
    M.update({"tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2})
    return M

def llama3_divisors(c):
    s = c["rope_scaling"]
    D, P0, factor, low, high = head_dim(c), s["original_max_position_embeddings"], s["factor"], s[
        "low_freq_factor"], s["high_freq_factor"]
    for i in range(D // 2):
        wave = 2 * math.pi * c["rope_theta"] ** (2 * i / D)
        smooth = (P0 / wave - low) / (high - low)
        yield 1.0 if wave < P0 / high else factor if wave > P0 / low else 1 / (
            (1 - smooth) / factor + smooth)

def text(s):
    s = s.encode() if isinstance(s, str) else s
    return struct.pack("<Q", len(s)) + s

def value(v):
    if isinstance(v, bool):
        return struct.pack("<I?", 7, v)
    if isinstance(v, int):
        return struct.pack("<II", 4, v)
    if isinstance(v, float):
        return struct.pack("<If", 6, v)
    if isinstance(v, (str, bytes)):
        return struct.pack("<I", 8) + text(v)
    kind = 8 if isinstance(v[0], (str, bytes)) else 6 if isinstance(v[0], float) else 5
    return struct.pack("<IIQ", 9, kind, len(v)) + b"".join(
        text(x) if kind == 8 else struct.pack("<f" if kind == 6 else "<i", x) for x in v)

def header(M, T, version=3):
    """T {name: (type, shape, bytes)}: everything before the data."""
    head, at = b"GGUF" + struct.pack("<IQQ", version, len(T), len(M)) + b"".join(
        text(k) + value(v) for k, v in M.items()), 0
    for name, (dtype, shape, size) in T.items():
        head += text(name) + struct.pack("<I", len(shape)) + b"".join(
            struct.pack("<Q", n) for n in reversed(shape))
        head += struct.pack("<IQ", TYPES.get(dtype, dtype), at)
        at += size + -size % 32
    return head + b"\0" * (-len(head) % 32)

def write(path, M, T):
    with open(path, "wb") as f:
        f.write(header(M, {name: (d, s, len(raw)) for name, (d, s, raw) in T.items()}))
        for _, _, raw in T.values():
            f.write(raw + b"\0" * (-len(raw) % 32))

KINDS = "BbHhIif?s_Qqd"

def read(path):
    """The file's metadata {key: value} and tensors {name: (type number, shape, offset)}."""
    data, at = open(path, "rb").read(), 24
    def take(code):
        nonlocal at
        x, = struct.unpack_from("<" + code, data, at)
        at += struct.calcsize("<" + code)
        return x
    def take_text():
        nonlocal at
        n = take("Q")
        at += n
        return data[at - n:at].decode()
    def take_value(kind):
        if kind == 9:
            kind, n = take("I"), take("Q")
            return [take_value(kind) for _ in range(n)]
        return take_text() if kind == 8 else take(KINDS[kind])
    n_tensors, n_values = struct.unpack_from("<QQ", data, 8)
    M = {take_text(): take_value(take("I")) for _ in range(n_values)}
    T = {}
    for _ in range(n_tensors):
        name, n = take_text(), take("I")
        shape = [take("Q") for _ in range(n)][::-1]
        T[name] = take("I"), shape, take("Q")
    begin = at + -at % 32
    return M, {name: (kind, shape, begin + offset) for name, (kind, shape, offset) in T.items()}

def agree(folder, path, *more):
    c = json.load(open(folder + "/config.json"))
    want, got = metadata(c), read(path)[0]
    for key, value in want.items():
        if key in ("general.name", "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id"):
            continue
        near = isinstance(value, float) and math.isclose(value, got.get(key, 0), rel_tol=1e-6)
        assert near or got.get(key) == value, (path, key, value, got.get(key))
    if more:
        agree(*more)

def show(path, prefix=""):
    M, T = read(path)
    names = {number: name for name, number in TYPES.items()}
    names.update({3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K"})
    lines = [f"{k} {v[:6] if isinstance(v, list) else v}" for k, v in M.items()]
    lines += [f"{name} {names[kind]}" for name, (kind, *_) in T.items()]
    print("\n".join(line for line in lines if line.startswith(prefix)))

def make(folder, out, kind=None, code=""):
    if kind not in TYPES:
        kind, code = None, kind or code
    c = json.load(open(folder + "/config.json"))
    M, T = metadata(c), tensors(folder, c, kind)
    if (c.get("rope_scaling") or {}).get("rope_type") == "llama3":
        d = list(llama3_divisors(c))
        T["rope_freqs.weight"] = "F32", [len(d)], struct.pack(f"<{len(d)}f", *d)
    if os.path.exists(folder + "/tokenizer.json"):
        M.update(vocabulary(folder + "/tokenizer.json", "gpt-2"))
    exec(code, {"M": M, "T": T, "struct": struct})
    write(out, M, T)

def vocabulary(path, pre):
    t = json.load(open(path, encoding="utf-8"))
    added = {a["id"]: a for a in t["added_tokens"]}
    token = {i: s
             for s, i in t["model"]["vocab"].items()} | {i: a["content"] for i, a in added.items()}
    n = max(token) + 1
    kinds = [3 if added.get(i, {}).get("special") else 4 if i in added else 1 for i in range(n)]
    M = {
        "tokenizer.ggml.tokens": [token[i] for i in range(n)], "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2}
    merges = [m if isinstance(m, str) else " ".join(m) for m in t["model"]["merges"]]
    if pre != "spm":
        return M | {
            "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": pre,
            "tokenizer.ggml.merges": merges}
    made = {"".join(m.split(" ")): -float(i) for i, m in reversed(list(enumerate(merges)))}
    kinds[0] = 2
    for i in range(n):
        kinds[i] = 6 if re.fullmatch("<0x..>", token[i]) else kinds[i]
    return M | {
        "tokenizer.ggml.model": "llama", "tokenizer.ggml.scores": [
            made.get(token[i], -1e4) for i in range(n)]}

def vocab(path, out, pre):
    M = vocabulary(path, pre)
    n = len(M["tokenizer.ggml.tokens"])
    config = {
        "model_type": "gpt2", "n_embd": 2, "n_head": 1, "n_layer": 1, "n_positions": 4,
        "n_inner": 1, "layer_norm_epsilon": 1e-5}
    shapes = {
        "token_embd.weight": [n, 2], "position_embd.weight": [4, 2], "output_norm.weight": [2],
        "output_norm.bias": [2]}
    for name, shape in {
            "attn_norm": [2], "attn_qkv": [6, 2], "attn_output": [2, 2], "ffn_norm": [2],
            "ffn_up": [1, 2], "ffn_down": [2, 1]}.items():
        shapes |= {f"blk.0.{name}.weight": shape, f"blk.0.{name}.bias": shape[:1]}
    write(out,
          metadata(config) | M,
          {name: ("F32", shape, bytes(4 * st.product(shape))) for name, shape in shapes.items()})

def tiny(folder):
    r = random.Random(1)
    c = {
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 40,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": True, "torch_dtype": "float32"}
    T = {}
    def put(name, *shape):
        values = [r.randrange(-8, 8) / 256
                  for _ in range(st.product(shape))] if len(shape) > 1 else [1.0] * shape[0]
        T[name + ".weight"] = "F32", list(shape), struct.pack(f"<{len(values)}f", *values)
    put("model.embed_tokens", 40, 64)
    for i in range(2):
        b = f"model.layers.{i}."
        for name, *shape in (("input_layernorm", 64), ("post_attention_layernorm", 64),
                             ("self_attn.q_proj", 64, 64), ("self_attn.k_proj", 32, 64),
                             ("self_attn.v_proj", 32, 64), ("self_attn.o_proj", 64, 64),
                             ("mlp.gate_proj", 96, 64), ("mlp.up_proj", 96, 64), ("mlp.down_proj",
                                                                                  64, 96)):
            put(b + name, *shape)
    put("model.norm", 64)
    os.mkdir(folder)
    json.dump(c, open(folder + "/config.json", "w"))
    st.save(folder, T)

def same(a, b, *more):
    (ha, ra), (hb, rb) = (stream.read(open(path, "rb")) for path in (a, b))
    wide = lambda records: {
        n: (s, floats(d.upper(), raw)) for n, d, s, raw in records if not n.startswith("file/")}
    assert ha["id"] == hb["id"], (a, ha["id"], hb["id"])
    x, y = wide(ra), wide(rb)
    assert x.keys() == y.keys(), (a, x.keys() ^ y.keys())
    assert not [n for n in x if x[n] != y[n]], (a, [n for n in x if x[n] != y[n]])
    if more:
        same(*more)

def near(a, b, bound):
    x, y = ({
        n: (s, floats(d.upper(), raw))
        for n, d, s, raw in stream.read(open(path, "rb"))[1]
        if not n.startswith("file/")}
            for path in (a, b))
    assert x.keys() == y.keys(), x.keys() ^ y.keys()
    for n in x:
        assert x[n][0] == y[n][0], n
        off, most = max(abs(u - v) for u, v in zip(x[n][1], y[n][1])), max(map(abs, x[n][1]))
        assert off <= float(bound) * most, (n, off, most)

if __name__ == "__main__":
    {"make": make, "tiny": tiny, "vocab": vocab, "agree": agree, "show": show, "same": same,
     "near": near}[sys.argv[1]](*sys.argv[2:])
