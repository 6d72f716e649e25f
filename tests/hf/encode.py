#!/usr/bin/env python3
"""encode.py BIN [--texts N] [--random N] [--seed N] TOKENIZER.json... - fresh random texts through
`tokenize` (in the folder BIN) and through the tokenizers library: ids and specials must be equal,
and the source bytes of the tokens must add up to the text. The same for N random tokenizers, which
may also be refused. Then a vocabulary learned by train-tokenizer from random texts must be the one
that the library learns. Needs the Python package tokenizers; ends with "N passed, N failed"."""
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
from random_tokenizers import random_texts, random_tokenizer

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools"))
import stream  # noqa: E402

passed = failed = 0


def repeats(encoding, text):
    """Where the library and pare differ on purpose: the library repeats white space after a token
    inside stripped white space, orders U+07FD, a mark of Unicode 11, as if it were not a mark, and
    takes U+0363 to U+036F for letters, as Unicode 16 does."""
    overlapping = any(b[0] < a[1]
                      for a, b in zip(encoding.offsets, encoding.offsets[1:])
                      if b[1] > b[0] and b[0] >= a[0])
    return overlapping or any(c == "\u07fd" or "\u0363" <= c <= "\u036f" for c in text)


def check(good, what):
    global passed, failed
    passed, failed = passed + good, failed + (not good)
    if not good:
        print("FAILED", what)


def numbers(record):
    return list(struct.unpack("<%dI" % (len(record[3]) // 4), record[3]))


def encoded(library, text):
    """None: the library gives up on a text, as when one added token takes another's white space, or
    a Unigram model without an unknown token needs one."""
    try:
        return library.encode(text)
    except BaseException as e:
        if type(e).__name__ != "PanicException" and "unk_id" not in str(e):
            raise
        return None


def tokenized(tools, path, texts, folder):
    """The records that tokenize makes of the texts; None if it refuses the tokenizer."""
    lines, tokens = os.path.join(folder, "texts.jsonl"), os.path.join(folder, "tokens.tsz")
    with open(lines, "w", encoding="utf-8") as f:
        f.writelines(json.dumps({"text": t}) + "\n" for t in texts)
    done = subprocess.run([f"{tools}/tokenize", "-m", path, "--quiet", "--compress", "none",
                           "-o", tokens, lines], stderr=subprocess.PIPE)
    if done.returncode == 1 and done.stderr.count(b"\n") == 1:
        return None
    check(done.returncode == 0, f"{path}: status {done.returncode}, {done.stderr}")
    with open(tokens, "rb") as f:
        return stream.read(f)[1]


def compare(tools, path, library, texts, folder):
    records = tokenized(tools, path, texts, folder)
    if records is None:
        return False
    check(len(records) == 2 * len(texts), f"{path}: {len(records)} records")
    for i, text in enumerate(texts):
        ids, spans = numbers(records[2 * i]), numbers(records[2 * i + 1])
        theirs = encoded(library, text)
        if theirs is None or ids != theirs.ids and repeats(theirs, text):
            continue
        check(ids == theirs.ids, f"{path}: other ids for {ascii(text)}")
        check(sum(spans) <= len(text.encode()), f"{path}: spans beyond {text!r}")
    return True


def ambiguous(library):
    """Added tokens that the normalizer makes equal, of which the library takes one at random, or
    empty, which it finds without end."""
    names = [
        library.normalizer.normalize_str(t.content) if library.normalizer else t.content
        for t in library.get_added_tokens_decoder().values() if t.normalized]
    return len(set(names)) < len(names) or "" in names


def compare_random(tools, seed, folder):
    """A random tokenizer: the same ids as the library's, or refused."""
    r = random.Random(seed)
    tokenizer = random_tokenizer(r)
    path = os.path.join(folder, f"random-{seed}.json")
    with open(path, "w", encoding="utf-8") as f:
        json.dump(tokenizer, f)
    try:
        library = Tokenizer.from_file(path)
    except BaseException as e: # the library gives up on an added token that is normalised away
        if not isinstance(e, Exception) and type(e).__name__ != "PanicException":
            raise
        return False
    if ambiguous(library):
        return False
    return compare(tools, path, library, random_texts(r, random_text, tokenizer, 30), folder)


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
    p.add_argument("--random", type=int, default=300, help="random tokenizers")
    p.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    a = p.parse_args()
    print("seed", a.seed)
    with tempfile.TemporaryDirectory() as folder:
        for path in a.tokenizers:
            library = Tokenizer.from_file(path)
            added = [t.content for t in library.get_added_tokens_decoder().values()]
            r = random.Random(a.seed)
            texts = [random_text(r, added) for _ in range(a.texts)]
            check(compare(a.bin, path, library, texts, folder), f"{path} is refused")
        read = sum(compare_random(a.bin, a.seed + i, folder) for i in range(a.random))
        print(f"{read} of {a.random} random tokenizers compared")
        for size in (300, 700):
            learn(a.bin, size, a.seed, folder)
    print(f"{passed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
