#!/usr/bin/env python3
"""Checks gguf-export against llama.cpp, through the Python package llama-cpp-python. Usage:
llama.py BIN DIR... [--tokenizers TOKENIZER.json...]

1. Every DIR, a Hugging Face directory: llama.cpp loads its file and gives the loss and the greedy
   tokens that pare gives. A directory that llama.cpp cannot express is cut or changed into one that
   it can.
2. Every type: the tensors' types and bytes are those of llama.cpp's quantiser.
3. Every tokenizer with texts beside it (NAME.jsonl): llama.cpp tokenizes them to the same ids. Of
   others, the texts of all.
"""
import ctypes, json, os, random, shutil, struct, subprocess, sys, tempfile, unicodedata

import llama_cpp as L
import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, HERE + "/../tools"]
import gguf, st, stream

# llama.cpp computes GELU from a table of f16 values
BOUND, GELU_BOUND = 1e-5, 5e-4
TYPES = {
    "q8_0": 7, "q4_0": 2, "q4_1": 3, "q5_0": 8, "q5_1": 9, "q4_k_s": 14, "q4_k_m": 15, "q5_k_s": 16,
    "q5_k_m": 17, "q6_k": 18, "f16": 1, "bf16": 32}
failures = 0


def check(ok, what):
    global failures
    failures += not ok
    print(("ok      " if ok else "FAILED  ") + what, flush=True)


def run(*words, **how):
    return subprocess.run([str(w) for w in words], check=True, capture_output=True, text=True,
                          **how).stdout


class Model:
    """A file in llama.cpp; only_tokens: its vocabulary alone."""
    def __init__(self, path, only_tokens=False):
        params = L.llama_model_default_params()
        params.vocab_only = only_tokens
        self.model = L.llama_model_load_from_file(path.encode(), params)
        assert self.model, "does not load"
        self.vocab = L.llama_model_get_vocab(self.model)
        self.context = None if only_tokens else self.make_context()

    def make_context(self):
        params = L.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = 256
        params.n_threads = params.n_threads_batch = 1
        params.flash_attn_type = 0
        params.type_k = params.type_v = 0       # keys and values as f32
        return L.llama_init_from_model(self.model, params)

    def logits(self, ids):
        L.llama_memory_clear(L.llama_get_memory(self.context), True)
        batch = L.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, i, 1
            batch.seq_id[i][0], batch.logits[i] = 0, 1
        assert L.llama_decode(self.context, batch) == 0
        shape = len(ids), L.llama_vocab_n_tokens(self.vocab)
        z = np.ctypeslib.as_array(L.llama_get_logits(self.context), shape=shape).astype(np.float64)
        L.llama_batch_free(batch)
        return z

    def loss(self, ids):
        z = self.logits(ids)[:-1]
        z -= z.max(-1, keepdims=True)
        return (np.log(np.exp(z).sum(-1)) - z[np.arange(len(z)), ids[1:]]).mean()

    def greedy(self, ids, n):
        made = list(ids)
        for _ in range(n):
            made.append(int(self.logits(made)[-1].argmax()))
        return made[len(ids):]

    def tokenize(self, text):
        data = text.encode()
        ids = (L.llama_token * (len(data) + 8))()
        n = L.llama_tokenize(self.vocab, data, len(data), ids, len(ids), False, True)
        return list(ids[:n])

    def close(self):
        if self.context:
            L.llama_free(self.context)
        L.llama_model_free(self.model)


# ---- 1. directories

DEEPER = """
for name in list(T):
    for layer in range(1, C['num_hidden_layers']):
        T[name.replace('.layers.0.', f'.layers.{layer}.')] = T[name]
"""

def expressible(bin_, folder, work):
    """The directory's model as a stream, and as a file; changed if llama.cpp has no form for it."""
    c = json.load(open(folder + "/config.json"))
    if "no_rope_layers" in c:
        st.edit(folder, work + "/edited", "C['no_rope_layers'] = [1, 1, 1, 0][:%d]" %
                c["num_hidden_layers"])
        folder = work + "/edited"
    if c.get("use_qk_norm"):    # only with so many layers
        st.edit(folder, work + "/edited", "C['num_hidden_layers'] = 64\n" + DEEPER)
        folder = work + "/edited"
    m, f = work + "/m.tsz", work + "/m.gguf"
    run(bin_ + "/hf-import", folder, "-o", m)
    if not subprocess.run([bin_ + "/gguf-export", m, f, "--type", "f32", "--quiet"],
                          capture_output=True).returncode:
        return m, f
    run(bin_ + "/rank", "--magnitude", m, "-o", work + "/m.rank")
    for cut in (["--hidden-size", 32, "--num-attention-heads", 4], ["--hidden-size", 24],
                ["--hidden-size", 16, "--num-attention-heads", 2],
                ["--drop-layers", 3]):
        words = [bin_ + "/slice-model", m, "--rank", work + "/m.rank", *map(str, cut)]
        if subprocess.run([*words, "-o", work + "/cut.tsz"], capture_output=True).returncode:
            continue
        if not subprocess.run([bin_ + "/gguf-export", work + "/cut.tsz", f, "--type", "f32",
                               "--quiet"], capture_output=True).returncode:
            return work + "/cut.tsz", f
    return None


