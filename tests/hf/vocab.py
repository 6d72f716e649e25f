#!/usr/bin/env python3
"""vocab.py BIN [--texts N] [--seed N] TOKENIZER.json... - vocabularies cut by slice-model, through
the tokenizers library. Of a tiny model with each tokenizer, about half of the tokens that need not
stay are cut, ranked by some of its texts. Then, on fresh random texts, `tokenize` with the cut
model and the library with its tokenizer.json give the same ids; texts whose tokens all stay have
the tokens that they had; and what both decode to is as before. Tokenizers that cannot be cut must
be refused. Needs the Python package tokenizers; ends with "N passed, N failed"."""
import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile

from tokenizers import Tokenizer

from encode import check, encoded, numbers, repeats, tokenized
from random_text import random_text
import encode

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools"))
import vocab  # noqa: E402


def run(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def write_lines(path, texts):
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(json.dumps({"text": t}) + "\n" for t in texts)


def cut_model(tools, path, texts, folder):
    """The directory of the cut model; None: its tokenizer is refused."""
    model, lines, at = f"{folder}/model", f"{folder}/lines.jsonl", lambda name: f"{folder}/{name}"
    vocab.model(path, model, '{"eos_token_id": 0}')
    os.remove(f"{model}/generation_config.json")
    write_lines(lines, texts)
    run(f"{tools}/tokenize", "-m", model, "-o", at("tokens"), lines)
    scored = run(f"{tools}/score-vocab", model, at("tokens"), "-o", at("scores"))
    if re.search("its tokenizer (neither works on bytes|is a Unigram model)", scored.stderr):
        return None
    check(scored.returncode == 0, f"{path}: {scored.stderr}")
    run(f"{tools}/rank", at("scores"), "-o", at("rank"))
    cut = [f"{tools}/slice-model", model, "--rank", at("rank"), "-o", at("cut")]
    low = run(*cut, "--vocab-size", "1").stderr
    rows = json.load(open(f"{model}/config.json"))["vocab_size"]
    size = (int(re.search("at least ([0-9]+)", low)[1]) + rows) // 2
    done = run(*cut, "--vocab-size", str(size), "--verify", at("tokens"))
    check(done.returncode == 0, f"{path}: {done.stderr}")
    run(f"{tools}/hf-export", at("cut"), f"{folder}/out")
    vocab.check(f"{folder}/out", model)
    return f"{folder}/out"


def compare(tools, path, old, new, texts, folder):
    records, stay = tokenized(tools, f"{folder}/out/tokenizer.json", texts, folder), 0
    left = set(vocab.vocabulary(json.loads(new.to_str())).values())
    for i, text in enumerate(texts):
        before, after = encoded(old, text), encoded(new, text)
        ids = numbers(records[2 * i])
        if before is None or after is None:
            continue
        check(ids == after.ids or repeats(after, text), f"{path}: other ids for {ascii(text)}")
        if left.issuperset(before.tokens):
            stay += 1
            check(before.tokens == after.tokens, f"{path}: other tokens for {ascii(text)}")
        check(old.decode(before.ids) == new.decode(after.ids),
              f"{path}: decodes otherwise: {ascii(text)}")
    print(f"{path}: {stay} of {len(texts)} texts keep their tokens")


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("bin")
    p.add_argument("tokenizers", nargs="*")
    p.add_argument("--texts", type=int, default=300)
    p.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    a = p.parse_args()
    print("seed", a.seed)
    for path in a.tokenizers:
        old, r = Tokenizer.from_file(path), random.Random(a.seed)
        added = [t.content for t in old.get_added_tokens_decoder().values()]
        texts = [random_text(r, added, r.choice((2, 40))) for _ in range(2 * a.texts)]
        with tempfile.TemporaryDirectory() as folder:
            if not cut_model(a.bin, path, texts[:a.texts], folder):
                print(f"{path}: refused")
                continue
            new = Tokenizer.from_file(f"{folder}/out/tokenizer.json")
            compare(a.bin, path, old, new, texts[a.texts:], folder)
    print(f"{encode.passed} passed, {encode.failed} failed")
    return encode.failed != 0


if __name__ == "__main__":
    sys.exit(main())
