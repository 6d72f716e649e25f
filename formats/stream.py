"""The stream of formats/SPEC.md in Python, in one file to copy: all that a program needs to be a
stage (docs/stages.md).

    header, records = read(file)     records: [(name, dtype, shape, bytes)]; zstd is undone with the
                                     program zstd
    write(file, header, records)     a plain stream, which every tool reads
    values(dtype, bytes)             the numbers of a record
    step(tool, header, options)      what a stage appends to header["hist"]; its id is the new
                                     header's

The digests come from the system's libxxhash, or from the Python package xxhash."""
import ctypes
import io
import json
import struct
import subprocess
import sys

CHUNK = 1 << 20
NUMBERS = {
    0xca: ">f", 0xcb: ">d", 0xcc: ">B", 0xcd: ">H", 0xce: ">I", 0xcf: ">Q", 0xd0: ">b", 0xd1: ">h",
    0xd2: ">i", 0xd3: ">q"}
SIZES = {0xc4: 1, 0xc5: 2, 0xc6: 4, 0xd9: 1, 0xda: 2, 0xdb: 4, 0xdc: 2, 0xdd: 4, 0xde: 2, 0xdf: 4}


class Hash(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


try:
    xxhash = ctypes.CDLL("libxxhash.so.0").XXH3_128bits
    xxhash.restype, xxhash.argtypes = Hash, [ctypes.c_char_p, ctypes.c_size_t]
except OSError:
    from xxhash import xxh3_128_hexdigest
    xxhash = None


def digest(data):
    if not xxhash:
        return xxh3_128_hexdigest(data)
    h = xxhash(data, len(data))
    return "%016x%016x" % (h.high, h.low)


def values(dtype, data):
    letters = {
        "f64": "d", "f32": "f", "f16": "e", "i64": "q", "i32": "i", "u32": "I", "u16": "H",
        "u8": "B"}
    if dtype == "bf16":  # the upper halves of f32
        data = b"".join(b"\0\0" + data[i:i + 2] for i in range(0, len(data), 2))
        dtype = "f32"
    if dtype == "q8_0":  # blocks of a scale and 32 numbers
        blocks = struct.iter_unpack("<e32b", data)
        return [scale * q for scale, *numbers in blocks for q in numbers]
    return [x for x, in struct.iter_unpack("<" + letters[dtype], data)]


def step(tool, header, options, release="0"):
    made = {"tool": tool, "release": release, "options": options, "operands": [],
            "inputs": [{"path": "-", "id": header["id"]}]}
    named = json.dumps([tool, release, options, header["id"]], sort_keys=True)
    return {**made, "id": digest(named.encode())}


def take(f, n):
    data = f.read(n)
    if len(data) != n:
        sys.exit("the stream ends early")
    return data


def unpack(f):
    b = take(f, 1)[0]
    if b < 0x80 or b >= 0xe0:
        return b if b < 0x80 else b - 256
    if b in (0xc0, 0xc2, 0xc3):
        return {0xc0: None, 0xc2: False, 0xc3: True}[b]
    if b in NUMBERS:
        return struct.unpack(NUMBERS[b], take(f, struct.calcsize(NUMBERS[b])))[0]
    n = int.from_bytes(take(f, SIZES[b]), "big") if b in SIZES else b & (31 if b >= 0xa0 else 15)
    if b in (0xc4, 0xc5, 0xc6):
        return take(f, n)
    if 0xa0 <= b < 0xc0 or 0xd9 <= b <= 0xdb:
        return take(f, n).decode()
    if 0x90 <= b < 0xa0 or b in (0xdc, 0xdd):
        return [unpack(f) for _ in range(n)]
    return {unpack(f): unpack(f) for _ in range(n)}


def pack(x):
    if x is None or isinstance(x, bool):
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[x]
    if isinstance(x, int):
        return bytes([x]) if 0 <= x < 128 else b"\xd3" + struct.pack(">q", x)
    if isinstance(x, float):
        return b"\xcb" + struct.pack(">d", x)
    if isinstance(x, bytes):
        return b"\xc6" + struct.pack(">I", len(x)) + x
    if isinstance(x, str):
        return b"\xdb" + struct.pack(">I", len(x.encode())) + x.encode() if len(
            x.encode()) > 31 else bytes([0xa0 | len(x.encode())]) + x.encode()
    if isinstance(x, (list, tuple)):
        return b"\xdd" + struct.pack(">I", len(x)) + b"".join(map(pack, x))
    return b"\xdf" + struct.pack(">I", len(x)) + b"".join(pack(k) + pack(v) for k, v in x.items())


def read(f):
    start = f.peek(4)[:4] if hasattr(f, "peek") else b""
    if start == b"\x28\xb5\x2f\xfd":
        plain = subprocess.run(["zstd", "-dc"], input=f.read(), stdout=subprocess.PIPE, check=True)
        f = io.BytesIO(plain.stdout)
    header, records = unpack(f), []
    while "records" not in (r := unpack(f)):
        data, left = [], r["bytes"]
        while left:
            data.append(unpack(f))
            left -= len(data[-1])
        data = b"".join(data)
        if unpack(f)["digest"] != digest(data):
            sys.exit("record %s is damaged" % r["name"])
        records.append((r["name"], r["dtype"], r["shape"], data))
    return header, records


def write(f, header, records):
    covered = pack({"pare": 1, **header})
    f.write(covered)
    for name, dtype, shape, data in records:
        before, after = pack({"name": name, "dtype": dtype, "shape": shape,
                              "bytes": len(data)}), pack({"digest": digest(data)})
        f.write(before + b"".join(pack(data[i:i + CHUNK])
                                  for i in range(0, len(data), CHUNK)) + after)
        covered += before + after
    f.write(pack({"records": len(records), "digest": digest(covered)}))
    f.flush()
