"""Golden importance and slices against what the pruning tools make of them. python3's own library
only. Run by prune.bats, PATH holding the tools.
prune.py tokens FAMILY FILE             the family's calibration samples as a token stream of rows
prune.py tokens FAMILY FILE FROM TO     some of them (another stream, another id)
prune.py scores FAMILY...               every axis in nine aggregations, block importance
prune.py ranks FAMILY...                the orders, through pipes, are the golden ranking
prune.py losses FAMILY...               losses without each contiguous block
prune.py cuts FAMILY...                 every golden cut: one pass and the proven way write the same
                                        stream; tensors as golden's, logits to 1e-4
prune.py target FAMILY CASE             the options of slice-model for a golden cut
prune.py expect FAMILY CASE NAME        a value of its expected.json, such as parameters.total
prune.py same DIR DIR                   two directories hold the same tensors, byte for byte
prune.py close A B RTOL                 two streams hold the same numbers
prune.py orders RANK                    every order is a permutation inside its row; prints a digest
                                        of all
prune.py other DIR [TENSOR]             changes one weight of a directory's model: the first of all,
                                        or the last of TENSOR, which the model's id does not see
prune.py big DIR                        a model with one tensor of over 2 GB (a sparse file)
prune.py magnitude DIR RANK             FFN and head orders of layer 0 follow from the norms of the
                                        weights (llama, f32)"""
import io
import json
import math
import os
import struct
import subprocess
import sys

import stream

GOLDEN = os.environ["GOLDEN"]
CODES = {
    "f64": "d", "f32": "f", "i32": "i", "u32": "I", "F64": "d", "F32": "f", "I32": "i", "I64": "q"}


