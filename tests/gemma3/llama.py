#!/usr/bin/env python3
"""Figures of a GGUF file in llama.cpp, through llama-cpp-python. Usage:
llama.py FILE.gguf ROWS [TEXT]

ROWS has the ids of a window a line. Prints a JSON object: nll, the mean loss of the windows, each
by itself, with f32 keys and values; of TEXT, if it is given, hash, of its ids behind the first of
ROWS, which is the BOS, as u32."""
import hashlib, json, os, sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../hf"))
from llama import Model

path, rows = sys.argv[1:3]
rows = [[int(x) for x in line.split()] for line in open(rows)]
model = Model(path)
said = {"nll": float(np.mean([model.loss(row) for row in rows]))}
for text in sys.argv[3:]:
    ids = rows[0][:1] + model.tokenize(open(text, encoding="utf-8", newline="").read())
    said["hash"] = hashlib.sha256(np.array(ids, np.uint32).tobytes()).hexdigest()[:16]
print(json.dumps(said))
