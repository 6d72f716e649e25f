"""Scores by other means.

scores.py weighted MODEL ACTS SCORES [l2]   MODEL a stream; activations of ACTS by l2 and mean (or
                                            l2), times sums of absolute weights, are SCORES
"""
import math
import sys

from prune import records

QKV, FIRST = ("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")
READERS = {"input_layernorm": QKV, "residual.q_proj": QKV, "post_attention_layernorm": FIRST,
           "residual.gate_proj": FIRST}


def close(what, got, want):
    assert len(got) == len(want), (what, len(got), len(want))
    assert max(want) > 0, what
    for i, (a, b) in enumerate(zip(got, want)):
        assert abs(a - b) <= 1e-6 * max(abs(b), 1e-6 * max(map(abs, want))), (what, i, a, b)


def weighted(model, acts, scores, seq="mean"):
    tensors, (head, sums), got = records(model)[1], records(acts), records(scores)[1]
    n, which = head["samples"], ("mean", "l2").index(seq)

    def activation(name):
        (_, _, units), v = sums[name]
        at = 2 * which * units
        return [math.sqrt(v[at + units + i] + n * v[at + i] ** 2) for i in range(units)]

    def columns(layer, *stems):
        total = 0
        for stem in stems:
            (rows, cols), w = tensors["layers.%d.%s.weight" % (layer, stem)]
            total = [sum(map(abs, w[c::cols])) + (total[c] if total else 0) for c in range(cols)]
        return total

    def times(a, b):
        return [x * y for x, y in zip(a, b, strict=True)]

    hidden, shares = 0, any("residual" in name for name in sums)
    for layer in range(len(got["num_hidden_layers"][1])):
        close("neurons", got["intermediate_size.%d" % layer][1],
              times(activation("neuron_in2.%d" % layer), columns(layer, "down_proj")))
        (k, g), heads = got["num_attention_heads.%d" % layer]
        x = times(activation("attn_channel.%d" % layer), columns(layer, "o_proj"))
        d = len(x) // (k * g)
        close("heads", heads, [math.hypot(*x[i:i + d]) for i in range(0, len(x), d)])
        for name in sums:
            if name.startswith("hidden.%d." % layer):
                x = times(activation(name), columns(layer, *READERS[name.split(".", 2)[2]]))
                mean = sum(x) / len(x) if shares else 1
                hidden = [v / mean + (hidden[i] if hidden else 0) for i, v in enumerate(x)]
    close("hidden", got["hidden_size"][1], hidden)


if __name__ == "__main__":
    sys.exit(globals()[sys.argv[1]](*sys.argv[2:]))
