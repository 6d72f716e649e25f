#!/usr/bin/env python3
"""Writes tests/golden/gguf_quants.safetensors: random blocks of every GGUF type that is read
(TYPE.raw, u8 [blocks, bytes]) and what the reference implementation makes of them (TYPE.values,
f32); and for types that are written, values (TYPE.source, f32) and what it rounds them to
(TYPE.rounded, u8 [blocks, bytes]). Needs the Python packages gguf, numpy and safetensors. Usage:
make_gguf_quants.py FILE"""
import sys

import gguf
import numpy as np
from gguf.quants import dequantize, quantize
from safetensors.numpy import save_file

TYPES = "F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4_K Q5_K Q6_K".split()
WRITTEN = ["Q8_0"]
BLOCKS = 3


def values(name, raw):
    if name in ("F32", "F16"):
        return raw.reshape(-1).view(np.float32 if name == "F32" else np.float16).astype(np.float32)
    return dequantize(raw.reshape(1, -1), gguf.GGMLQuantizationType[name]).reshape(-1)


def sources(rng):
    """Eight blocks of 256: of several magnitudes, then zeros, whole numbers whose quotients by the
    scale are halves, and values whose scale is subnormal in f16."""
    x = rng.standard_normal((8, 256)) * np.array([1, 1e-3, 1e3, 30, 1e-6, 1, 1, 1])[:, None]
    x[5, :64] = 0
    x[6] = rng.integers(-127, 128, 256) / 2
    x[6, ::32] = -63.5
    x[7] *= 1e-5
    return x.astype(np.float32)


def main():
    rng, made = np.random.default_rng(1), {}
    for name in TYPES:
        block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
        rows = BLOCKS if block > 1 else 64
        while True:             # no infinities and NaNs among scales
            raw = rng.integers(0, 256, (rows, size), dtype=np.uint8)
            with np.errstate(all="ignore"):
                expected = values(name, raw)
            if np.isfinite(expected).all():
                break
        made[name + ".raw"], made[name + ".values"] = raw, expected
    for name in WRITTEN:
        kind, x = gguf.GGMLQuantizationType[name], sources(rng)
        made[name + ".source"] = x
        made[name + ".rounded"] = quantize(x, kind).reshape(-1, gguf.GGML_QUANT_SIZES[kind][1])
    save_file(made, sys.argv[1])


if __name__ == "__main__":
    main()
