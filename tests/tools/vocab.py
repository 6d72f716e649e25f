"""Models with a tokenizer, and two vocabularies side by side. python3's own library only; run by
vocab.bats, ids.bats and tests/hf/vocab.py.
vocab.py model TOKENIZER DIR [CONFIG [ROWS]]
                                        a tiny Llama of random weights with that tokenizer.json and
                                        a generation_config.json; CONFIG: JSON, more of config.json;
                                        ROWS: of the embeddings, if they are more than tokens
vocab.py same OLD NEW A B               the documents of token stream A, of the tokenizer.json OLD,
                                        beside B, of NEW, which has fewer tokens: equal texts token
                                        by token where all stay, equal bytes where not; prints how
                                        many stay, and the numbers of tokens
vocab.py ids DIR                        the ids that a directory's files name, with their texts
vocab.py check DIR OLD                  ids are 0 .. n-1; merges have their tokens, and make all
                                        that those of the directory OLD make; scores are its"""
import json
import os
import random
import re
import struct
import subprocess
import sys

import stream

E, F, H, K, L = 32, 48, 4, 2, 2


def vocabulary(tokenizer):
    """{id: text}, added tokens too"""
    vocab = tokenizer["model"]["vocab"]
    texts = ({i: t for t, i in vocab.items()} if isinstance(vocab, dict) else
             {i: t for i, (t, _) in enumerate(vocab)})      # of a Unigram model
    return {**texts, **{t["id"]: t["content"] for t in tokenizer["added_tokens"]}}


def tensors(rows):
    yield "model.embed_tokens.weight", (rows, E)
    for i in range(L):
        layer = "model.layers.%d." % i
        yield layer + "input_layernorm.weight", (E,)
        yield layer + "post_attention_layernorm.weight", (E,)
        for name, out, into in (("self_attn.q", E, E), ("self_attn.k", E * K // H, E),
                                ("self_attn.v", E * K // H, E), ("self_attn.o", E, E),
                                ("mlp.gate", F, E), ("mlp.up", F, E), ("mlp.down", E, F)):
            yield "%s%s_proj.weight" % (layer, name), (out, into)
    yield "model.norm.weight", (E,)
    yield "lm_head.weight", (rows, E)


def model(path, folder, config="{}", rows=0):
    last = max(vocabulary(json.load(open(path, encoding="utf-8"))))
    rows = int(rows) or last + 1
    os.makedirs(folder)
    head, body, r = {}, b"", random.Random(1)
    for name, shape in tensors(rows):
        n = shape[0] * (shape[1] if len(shape) == 2 else 1)
        data = struct.pack("<%df" % n, *(r.gauss(0, .2) for _ in range(n)))
        head[name] = {"dtype": "F32", "shape": shape,
                      "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(head).encode()
    with open(folder + "/model.safetensors", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + body)
    config = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": rows,
        "hidden_size": E, "intermediate_size": F, "num_hidden_layers": L,
        "num_attention_heads": H, "num_key_value_heads": K, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": False, "bos_token_id": 0,
        "eos_token_id": last, "pad_token_id": None, **json.loads(config)}
    write = lambda name, value: json.dump(value, open(folder + "/" + name, "w"))
    write("config.json", config)
    write("generation_config.json", {"eos_token_id": [last, 0], "temperature": 0.5,
                                     "suppress_tokens": [last, 70, last - 1]})
    with open(folder + "/tokenizer.json", "w", encoding="utf-8") as f:
        f.write(open(path, encoding="utf-8").read())


def documents(path):
    data = open(path, "rb").read()
    if data[:4] == b"\x28\xb5\x2f\xfd":
        data = subprocess.run(["zstd", "-dc", path], capture_output=True, check=True).stdout
    head, records = stream.read(__import__("io").BytesIO(data))
    return {name: struct.unpack("<%dI" % (len(raw) // 4), raw)
            for name, dtype, _, raw in records if dtype == "u32"}


def spelled(tokens):
    """The bytes of a text of tokens, with byte fallback undone."""
    out = b""
    for t in tokens:
        byte = re.fullmatch("<0x([0-9A-F]{2})>", t)
        out += bytes([int(byte[1], 16)]) if byte else t.encode()
    return out


def same(old_path, new_path, a, b):
    old, new = (vocabulary(json.load(open(p, encoding="utf-8"))) for p in (old_path, new_path))
    left = set(new.values())
    before, after = documents(a), documents(b)
    assert before.keys() == after.keys()
    stay = total = 0
    for name in before:
        if name.startswith("bytes"):
            assert sum(before[name]) == sum(after[name]), name
            continue
        x, y = [old[i] for i in before[name]], [new[i] for i in after[name]]
        total += 1
        if left.issuperset(x):
            stay += 1
            assert x == y, (name, x, y)
        assert spelled(x) == spelled(y), (name, x, y)
    count = lambda d: sum(len(v) for k, v in d.items() if k.startswith("ids"))
    print("%d of %d texts stay, %d tokens become %d" % (stay, total, count(before), count(after)))


def ids(folder):
    texts = vocabulary(json.load(open(folder + "/tokenizer.json", encoding="utf-8")))
    for name in ("config.json", "generation_config.json"):
        for key, value in sorted(json.load(open("%s/%s" % (folder, name))).items()):
            if re.search("token|suppress", key):
                many = value if isinstance(value, list) else [value]
                print(key, *(texts.get(i, i) for i in many))


def merges(folder):
    tokenizer = json.load(open(folder + "/tokenizer.json", encoding="utf-8"))
    return tokenizer, [m.split(" ") if isinstance(m, str) else m
                       for m in tokenizer["model"].get("merges", [])]


def check_scores(model, old):
    before = json.load(open(old + "/tokenizer.json", encoding="utf-8"))["model"]
    assert model["vocab"] == [piece for piece in before["vocab"] if piece in model["vocab"]]
    assert min(s for _, s in model["vocab"]) == min(s for _, s in before["vocab"])
    assert model["vocab"][model["unk_id"]] == before["vocab"][before["unk_id"]]


def check(folder, old):
    tokenizer, pairs = merges(folder)
    texts = vocabulary(tokenizer)
    size = json.load(open(folder + "/config.json"))["vocab_size"]
    assert sorted(texts) == list(range(size)), (len(texts), size)
    vocab = tokenizer["model"]["vocab"]
    if tokenizer["model"]["type"] == "Unigram":
        check_scores(tokenizer["model"], old)
    for left, right in pairs:
        assert left in vocab and right in vocab and left + right in vocab, (left, right)
    made = {left + right for left, right in pairs}
    assert not [t for t in map("".join, merges(old)[1]) if t in vocab and t not in made]


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
