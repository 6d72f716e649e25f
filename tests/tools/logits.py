"""Streams of logits, read by another program: usage: logits.py COMMAND FILE...
forms FULL TOP TAIL SAMPLE   each form against the full logits
same A B                     the same records"""
import math
import struct
import sys

import stream


def load(path):
    with open(path, "rb") as f:
        return stream.read(f)


def softmax(row, temperature):
    top = max(row)
    e = [math.exp((z - top) / temperature) for z in row]
    return [x / sum(e) for x in e]


def full_rows(record, vocab):
    return list(struct.iter_unpack("<%df" % vocab, record[3]))


def near(got, want):        # an f16 of a logarithm
    assert abs(got - want) <= 1e-3 * abs(want) + 1e-6, (got, want)


def forms(full, top, tail, sample):
    head, rows = load(full)
    vocab, counts, expected = head["vocab_size"], [0] * head["vocab_size"], [0] * head["vocab_size"]
    streams = [load(p) for p in (top, tail, sample)]
    k, n, temperature = streams[0][0]["n"], streams[2][0]["n"], streams[2][0]["temperature"]
    assert head["form"] == "full" and [h["form"] for h, _ in streams] == ["top", "top", "sample"]
    assert all(len(s[1]) == len(rows) == head["windows"] for s in streams)
    for record, a, b, drawn in zip(rows, *(s[1] for s in streams), strict=True):
        assert record[0] == a[0] == b[0] == drawn[0]
        for t, z in enumerate(full_rows(record, vocab)):
            p = softmax(z, 1)
            largest = sorted(sorted(range(vocab), key=lambda v: (-z[v], v))[:k])
            plain = struct.unpack("<%dH%de" % (k, k), a[3][t * 4 * k:(t + 1) * 4 * k])
            rest = struct.unpack("<%dH%de" % (k, k + 1), b[3][t * (4 * k + 2):][:4 * k + 2])
            assert list(plain[:k]) == list(rest[:k]) == largest
            for v, got, also in zip(largest, plain[k:], rest[k:]):
                near(got, math.log(p[v]))
                assert got == also
            near(rest[-1], math.log(sum(p) - sum(p[v] for v in largest)))
            ids = struct.unpack("<%dH" % n, drawn[3][t * 2 * n:(t + 1) * 2 * n])
            assert list(ids) == sorted(ids)
            for v in ids:
                counts[v] += 1 / n
            for v, x in enumerate(softmax(z, temperature)):
                expected[v] += x
    for v in range(vocab):      # draws of all positions: a binomial's deviation is below sqrt(n p)
        assert abs(counts[v] - expected[v]) < 6 * math.sqrt(expected[v] / n) + 1, v


def same(a, b):
    assert load(a)[1] == load(b)[1]


if __name__ == "__main__":
    {"forms": forms, "same": same}[sys.argv[1]](*sys.argv[2:])
