"""Scores by other means.

scores.py weighted MODEL ACTS SCORES [l2]   MODEL a stream; activations of ACTS by l2 and mean (or
                                            l2), times sums of absolute weights, are SCORES
scores.py ids FAMILY FILE                   the tokens of its golden gradients, as rows
scores.py taylor FAMILY MODEL SCORES        sums of weights times these gradients are SCORES
"""
import math
import sys

import stream
from prune import GOLDEN, raw_tensors, records, values

QKV, FIRST = ("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")
READERS = {"input_layernorm": QKV, "residual.q_proj": QKV, "post_attention_layernorm": FIRST,
           "residual.gate_proj": FIRST}


def close(what, got, want, off=1e-6):
    assert len(got) == len(want), (what, len(got), len(want))
    assert max(want) > 0, what
    for i, (a, b) in enumerate(zip(got, want)):
        assert abs(a - b) <= off * max(want), (what, i, a, b)


def weighted(model, acts, scores, seq="mean"):
    tensors, (head, sums), (made, got) = records(model)[1], records(acts), records(scores)
    n, which = head["samples"], ("mean", "l2").index(seq)

    def activation(name):
        (_, _, units), v = sums[name]
        at = 2 * which * units
        return [math.sqrt(v[at + units + i] + n * v[at + i] ** 2) for i in range(units)]

    def columns_of(*names):
        total = 0
        for name in names:
            (rows, cols), w = tensors[name + ".weight"]
            total = [sum(map(abs, w[c::cols])) + (total[c] if total else 0) for c in range(cols)]
        return total

    def columns(layer, *stems):
        return columns_of(*("layers.%d.%s" % (layer, stem) for stem in stems))

    def times(a, b):
        return [x * y for x, y in zip(a, b, strict=True)]

    hidden, shares = [0] * sums["hidden.final"][0][2], any("residual" in name for name in sums)

    def add_hidden(name, readers):
        x = times(activation(name), readers)
        mean = sum(x) / len(x) if shares else 1
        hidden[:] = [v / mean + before for v, before in zip(x, hidden)]

    for layer in range(len(got["num_hidden_layers"][1])):
        close("neurons", got["intermediate_size.%d" % layer][1],
              times(activation("neuron_in2.%d" % layer), columns(layer, "down_proj")))
        (k, g), heads = got["num_attention_heads.%d" % layer]
        x = times(activation("attn_channel.%d" % layer), columns(layer, "o_proj"))
        d = len(x) // (k * g)
        close("heads", heads, [math.hypot(*x[i:i + d]) for i in range(0, len(x), d)])
        for name in sums:
            if name.startswith("hidden.%d." % layer):
                add_hidden(name, columns(layer, *READERS[name.split(".", 2)[2]]))
    if made["hidden"] == "with_final":
        tied = "lm_head.weight" not in tensors
        add_hidden("hidden.final", columns_of("embed_tokens" if tied else "lm_head"))
    close("hidden", got["hidden_size"][1], hidden)


def expected(family):
    return raw_tensors("%s/families/%s/expected.safetensors" % (GOLDEN, family))


def ids(family, path):
    _, shape, raw = expected(family)["input_ids"]
    with open(path, "wb") as f:
        stream.write(f, {"kind": "tokens", "id": stream.digest(raw), "hist": []},
                     [("ids", "u32", shape, raw)])


def stored(name):
    """Its name in a checkpoint of the Llama set."""
    for block, stems in ("self_attn", (*QKV, "o_proj")), ("mlp", (*FIRST, "down_proj")):
        for stem in stems:
            name = name.replace(".%s." % stem, ".%s.%s." % (block, stem))
    return name if name.startswith("lm_head") else "model." + name


# rows and columns of a layer's matrices, and the entries of an axis
AXES = {"q_proj": "HE", "k_proj": "KE", "v_proj": "KE", "o_proj": "EH", "gate_proj": "FE",
        "up_proj": "FE", "down_proj": "EF"}
ENTRIES = {"E": ["hidden_size"], "F": ["intermediate_size.%s"], "K": ["num_key_value_heads.%s"],
           "H": ["num_attention_heads.%s", "num_key_value_heads.%s"]}


def taylor(family, model, scores):
    golden, got = expected(family), records(scores)[1]
    want = {name: [0] * len(v) for name, (_, v) in got.items()}

    def add(axis, layer, products):     # each unit's are as many in a row
        for entry in ENTRIES[axis]:
            to = want[entry.replace("%s", layer)]
            for i, x in enumerate(products):
                to[i * len(to) // len(products)] += x

    for name, (shape, w) in records(model)[1].items():
        layer, stem = name.split(".")[1:3] if name.startswith("layers.") else ("", "")
        if len(shape) == 1 and not name.endswith(".bias"):
            continue
        dtype, _, raw = golden["grad." + stored(name)]
        wg, cols = [a * b for a, b in zip(w, values(dtype, raw), strict=True)], 1
        if len(shape) == 2:
            cols = shape[1]
            add(AXES.get(stem, "VE")[1], layer, [math.fsum(wg[c::cols]) for c in range(cols)])
        if layer:
            want["num_hidden_layers"][int(layer)] += math.fsum(wg)
            add(AXES[stem][0], layer, [math.fsum(wg[i:i + cols]) for i in range(0, len(wg), cols)])
    for name in got:
        close(name, got[name][1], [abs(x) for x in want[name]], 1e-4)


if __name__ == "__main__":
    sys.exit(globals()[sys.argv[1]](*sys.argv[2:]))