def check_directory(bin_, folder, work):
    name = "/".join(folder.rstrip("/").split("/")[-3:])
    made = expressible(bin_, folder, work)
    if not made:
        said = subprocess.run([bin_ + "/gguf-export", folder, work + "/x.gguf"],
                              capture_output=True, text=True).stderr
        print(f"refused {name}: {said.strip()}")
        return
    config = json.dumps(json.load(open(folder + "/config.json")))
    # as long as no window matters to an architecture that llama.cpp runs without
    M = gguf.read(made[1])[0]
    arch = M["general.architecture"]
    length = 24
    if arch in ("llama", "phi3", "starcoder2"):
        length = min(length, M.get(arch + ".attention.sliding_window") or length)
    r = random.Random(1)
    ids = [r.randrange(3, M[arch + ".vocab_size"]) for _ in range(length)]
    run(bin_ + "/tokenize", "--ids", "-o", work + "/ids.tsz", input=" ".join(map(str, ids)))
    ours = json.loads(run(bin_ + "/eval-ppl", made[0], work + "/ids.tsz", "--quiet"))["nll"]
    gelu = '"gelu' in config or "gpt" in arch
    model = Model(made[1])
    off = abs(model.loss(ids) - ours)
    check(off < (GELU_BOUND if gelu else BOUND), f"{name} as {arch}: losses differ by {off:.1e}")
    if not gelu:
        n = length - 4 if length < 24 else 16
        text = run(bin_ + "/generate", made[0], "--prompt-ids", " ".join(map(str, ids[:4])),
                   "--max-new-tokens", n, "--quiet", "--ignore-eos")
        want = [int(x) for x in text.split()][-n:]
        check(model.greedy(ids[:4], n) == want, f"{name}: greedy tokens")
    model.close()


# ---- 2. types


