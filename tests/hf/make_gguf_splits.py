#!/usr/bin/env python3
"""make_gguf_splits.py TOKENIZER.json SPLITS.def > OUT: what llama.cpp makes of a text under every
name of SPLITS.def (lib/gguf) that it has for splits of byte-level BPE: {"text", "merges", "made":
[{"ids", "names"}]}; merges: of digits, added to the model's.
TOKENIZER.json has merges over the borders of words, so that borders show. Needs the Python packages
gguf and llama-cpp-python."""
import json
import os
import re
import sys
import tempfile

from gguf import GGUFWriter, TokenType
from llama_cpp import Llama

TEXT = (
    "I'M don't 12345678 3.14\n\n  hello   World's camelCase caf\u00e9 cafe\u0301, "
    "\u65e5\u672c\u8a9e x_y\r\n\t#a/b $5 `q` \u041f\u0440\u0438\u0432\u0435\u0442!? \uc548\ub155 "
    "\u0928\u092e\u0938\u094d\u0924\u0947 the, the the we'LL \u00bd \u3042\u3044...  ")
MERGES = ["3 4", "5 6", "7 8", "12 3", "4 5", "45 6", "34 5", "6 7", "67 8", "2 3", "23 4"]


def write(path, tokenizer, name):
    model = tokenizer["model"]
    texts = sorted(model["vocab"], key=model["vocab"].get)
    added = {t["content"] for t in tokenizer["added_tokens"]}
    w = GGUFWriter(path, "llama")
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre(name)
    w.add_token_list(texts)
    w.add_token_types([TokenType.CONTROL if t in added else TokenType.NORMAL for t in texts])
    w.add_token_merges([" ".join(m) for m in model["merges"]])
    w.add_context_length(64)
    w.add_embedding_length(8)
    w.add_block_count(1)
    w.add_feed_forward_length(8)
    w.add_head_count(1)
    w.add_layer_norm_rms_eps(1e-5)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()


def main(path, table):
    with open(path, encoding="utf-8") as f:
        tokenizer = json.load(f)
    model = tokenizer["model"]
    for merge in MERGES:
        model["vocab"][merge.replace(" ", "")] = len(model["vocab"])
        model["merges"].append(merge.split(" "))
    with open(table, encoding="utf-8") as f:
        names = sorted(set(re.findall(r'\b(?:PRE|ALIAS)\("([^"]+)"', f.read())))
    made = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            file = os.path.join(folder, "vocab.gguf")
            write(file, tokenizer, name)
            model = Llama(file, vocab_only=True, verbose=False)
            ids = model.tokenize(TEXT.encode(), add_bos=False, special=False)
            made.setdefault(tuple(ids), []).append(name)
    groups = [json.dumps({"names": n, "ids": i}, separators=(",", ":")) for i, n in made.items()]
    print('{"text": %s,\n"merges": %s, "made": [' % (json.dumps(TEXT), json.dumps(MERGES)))
    print(",\n".join(groups) + "]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
