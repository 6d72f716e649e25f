"""Checks eval-ppl --against from the logits of both models. python3's own library only.
divergence.py TEACHER STUDENT TOKENS RECORDS   plain streams of dump-logits --full, of tokens; the
                                               records of eval-ppl --per-sequence --against

The formulas are those of llama-perplexity --kl-divergence: sums over predictions, errors from sums
of squares, percentiles by linear interpolation."""
import json
import math
import struct
import sys

import stream


def rows(path):
    """Per window, rows of logits."""
    found = []
    for name, _, shape, data in stream.read(open(path, "rb"))[1]:
        if name.startswith("logits."):
            flat = struct.unpack("<%df" % (shape[0] * shape[1]), data)
            found.append([flat[i:i + shape[1]] for i in range(0, len(flat), shape[1])])
    return found


def sequences(path):
    for name, _, shape, data in stream.read(open(path, "rb"))[1]:
        if name.split(".")[0] == "ids":
            flat = struct.unpack("<%dI" % (len(data) // 4), data)
            for i in range(0, len(flat), shape[-1]):
                yield flat[i:i + shape[-1]]


def log_softmax(z):
    top = max(z)
    total = top + math.log(sum(math.exp(x - top) for x in z))
    return [x - total for x in z]


def best(z, k):
    return set(sorted(range(len(z)), key=lambda i: (-z[i], i))[:k])


def prediction(teacher, student, label):
    t, s = log_softmax(teacher), log_softmax(student)
    kl = sum(math.exp(a) * (a - b) for a, b in zip(t, s))
    same = [len(best(t, k) & best(s, k)) / k for k in (1, 5, 10)]
    return [kl, -s[label], -t[label]] + same


def estimate(x):
    n, mean = len(x), sum(x) / len(x)
    return mean, math.sqrt(max(0, sum(v * v for v in x) / n - mean * mean) / (n - 1))


def percentile(x, percent):
    x = sorted(x)
    place = percent / 100 * (len(x) - 1)
    i = int(place)
    return x[i] + (place - i) * (x[min(i + 1, len(x) - 1)] - x[i])


def near(got, want, what):
    assert abs(got - want) < 1e-6 + 1e-6 * abs(want), (what, got, want)


def check_sequence(record, values):
    mean = [sum(column) / len(values) for column in zip(*values)]
    keys = "kl nll teacher_nll same_top1 same_top5 same_top10".split()
    assert record["predictions"] == len(values)
    for key, want in zip(keys, mean):
        near(record[key], want, key)


def main(teacher, student, tokens, records):
    *parts, whole = [json.loads(line) for line in open(records)]
    per_sequence = [[prediction(a, b, label) for a, b, label in zip(t, s, ids[1:])]
                    for t, s, ids in zip(rows(teacher), rows(student), sequences(tokens))]
    assert [p["sequence"] for p in parts] == list(range(len(per_sequence)))
    for record, values in zip(parts, per_sequence):
        check_sequence(record, values)
    kl, nll, base, *same = zip(*sum(per_sequence, []))
    got = whole["against"]
    near(whole["nll"], sum(nll) / len(nll), "nll")
    near(got["nll"], sum(base) / len(base), "the teacher's nll")
    ratio, ratio_error = estimate([a - b for a, b in zip(nll, base)])
    change = [math.exp(-a) - math.exp(-b) for a, b in zip(nll, base)]
    square, square_error = estimate([d * d for d in change])
    a, b, n = estimate(nll), estimate(base), len(nll)
    covariance = (sum(x * y for x, y in zip(nll, base)) / n - a[0] * b[0]) / (n - 1)
    same_error = math.sqrt(got["same_top1"] * (1 - got["same_top1"]) / (n - 1))
    for key, want in {
            "kl": estimate(kl)[0], "kl_error": estimate(kl)[1], "ln_ppl_ratio": ratio,
            "ln_ppl_ratio_error": ratio_error, "nll_correlation": covariance / a[1] / b[1],
            "delta_p": estimate(change)[0], "delta_p_error": estimate(change)[1],
            "delta_p_rms": math.sqrt(square),
            "delta_p_rms_error": square_error / (2 * math.sqrt(square)),
            "same_top1": sum(same[0]) / n, "same_top5": sum(same[1]) / n,
            "same_top10": sum(same[2]) / n, "same_top1_error": same_error}.items():
        near(got[key], want, key)
    for percent in 0, 0.1, 1, 5, 10, 50, 90, 95, 99, 99.9, 100:
        near(got["kl_percentiles"]["%g" % percent], percentile(kl, percent), percent)
        near(got["delta_p_percentiles"]["%g" % percent], percentile(change, percent), percent)


main(*sys.argv[1:])
