#!/usr/bin/env python3
"""lora.py sums BASE PEFT MERGED SCALE - MERGED must have W + SCALE B A where PEFT has an adapter,
and BASE's tensors elsewhere; every adapter must add something.
lora.py config PEFT JSON - adapter_config.json must have these members.
lora.py change PEFT COPY KEY=JSON - a copy with another member.
Without torch or numpy: safetensors is a length, a JSON header and the data."""
import json
import shutil
import struct
import sys
from pathlib import Path


def tensors(path):
    data = Path(path).read_bytes()
    n = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + n])
    assert header.pop("__metadata__") == {"format": "pt"}, path
    found = {}
    for name, t in header.items():
        begin, end = t["data_offsets"]
        raw = data[8 + n + begin : 8 + n + end]
        if t["dtype"] == "BF16":
            raw = b"".join(b"\0\0" + raw[i : i + 2] for i in range(0, len(raw), 2))
        else:
            assert t["dtype"] == "F32", (path, name)
        found[name] = t["shape"], struct.unpack(f"<{len(raw) // 4}f", raw)
    return found


def product(B, A):
    (rows, rank), b = B
    (also_rank, cols), a = A
    assert rank == also_rank
    columns = [[a[k * cols + j] for k in range(rank)] for j in range(cols)]
    return [
        [sum(x * y for x, y in zip(b[i * rank : (i + 1) * rank], c)) for c in columns]
        for i in range(rows)
    ]


def sums(base, peft, merged, scale):
    is_transposed = json.loads(Path(peft, "adapter_config.json").read_text())["fan_in_fan_out"]
    adapters = tensors(f"{peft}/adapter_model.safetensors")
    base, merged = (tensors(f"{d}/model.safetensors") for d in (base, merged))
    assert base.keys() == merged.keys()
    for name, (shape, w) in base.items():
        stem = "base_model.model." + name.removesuffix(".weight")
        A, B = (adapters.pop(f"{stem}.lora_{x}.weight", None) for x in "AB")
        assert merged[name][0] == shape
        if not A:
            assert merged[name][1] == w, name
            continue
        delta = product(B, A)
        assert any(any(row) for row in delta), name
        if is_transposed:
            delta = [list(row) for row in zip(*delta)]
        assert [len(delta), len(delta[0])] == shape, name
        flat = [x for row in delta for x in row]
        for x, d, y in zip(w, flat, merged[name][1]):
            assert abs(x + scale * d - y) <= 1e-6 * (1 + abs(y)), (name, x, d, y)
    assert not adapters, adapters.keys()


def config(peft, wanted):
    got = json.loads(Path(peft, "adapter_config.json").read_text())
    for key, value in json.loads(wanted).items():
        assert got[key] == value, (key, got[key], value)


def change(peft, copy, member):
    key, value = member.split("=")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(peft, copy)
    path = Path(copy, "adapter_config.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), key: json.loads(value)}))


if sys.argv[1] == "sums":
    sums(*sys.argv[2:5], float(sys.argv[5]))
else:
    {"config": config, "change": change}[sys.argv[1]](*sys.argv[2:])