def values(code, raw):
    return struct.unpack("<%d%s" % (len(raw) // struct.calcsize(CODES[code]), CODES[code]), raw)


def raw_tensors(path):
    data = open(path, "rb").read()
    n = struct.unpack("<Q", data[:8])[0]
    head = json.loads(data[8:8 + n])
    head.pop("__metadata__", None)
    return {
        k: (t["dtype"], t["shape"], data[8 + n + t["data_offsets"][0]:8 + n + t["data_offsets"][1]])
        for k, t in head.items()}


def records(path):
    data = open(path, "rb").read()
    if data[:4] == b"\x28\xb5\x2f\xfd":
        data = subprocess.run(["zstd", "-dc", path], capture_output=True, check=True).stdout
    header, found = stream.read(io.BytesIO(data))
    return header, {
        name: (shape, values(dtype, raw)) for name, dtype, shape, raw in found if dtype in CODES}


def importance(family):
    stem = "%s/importance/%s" % (GOLDEN, family)
    return raw_tensors(stem + ".safetensors"), json.load(open(stem + ".json"))


def compare(what, got, want, rtol):
    assert len(got) == len(want), (what, len(got), len(want))
    for i, (a, b) in enumerate(zip(got, want)):
        assert abs(a - b) <= rtol * abs(b), (what, i, a, b)


def tokens(family, path, first="0", end="-1"):
    _, shape, raw = importance(family)[0]["input_ids"]
    first, end = int(first), shape[0] if end == "-1" else int(end)
    raw = raw[4 * first * shape[1]:4 * end * shape[1]]
    head = {
        "kind": "tokens", "id": stream.digest(b"%s-%d-%d" % (family.encode(), first, end)),
        "hist": []}
    stream.write(open(path, "wb"), head, [("ids", "u32", [end - first, shape[1]], raw)])


def run(*command, **more):
    subprocess.run(command, check=True, **more)


def piped(family, *commands):
    """Runs the golden samples through calib-acts and then the commands; returns the output of the
    last."""
    tokens(family, "tokens.tsz")
    data = None
    for command in (("calib-acts", "--quiet", GOLDEN + "/families/" + family, "tokens.tsz"),
                    *commands):
        data = subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout
    return data


def scores_of(family):
    golden, meta = importance(family)
    open("acts.tsz", "wb").write(piped(family))
    neurons = [k[6:-8] for k in golden if k.startswith("score.neuron") and k.endswith(".l2_mean")]
    turns = zip(neurons * 2, ("head_channel", "head_norm") * 3, ("no_final", "with_final") * 3)
    turns = list(turns)[:max(2, len(neurons))]
    for batch in ("mean", "l2", "var"):
        for seq in ("mean", "l2", "var"):
            for neuron, head, hidden in turns:
                run("score-importance", "--batch", batch, "--seq", seq, "--neuron", neuron,
                    "--head", head, "--hidden", hidden, "acts.tsz", "--compress", "none", "-o",
                    "scores.tsz")
                got = records("scores.tsz")[1]
                layers = len(got["num_hidden_layers"][1])
                for axis, name in (("intermediate_size", neuron), ("num_attention_heads", head),
                                   ("num_key_value_heads", head.replace("head", "group"))):
                    dtype, _, raw = golden["score.%s.%s_%s" % (name, batch, seq)]
                    joined = [x for i in range(layers) for x in got["%s.%d" % (axis, i)][1]]
                    compare((batch, seq, name), joined, values(dtype, raw), 1e-4)
                dtype, _, raw = golden["score.hidden_%s.%s_%s" % (hidden, batch, seq)]
                compare((batch, seq, hidden), got["hidden_size"][1], values(dtype, raw), 1e-4)
    depth = meta["depth"]
    compare("block importance", got["num_hidden_layers"][1], depth["block_importance"], 1e-4)
    for key, want in depth["block_importance_contiguous"].items():
        i, n = map(int, key.split("+"))
        compare(key, [got["block_importance"][1][(n - 1) * layers + i]], [want], 1e-4)


def rank_of(family):
    open("rank.tsz", "wb").write(piped(family, ["score-importance"], ["rank"]))
    want, got = importance(family)[1]["ranking_l2_mean"], records("rank.tsz")[1]
    assert list(got["hidden_size"][1]) == want["hidden"]
    assert list(got["num_hidden_layers"][1]) == want["layers"]
    for i in range(len(want["layers"])):
        assert list(got["intermediate_size.%d" % i][1]) == want["ffn"][i]
        assert list(got["num_key_value_heads.%d" % i][1]) == want["groups"][i]
        assert list(got["num_attention_heads.%d" % i][1]) == [
            h for group in want["heads_per_group"][i] for h in group]


def losses_of(family):
    tokens(family, "tokens.tsz")
    run("probe-layers", "--quiet", GOLDEN + "/families/" + family, "tokens.tsz", "--block-size",
        "all", "--batch-size", "4", "-o", "probe.tsz")
    depth, (head, got) = importance(family)[1]["depth"], records("probe.tsz")
    layers = len(got["num_hidden_layers"][1])
    assert abs(head["nll"] - depth["base_nll"]) < 1e-5
    for i, want in enumerate(depth["leave_one_out_nll"]):
        assert abs(got["num_hidden_layers"][1][i] + head["nll"] - want) < 1e-5
    for key, want in depth["leave_contiguous_out_nll"].items():
        i, n = map(int, key.split("+"))
        assert abs(got["nll_without"][1][(n - 1) * layers + i] - want) < 1e-5, key


def options(family, case):
    found = json.load(open("%s/slice/%s/%s/expected.json" % (GOLDEN, family, case)))
    merged = "merged" in found
    want = found["target"] if not merged else \
        {"heads_per_group" if found["per_group"] else "groups": found["kept"]}
    meta = importance(family)[1]
    dropped = want.pop("drop_layers", None)
    names = {
        "hidden": ("hidden-size", 1, 0), "ffn": ("intermediate-size", 1, 0),
        "groups": ("num-key-value-heads", 1, 0),
        "heads_per_group": ("num-attention-heads", want.get("groups", meta["kv_groups"]), 0),
        "drop": ("num-hidden-layers", -1, len(meta["ranking_l2_mean"]["layers"]))}
    return ["--%s=%d" % (names[k][0], names[k][1] * v + names[k][2]) for k, v in want.items()] + \
           (["--drop-layers=" + ",".join(map(str, dropped))] if dropped else []) + \
           (["--merge-heads=qkv" + "o" * ("o" in found["merged"])] if merged else [])


def target(family, case):
    print(*options(family, case))


def cuts_of(family):
    open("rank.tsz", "wb").write(piped(family, ["score-importance"], ["rank"]))
    for case in sorted(os.listdir(GOLDEN + "/slice/" + family)):
        golden = "%s/slice/%s/%s" % (GOLDEN, family, case)
        slicing = [
            "slice-model", "--quiet", GOLDEN + "/families/" + family, "--rank", "rank.tsz",
            *options(family, case), "-o"]
        run(*slicing, "one-pass.tsz")
        run(*slicing, "proven.tsz", "--verify", "tokens.tsz")
        assert open("one-pass.tsz", "rb").read() == open("proven.tsz", "rb").read(), case
        expected = raw_tensors(golden + "/expected.safetensors")
        _, (b, t), raw = expected["input_ids"]
        ids = struct.pack("<%dI" % (b * t), *values(expected["input_ids"][0], raw))
        head = {"kind": "tokens", "id": stream.digest(b"ids"), "hist": []}
        stream.write(open("ids.tsz", "wb"), head, [("ids", "u32", [b, t], ids)])
        run("dump-logits", "--quiet", "proven.tsz", "ids.tsz", "--full", "--compress", "none", "-o",
            "logits.tsz")
        got = [x for _, v in records("logits.tsz")[1].values() for x in v]
        want = values(expected["logits"][0], expected["logits"][2])
        assert len(got) == len(want) and max(abs(p - q) for p, q in zip(got, want)) <= 1e-4, case
        if os.path.exists(golden + "/model.safetensors"):
            run("hf-export", "--quiet", "--overwrite", "proven.tsz", "exported")
            same(golden, "exported")


def expect(family, case, name):
    found = json.load(open("%s/slice/%s/%s/expected.json" % (GOLDEN, family, case)))
    for key in name.split("."):
        found = found[key]
    print(found)


def same(a, b):
    x, y = (raw_tensors(d + "/model.safetensors") for d in (a, b))
    assert x == y, sorted(k for k in set(x) | set(y) if x.get(k) != y.get(k))


def close(a, b, rtol):
    x, y = records(a)[1], records(b)[1]
    assert sorted(x) == sorted(y)
    for k in x:
        assert x[k][0] == y[k][0]
        largest = max(map(abs, x[k][1]))
        assert all(abs(p - q) <= float(rtol) * largest for p, q in zip(x[k][1], y[k][1])), k


def orders(path):
    found = records(path)[1]
    for name, (shape, order) in found.items():
        for i in range(0, len(order), shape[-1]):
            assert sorted(order[i:i + shape[-1]]) == list(range(i, i + shape[-1])), name
    print(stream.digest(repr(sorted(found.items())).encode()))


def other(directory, tensor=None):
    path = directory + "/model.safetensors"
    data = bytearray(open(path, "rb").read())
    start = 8 + struct.unpack("<Q", data[:8])[0]
    end = json.loads(data[8:start])[tensor]["data_offsets"][1] if tensor else 1
    data[start + end - 1] ^= 1
    open(path, "wb").write(data)


def big(directory):
    config = json.load(open(GOLDEN + "/families/llama/config.json"))
    config.update(vocab_size=1100000, hidden_size=1024, intermediate_size=8, num_hidden_layers=1,
                  num_attention_heads=2, num_key_value_heads=1, head_dim=8,
                  tie_word_embeddings=True)
    layer = {
        "input_layernorm": [1024], "post_attention_layernorm": [1024],
        "self_attn.q_proj": [16, 1024], "self_attn.k_proj": [8, 1024],
        "self_attn.v_proj": [8, 1024], "self_attn.o_proj": [1024, 16],
        "mlp.gate_proj": [8, 1024], "mlp.up_proj": [8, 1024], "mlp.down_proj": [1024, 8]}
    shapes = {"model.layers.0.%s.weight" % k: v for k, v in layer.items()}
    shapes.update({"model.norm.weight": [1024], "model.embed_tokens.weight": [1100000, 1024]})
    head, at = {}, 0
    for name, shape in shapes.items():
        size = 2 * math.prod(shape)
        head[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    os.makedirs(directory)
    json.dump(config, open(directory + "/config.json", "w"))
    with open(directory + "/model.safetensors", "wb") as f:
        text = json.dumps(head).encode()
        f.write(struct.pack("<Q", len(text)) + text)
        f.truncate(8 + len(text) + at)


def magnitude(directory, path):
    t, got = {
        k: (s, values(d, r))
        for k, (d, s, r) in raw_tensors(directory + "/model.safetensors").items()}, records(path)[1]

    def squares(name, along):
        (rows, cols), x = t["model.layers.0." + name + ".weight"]
        return [
            sum(v * v
                for v in (x[i * cols:(i + 1) * cols] if along else x[i::cols]))
            for i in range(rows if along else cols)]

    ffn = [
        a + b + c for a, b, c in zip(squares("mlp.gate_proj", 1), squares("mlp.up_proj", 1),
                                     squares("mlp.down_proj", 0))]
    assert list(got["intermediate_size.0"][1]) == sorted(range(len(ffn)), key=lambda i: -ffn[i])
    channel = [
        a + b for a, b in zip(squares("self_attn.q_proj", 1), squares("self_attn.o_proj", 0))]
    groups, heads = got["num_attention_heads.0"][0]
    dim = len(channel) // groups // heads
    head = [sum(channel[h * dim:(h + 1) * dim]) for h in range(groups * heads)]
    want = [
        h for g in range(groups)
        for h in sorted(range(g * heads, (g + 1) * heads), key=lambda i: -head[i])]
    assert list(got["num_attention_heads.0"][1]) == want


if __name__ == "__main__":
    each = {"scores": scores_of, "ranks": rank_of, "losses": losses_of,
            "cuts": cuts_of}.get(sys.argv[1])
    for family in sys.argv[2:] if each else ():
        each(family)
    if not each:
        globals()[sys.argv[1]](*sys.argv[2:])