def wide(folder, layers=10, tied=True, width=512, heads=8):
    """A llama whose rows are whole blocks (width 512), or are not."""
    r = np.random.default_rng(1)
    c = {
        "model_type": "llama", "hidden_size": width, "intermediate_size": 768,
        "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": heads // 4, "head_dim": width // heads,
        "vocab_size": 64, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": tied}
    T = {}

    def put(name, *shape):
        T[name] = "F32", list(shape), (r.standard_normal(shape) * 0.05).astype("<f4").tobytes()

    kv = c["num_key_value_heads"] * c["head_dim"]
    put("model.embed_tokens.weight", 64, width)
    if not tied:
        put("lm_head.weight", 64, width)
    put("model.norm.weight", width)
    for l in range(layers):
        for name, *shape in (("input_layernorm", width), ("post_attention_layernorm", width),
                             ("self_attn.q_proj", width, width), ("self_attn.k_proj", kv, width),
                             ("self_attn.v_proj", kv, width), ("self_attn.o_proj", width, width),
                             ("mlp.gate_proj", 768, width), ("mlp.up_proj", 768, width),
                             ("mlp.down_proj", width, 768)):
            put(f"model.layers.{l}.{name}.weight", *shape)
    os.mkdir(folder)
    json.dump(c, open(folder + "/config.json", "w"))
    st.save(folder, T)


def quantise(source, target, file_type, pure):
    params = L.llama_model_quantize_default_params()
    params.ftype, params.pure, params.nthread = file_type, pure, 2
    assert L.llama_model_quantize(source.encode(), target.encode(), params) == 0


def contents(path):
    data, (M, T) = open(path, "rb").read(), gguf.read(path)
    order = sorted(T, key=lambda name: T[name][2]) + [None]
    ends = [T[name][2] for name in order[1:-1]] + [len(data)]
    return {
        name: (T[name][0], data[T[name][2]:end]) for name, end in zip(order, ends)
    }, M["general.file_type"]


def check_types(bin_, work):
    shapes = {"tied": {}, "untied": {"tied": False}, "rows of 480": {"width": 480, "layers": 4}}
    for what, shape in shapes.items():
        folder = work + "/" + what.replace(" ", "-")
        wide(folder, **shape)
        run(bin_ + "/gguf-export", folder, work + "/f32.gguf")
        for name, number in TYPES.items():
            for pure in (False, True):
                run(bin_ + "/gguf-export", folder, work + "/a.gguf", "--type", name, "--quiet",
                    *(["--pure"] if pure else []))
                quantise(work + "/f32.gguf", work + "/b.gguf", number, pure)
                a, b = contents(work + "/a.gguf"), contents(work + "/b.gguf")
                wrong = [n for n in b[0] if a[0].get(n) != b[0][n]]
                check(not wrong and a == b,
                      f"{name}{' --pure' if pure else ''}, {what}: llama.cpp's blocks {wrong[:3]}")


# ---- 3. tokenizers


def with_tokenizer(folder, tokenizer, like):
    t = json.load(open(tokenizer, encoding="utf-8"))
    vocab = t["model"]["vocab"]
    ids = vocab.values() if isinstance(vocab, dict) else range(len(vocab))
    n = 1 + max([*ids, *(a["id"] for a in t["added_tokens"])])
    st.edit(
        like, folder, f"C['vocab_size'] = {n}\n"
        "for k in 'model.embed_tokens.weight', 'lm_head.weight':\n"
        "    d, s, b = T[k]\n"
        f"    T[k] = d, [{n}, s[1]], (b * ({n} // s[0] + 1))[:len(b) // s[0] * {n}]")
    shutil.copy(tokenizer, folder + "/tokenizer.json")
    return t


def check_tokenizer(bin_, tokenizer, texts, work):
    folder, name = work + "/tokenizer", "/".join(tokenizer.split("/")[-2:])
    t = with_tokenizer(folder, tokenizer, HERE + "/../golden/families/llama")
    # llama.cpp does not normalise, and takes </s> for a special token in every vocabulary
    if '"NFC"' in json.dumps(t["normalizer"]):
        texts = [unicodedata.normalize("NFC", text) for text in texts]
    if "</s>" not in (a["content"] for a in t["added_tokens"]):
        texts = [text for text in texts if "</s>" not in text]
    made = subprocess.run([bin_ + "/gguf-export", folder, work + "/t.gguf", "--quiet"],
                          capture_output=True, text=True)
    if made.returncode:
        print(f"refused {name}: {made.stderr.strip()}")
        return
    model = Model(work + "/t.gguf", only_tokens=True)
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    run(bin_ + "/tokenize", "-m", folder, "--bos", "no", "--compress", "none", "-o",
        work + "/ids.ts", input=lines)
    ours = [
        list(struct.unpack(f"<{len(d) // 4}I", d))
        for n, _, _, d in stream.read(open(work + "/ids.ts", "rb"))[1]
        if n.startswith("ids.")]
    wrong = [t for t, ids in zip(texts, ours) if model.tokenize(t) != ids]
    check(len(ours) == len(texts) and not wrong,
          f"{name}: {len(texts) - len(wrong)} of {len(texts)} texts {wrong[:1]}")
    model.close()
    shutil.rmtree(folder)


def main():
    bin_, *rest = sys.argv[1:]
    at = rest.index("--tokenizers") if "--tokenizers" in rest else len(rest)
    folders, tokenizers = rest[:at], rest[at + 1:]
    quiet = L.llama_log_callback(lambda level, text, user: None)
    L.llama_log_set(quiet, ctypes.c_void_p(0))
    L.llama_backend_init()
    for folder in folders:
        with tempfile.TemporaryDirectory() as work:
            check_directory(bin_, folder, work)
    with tempfile.TemporaryDirectory() as work:
        check_types(bin_, work)
    every = [
        json.loads(line)["text"]
        for t in tokenizers if os.path.exists(t[:-5] + ".jsonl")
        for line in open(t[:-5] + ".jsonl", encoding="utf-8")]
    for t in tokenizers:
        texts = [json.loads(line)["text"] for line in open(t[:-5] + ".jsonl", encoding="utf-8")
                ] if os.path.exists(t[:-5] + ".jsonl") else every
        with tempfile.TemporaryDirectory() as work:
            check_tokenizer(bin_, t, texts, work)
    print(f"{failures} failures")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
