"""Reads golden files for the tests of training and evaluation, and compares what the tools made
with them. python3's own library only.
golden.py ids FILE.safetensors TENSOR           prints a sequence of ids a line
golden.py uncounted STREAM OUT                  a plain stream of rows of tokens, whose last token
                                                is no longer counted
golden.py lift CHECKPOINT GOLDEN.safetensors ATOL  the last of a plain checkpoint's weights against
                                                the tensor `lift`
golden.py trajectory LOG GOLDEN.json RTOL       losses, gradient norms, learning rates of a log
golden.py weights DIR GOLDEN.safetensors ATOL   every tensor of a model directory
golden.py logits STREAM GOLDEN.safetensors ATOL a plain logits stream against the tensor `logits`
[B, T, V]
golden.py greedy STREAM N                       standard input: ids; from the N-th on, each is the
                                                most probable after those before
golden.py nll RECORDS ATOL                      records of eval-ppl against mean_nll in
                                                expected.json beside each model"""
import json
import struct
import sys

import stream

CODES = {"I64": "q", "I32": "i", "F64": "d", "F32": "f"}


def tensors(path):
    data = open(path, "rb").read()
    n = struct.unpack("<Q", data[:8])[0]
    found = {}
    for name, t in json.loads(data[8:8 + n]).items():
        if name != "__metadata__":
            begin, end = t["data_offsets"]
            raw = data[8 + n + begin:8 + n + end]
            code = CODES[t["dtype"]]
            found[name] = t["shape"], struct.unpack(
                "<%d%s" % (len(raw) // struct.calcsize(code), code), raw)
    return found


def worst(a, b):
    assert len(a) == len(b), (len(a), len(b))
    return max(abs(x - y) for x, y in zip(a, b))


def ids(path, name):
    shape, values = tensors(path)[name]
    for i in range(0, len(values), shape[-1]):
        print(*values[i:i + shape[-1]])


def uncounted(path, out):
    header, records = stream.read(open(path, "rb"))
    (rows, n), = [shape for name, _, shape, _ in records if name == "ids"]
    flags = (bytes(n - 1) + b"\1") * rows
    stream.write(open(out, "wb"), header, records + [("flags", "u8", [rows, n], flags)])


def lift(checkpoint, golden, atol):
    want = tensors(golden)["lift"][1]
    data = stream.read(open(checkpoint, "rb"))[1][0][3][-4 * len(want):]
    assert worst(struct.unpack("<%df" % len(want), data), want) <= float(atol)


def trajectory(log, golden, rtol):
    lines, want = [json.loads(line) for line in open(log)], json.load(open(golden))["log"]
    assert len(lines) == len(want), (len(lines), len(want))
    for got, ref in zip(lines, want):
        assert got["step"] == ref["step"] + 1
        for a, b in (("loss", "total"), ("grad_norm", "grad_norm"), ("learning_rate", "lr")):
            assert abs(got[a] - ref[b]) <= float(rtol) * ref[b], (ref["step"], a, got[a], ref[b])


def weights(directory, golden, atol):
    got, want = tensors(directory + "/model.safetensors"), tensors(golden)
    want.pop("lift", None)
    assert sorted(got) == sorted(want), sorted(set(got) ^ set(want))
    for name in want:
        off = worst(got[name][1], want[name][1])
        assert got[name][0] == want[name][0] and off <= float(atol), (name, off)


def logit_records(path):
    header, records = stream.read(open(path, "rb"))
    assert header["kind"] == "logits"
    for name, dtype, shape, data in records:
        assert dtype == "f32" and len(data) == 4 * shape[0] * shape[1]
        yield name, shape, struct.unpack("<%df" % (len(data) // 4), data)


def logits(path, golden, atol):
    (b, t, v), want = tensors(golden)["logits"]
    got = list(logit_records(path))
    assert [name for name, _, _ in got] == ["logits.%d" % i for i in range(b)]
    for i, (name, shape, values) in enumerate(got):
        assert shape == [t, v], shape
        assert worst(values,
                     want[i * t * v:(i + 1) * t
                          * v]) <= float(atol), (name, worst(values,
                                                             want[i * t * v:(i + 1) * t * v]))


def greedy(path, n):
    ids, (_, (t, v), values) = list(map(int, sys.stdin.read().split())), next(logit_records(path))
    assert len(ids) == t
    for k in range(int(n), t):
        row = values[(k - 1) * v:k * v]
        assert ids[k] == row.index(max(row)), (k, ids[k], row.index(max(row)))


def nll(path, atol):
    for line in open(path):
        record = json.loads(line)
        want = json.load(open(record["model"] + "/expected.json"))["mean_nll"]
        assert abs(record["nll"] - want) <= float(atol), (record["model"], record["nll"], want)


globals()[sys.argv[1]](*sys.argv[2:])
