"""Helpers of tests/bench/io:
    io.py model DIR f32|bf16 E L H K D F V [untied]   a random Llama-like Hugging Face directory;
                                                      values repeat every half million, which
                                                      nothing here notices
    io.py gguf FILE E L H K D F V [untied]            the same as a GGUF file whose matrices are
                                                      Q8_0
    io.py ticks < OUTPUT                              seconds between one write of a program and the
                                                      next (generate flushes after each token)
    io.py split FILE                                  bf16 safetensors: MB, then ratio and MB/s of
                                                      zstd -1 on the bytes as they are and split
                                                      into high and low
    io.py table [--json] < READINGS                   JSON lines {row, unit, readings, goal,
                                                      yardstick, yard} as a table, or with medians
                                                      as JSON lines"""
import array
import json
import os
import random
import statistics
import struct
import subprocess
import sys
import time


def tensors(E, L, H, K, D, F, V, untied):
    yield "model.embed_tokens.weight", [V, E]
    for l in range(L):
        block = f"model.layers.{l}."
        for name, shape in (("input_layernorm", [E]), ("post_attention_layernorm", [E]),
                            ("self_attn.q_proj",
                             [H * D, E]), ("self_attn.k_proj", [K * D, E]), ("self_attn.v_proj", [
                                 K * D, E]), ("self_attn.o_proj", [E, H * D]), ("mlp.gate_proj", [
                                     F, E]), ("mlp.up_proj", [F, E]), ("mlp.down_proj", [E, F])):
            yield block + name + ".weight", shape
    yield "model.norm.weight", [E]
    if untied:
        yield "lm_head.weight", [V, E]


def model(path, dtype, E, L, H, K, D, F, V, untied):
    draw = random.Random(1)
    values = array.array("f", (draw.gauss(0, 0.02) for _ in range(1 << 19))).tobytes()
    if dtype == "bf16":
        half = bytearray(len(values) // 2)
        half[0::2], half[1::2] = values[2::4], values[3::4]
        values = bytes(half)
    header, end = {}, 0
    for name, shape in tensors(E, L, H, K, D, F, V, untied):
        begin, end = end, end + (2 if dtype == "bf16" else 4) * shape[0] * (shape[1] if len(shape)
                                                                            == 2 else 1)
        header[name] = {"dtype": dtype.upper(), "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    os.makedirs(path, exist_ok=True)
    with open(f"{path}/model.safetensors", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for at in range(0, end, len(values)):
            f.write(values[:end - at])
    with open(f"{path}/config.json", "w") as f:
        json.dump(
            {
                "model_type": "llama", "architectures": [
                    "LlamaForCausalLM"], "hidden_size": E, "num_hidden_layers": L,
                "num_attention_heads": H, "num_key_value_heads": K, "head_dim": D,
                "intermediate_size": F, "vocab_size": V, "max_position_embeddings": 8192,
                "tie_word_embeddings": not untied, "rms_norm_eps": 1e-5}, f)


def gguf_file(path, E, L, H, K, D, F, V, untied):
    sys.path[:0] = [os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools")]
    import gguf
    draw = random.Random(1)
    blocks = b"".join(
        struct.pack("<e", 0.02 / 40)
        + bytes(max(-127, min(127, round(draw.gauss(0, 40)))) & 255
                for _ in range(32))
        for _ in range(1 << 14))
    one = struct.pack("<f", 1) * E
    meta = gguf.metadata({
        "model_type": "llama", "hidden_size": E, "intermediate_size": F, "num_hidden_layers": L,
        "num_attention_heads": H, "num_key_value_heads": K, "head_dim": D,
        "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 1e4})
    T = {
        gguf.rename(name, "llama"):
            ("Q8_0", shape, shape[0] * shape[1] // 32 * 34) if len(shape) == 2 else
            ("F32", shape, 4 * E) for name, shape in tensors(E, L, H, K, D, F, V, untied)}
    with open(path, "wb") as f:
        f.write(gguf.header(meta, T))
        for kind, _, size in T.values():
            values = blocks if kind == "Q8_0" else one
            for at in range(0, size, len(values)):
                f.write(values[:size - at])
            f.write(bytes(-size % 32))


def ticks():
    last = None
    while os.read(0, 1 << 16).strip():
        now = time.perf_counter()
        if last:
            print(f"{now - last:.6f}")
        last = now


def squeezed(data):
    begin = time.perf_counter()
    out = subprocess.run(["zstd", "-1", "-c", "--single-thread"], input=data,
                         stdout=subprocess.PIPE, check=True).stdout
    return len(out), time.perf_counter() - begin


def split(path):
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        data = f.read()
    spans = [
        t["data_offsets"]
        for name, t in header.items()
        if name != "__metadata__" and t["dtype"] == "BF16"]
    data = b"".join(data[begin:end] for begin, end in spans)
    print(f"{path}: {len(data) / 1e6:.0f} MB of bf16")
    for how, parts in (("as they are", [data]), ("split", [data[1::2],
                                                           data[0::2]]), ("high bytes alone", [
                                                               data[1::2]])):
        results = [squeezed(part) for part in parts]
        size, taken, raw = sum(r[0] for r in results), sum(r[1]
                                                           for r in results), sum(map(len, parts))
        print(
            f"zstd -1, {how}: {size / raw:.3f} of {raw / 1e6:.0f} MB, {raw / taken / 1e6:.0f} MB/s")


def table(as_json):
    if not as_json:
        print(
            f"{'row':<26} {'unit':<6} {'median':>8} {'best':>8}   {'goal':<28} {'yardstick':<34} "
            f"{'median':>8} {'ratio':>6}"
        )
    for line in sys.stdin:
        r = json.loads(line)
        pick = max if r["unit"] == "GB/s" else min
        r["median"], r["best"] = statistics.median(r["readings"]), pick(r["readings"])
        r["yard_median"] = statistics.median(r["yard"])
        r["ratio"] = r["median"] / r["yard_median"]
        if as_json:
            print(json.dumps(r))
        else:
            print(
                f"{r['row']:<26} {r['unit']:<6} {r['median']:8.3f} {r['best']:8.3f}   "
                f"{r['goal']:<28} {r['yardstick']:<34} {r['yard_median']:8.3f} {r['ratio']:6.2f}"
            )


def main(what, *args):
    if what == "model":
        model(args[0], args[1], *map(int, args[2:9]), "untied" in args)
    elif what == "gguf":
        gguf_file(args[0], *map(int, args[1:8]), "untied" in args)
    elif what == "table":
        table("--json" in args)
    else:
        {"ticks": ticks, "split": split}[what](*args)


main(*sys.argv[1:])
