#!/usr/bin/env python3
"""Writes tests/golden/gguf_blocks.safetensors: values of many kinds (values, f32 [blocks of 256])
and what ggml's reference quantisation makes of them (TYPE, u8 [blocks, bytes]). Needs numpy,
safetensors and llama-cpp-python, whose libraries hold that reference. Usage: make_gguf_blocks.py
FILE"""
import ctypes, glob, os, sys

import llama_cpp
import numpy as np
from safetensors.numpy import save_file

TYPES = {
    "F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q4_1": (3, 32, 20),
    "Q5_0": (6, 32, 22), "Q5_1": (7, 32, 24), "Q8_0": (8, 32, 34), "Q4_K": (12, 256, 144),
    "Q5_K": (13, 256, 176), "Q6_K": (14, 256, 210), "BF16": (30, 1, 2)}


def values(rng):
    yield from (rng.standard_normal(256) * scale for scale in (0.02, 1, 1e-7))
    yield rng.standard_t(2, 256) * 0.01     # outliers
    yield abs(rng.standard_normal(256))     # no minimum below zero
    yield rng.standard_normal(256) * (rng.random(256) < 0.02)   # sub-blocks of zeros
    yield np.repeat(rng.standard_normal(16), 16)                # of one value each
    yield rng.integers(-8, 8, 256) / 256    # ties
    yield np.zeros(256)


def main():
    lib = ctypes.CDLL(glob.glob(os.path.dirname(llama_cpp.__file__) + "/lib/libggml-base.so")[0])
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    lib.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p
                                       ] + 3 * [ctypes.c_int64] + [ctypes.c_void_p]
    x = np.stack(list(values(np.random.default_rng(1)))).astype(np.float32)
    made = {"values": x}
    for name, (number, block, size) in TYPES.items():
        made[name] = np.zeros((x.size // block, size), np.uint8)
        assert lib.ggml_quantize_chunk(number, x.ctypes.data, made[name].ctypes.data, 0, len(x),
                                       x.shape[1], None) == made[name].size
    save_file(made, sys.argv[1])


if __name__ == "__main__":
    main()
