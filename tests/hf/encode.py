#!/usr/bin/env python3
"""encode.py BIN [--texts N] [--seed N] TOKENIZER.json... - fresh random texts through `tokenize`
(in the folder BIN) and through the tokenizers library: ids and specials must be equal, and the
source bytes of the tokens must add up to the text. Then a vocabulary learned by train-tokenizer
from random texts must be the one that the library learns. Needs the Python package tokenizers; ends
with "N passed, N failed"."""
import argparse
import json
import os
import random
import struct
import subprocess
import sys
import tempfile

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from random_text import random_text

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools"))
import stream  # noqa: E402

passed = failed = 0


def repeats(encoding, text):
    """Where the library and pare differ on purpose: the library repeats white space after a token
    inside stripped white space, and orders U+07FD, a mark of Unicode 11, as if it were not a
    mark."""
    overlapping = any(b[0] < a[1]
                      for a, b in zip(encoding.offsets, encoding.offsets[1:])
                      if b[1] > b[0] and b[0] >= a[0])
    return overlapping or "\u07fd" in text


def check(good, what):
    global passed, failed
    passed, failed = passed + good, failed + (not good)
    if not good:
        print("FAILED", what)


def numbers(record):
    return list(struct.unpack("<%dI" % (len(record[3]) // 4), record[3]))


def compare(tools, path, n, seed, folder):
    library = Tokenizer.from_file(path)
    added = [a.content for a in library.get_added_tokens_decoder().values()]
    r = random.Random(seed)
    texts = [random_text(r, added) for _ in range(n)]
    lines = os.path.join(folder, "texts.jsonl")
    with open(lines, "w", encoding="utf-8") as f:
        f.writelines(json.dumps({"text": t}) + "\n" for t in texts)
    out = subprocess.Popen(
        [f"{tools}/tokenize", "-m", path, "--quiet", "--compress", "none", lines],
        stdout=subprocess.PIPE)
    _, records = stream.read(out.stdout)
    records = list(records)
    check(out.wait() == 0 and len(records) == 2 * n, f"{path}: {len(records)} records")
    for i, text in enumerate(texts):
        ids, spans = numbers(records[2 * i]), numbers(records[2 * i + 1])
        theirs = library.encode(text)
        if ids != theirs.ids and repeats(theirs, text):
            continue
        check(ids == theirs.ids, f"{path}: other ids for {ascii(text)}")
        check(sum(spans) <= len(text.encode()), f"{path}: spans beyond {text!r}")


def learn(tools, size, seed, folder):
    r = random.Random(seed)
    text = os.path.join(folder, "text")
    with open(text, "w", encoding="utf-8", newline="") as f:
        f.write(" ".join(random_text(r) for _ in range(400)))
    t = Tokenizer(models.BPE())
    t.pre_tokenizer, t.decoder = pre_tokenizers.ByteLevel(
        add_prefix_space=False), decoders.ByteLevel()
    with open(text, encoding="utf-8", newline="") as f:
        t.train_from_iterator([f.read()],
                              trainers.BpeTrainer(
                                  vocab_size=size, min_frequency=2,
                                  special_tokens=["<|endoftext|>"], show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    want = json.loads(t.to_str())["model"]
    got = json.loads(
        subprocess.run([f"{tools}/train-tokenizer", "--vocab-size",
                        str(size), text], stdout=subprocess.PIPE, check=True).stdout)["model"]
    check(
        got["vocab"] == want["vocab"]
        and [m.split(" ") for m in got["merges"]] == [list(m) for m in want["merges"]],
        f"vocabulary of {size}, seed {seed}")


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("bin")
    p.add_argument("tokenizers", nargs="*")
    p.add_argument("--texts", type=int, default=400)
    p.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    a = p.parse_args()
    print("seed", a.seed)
    with tempfile.TemporaryDirectory() as folder:
        for path in a.tokenizers:
            compare(a.bin, path, a.texts, a.seed, folder)
        for size in (300, 700):
            learn(a.bin, size, a.seed, folder)
    print(f"{passed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
