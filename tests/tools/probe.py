"""What probe-layers measures, by other means.

probe.py cuts TABLE MODEL TOKENS RANK [DTYPE]   the loss of every variant is that of slice-model's
                                                cut
probe.py divergence TABLE LINE A B      KL and agreement of a line, from streams of full logits
probe.py partial TABLE PART FILE        what is left in FILE when the run of TABLE is killed after
                                        the windows of PART, a run on fewer of them
probe.py close A B                      the same variants with the same numbers to 1e-4
probe.py letters FILE                   a tokenizer.json of single characters, from "!" to "p"
probe.py items FILE                     some questions in these
probe.py accuracies FILE A...           acc_without of a stream, blocks of 1 first, is A...
"""
import json
import math
import struct
import subprocess
import sys

import stream

DROPS = {"attention": "--drop-attention", "mlp": "--drop-mlp", "layer": "--drop-layers"}
NUMBERS = ("kl", "nll", "same_top1")


def table(path):
    with open(path) as f:
        head, *lines = map(json.loads, f)
    assert head["kind"] == "variants" and len(lines) > 0, path
    return head, lines


def made(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


def options(line):
    layer = line["layer"]
    if "drop" in line:
        return [DROPS[line["drop"]], "%d" % layer]
    axis, = set(line) - {"layer", *NUMBERS}
    return ["--" + axis.replace("_", "-"), "%d:%d" % (layer, line[axis])]


def cuts(path, model, tokens, rank, dtype="keep"):
    def loss(name):
        record = json.loads(made("eval-ppl", "--quiet", name, tokens))
        return record["nll"], record["predictions"]

    head, lines = table(path)
    wrong = abs(head["nll"] - loss(model)[0]) > 1e-6 or head["predictions"] != loss(model)[1]
    for line in lines:
        made("slice-model", "--quiet", model, "--rank", rank, *options(line),
             "--dtype", dtype, "-o", "cut.tsz")
        if not abs(line["nll"] - loss("cut.tsz")[0]) < 1e-6:
            wrong = True
            print(line, loss("cut.tsz"))
    return wrong


def rows(path):
    for _, _, (n, vocabulary), data in stream.read(open(path, "rb"))[1]:
        for t in range(n - 1):      # nothing is predicted after the last token
            yield struct.unpack_from("<%df" % vocabulary, data, 4 * t * vocabulary)


def log_softmax(z):
    top = max(z)
    total = top + math.log(math.fsum(math.exp(x - top) for x in z))
    return [x - total for x in z]


def divergence(path, number, a, b):
    line, kl, same, n = table(path)[1][int(number)], 0, 0, 0
    for p, q in zip(map(log_softmax, rows(a)), map(log_softmax, rows(b))):
        kl += math.fsum(math.exp(x) * (x - y) for x, y in zip(p, q))
        same += p.index(max(p)) == q.index(max(q))
        n += 1
    print(kl / n, same / n, line)
    return not (abs(kl / n - line["kl"]) < 1e-6 and abs(same / n - line["same_top1"]) < 1e-9)


def partial(path, part, to):
    (head, _), (short, lines) = table(path), table(part)
    head.update({key: short[key] for key in ("windows", "predictions", "nll")})
    with open(to, "w") as f:
        for line in head, *lines:
            print(json.dumps(line, separators=(",", ":")), file=f)


def close(a, b):
    def same(x, y):
        return x.keys() == y.keys() and all(
            abs(v - y[k]) < 1e-4 if k in NUMBERS else v == y[k] for k, v in x.items())

    (_, x), (_, y) = table(a), table(b)
    return len(x) != len(y) or not all(map(same, x, y))


def letters(path):
    vocab = {chr(i): i - 0x21 for i in range(0x21, 0x71)} | {"Ġ": 82}
    level = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
    bpe = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
           "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
           "ignore_merges": False, "vocab": vocab, "merges": []}
    with open(path, "w") as f:
        json.dump({"version": "1.0", "added_tokens": [], "normalizer": None,
                   "pre_tokenizer": {**level, "add_prefix_space": False}, "post_processor": None,
                   "decoder": {**level, "add_prefix_space": True}, "model": bpe}, f)


def items(path):
    with open(path, "w") as f:
        for i in range(20):
            choices = [" %c%d" % (97 + (i * k) % 15, i + k) for k in (1, 2, 4)]
            print(json.dumps({"ctx": "%d and" % i, "choices": choices, "gold": i % 3}), file=f)


def accuracies(path, *expected):
    head, records = stream.read(open(path, "rb"))
    (_, layers), values = next((r[2], r[3]) for r in records if r[0] == "acc_without")
    got = struct.unpack("<%dd" % (len(values) // 8), values)
    got = [got[n * layers + i] for n in range(2) for i in range(layers - n)]
    print(got, expected)
    return (len(set(got)) < 3 or head["by"] != "accuracy" or head["items"] != 20 or
            any(abs(a - float(b)) > 1e-9 for a, b in zip(got, expected, strict=True)))


if __name__ == "__main__":
    sys.exit(globals()[sys.argv[1]](*sys.argv[2:]))
