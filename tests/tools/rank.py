"""The tool `rank` in another language: scores on standard input, the order of every axis on
standard output. docs/stages.md explains it."""
import struct
import sys

import stream

header, records = stream.read(sys.stdin.buffer)
if header["kind"] != "scores":
    sys.exit("rank.py: scores are needed")
orders = []
for name, dtype, shape, data in records:
    scores = stream.values(dtype, data)
    width = shape[-1]  # each row has its own order, in numbers of the whole
    order = []
    for row in range(0, len(scores), width):
        order += sorted(range(row, row + width), key=lambda i: (-scores[i], i))
    orders.append((name, "i32", shape, struct.pack("<%di" % len(order), *order)))
step = stream.step("rank.py", header, {})
keep = {key: header[key] for key in ("model", "sizes")}
stream.write(sys.stdout.buffer,
             {"kind": "rank", "id": step["id"], **keep, "hist": header["hist"] + [step]}, orders)
