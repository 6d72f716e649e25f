#!/usr/bin/env python3
"""Checks what gguf-export says of a model as a whole (general.*) against llama.cpp's own converter,
whose rules are in the Python package gguf. Usage: gguf_about.py BIN DIR, a Hugging Face directory
without a card.

1. Names: every part of the name of a directory, and the names of the models it was made from.
2. Cards: licence, languages, tags, base models, data. Back in a directory, they say the same.
3. A cut model: as the converter does with the directory of hf-export.
"""
import os, shutil, subprocess, sys, tempfile
from pathlib import Path

import gguf

NAMES = ["SmolLM2-135M-Instruct", "gemma-3-270m-it", "Llama-3.1-8B", "Big-1.5", "phi-2",
         "Qwen3-4B-Instruct-2507", "OLMo-2-0425-1B", "tiny-1B-Chat-v1.5", "qwen2moe-7b-base"]
CARDS = [
    "license: apache-2.0\nlanguage: en\nbase_model: meta-llama/Llama-3.1-8B\n",
    "license: other\nlicense_name: two words\nlicense_link: LICENSE\nlanguage:\n- en\n- no\n"
    "tags:\n- chat\n- 'it''s'\npipeline_tag: text-generation\n"
    "base_model:\n  - a/one-1B\n  - b/two\n",
    "license: [mit, gpl-3.0]\nlanguages: [\"pt\", de]  # both\ndatasets:\n- house/text-v2\n"
    "base_model: https://huggingface.co/house/big-1.5\nwidget:\n- text: x\n",
    "base_model: https://example.com/model\ntags: []\ndatasets: one/set\n",
    "title: nothing of use\n",
]
# the size is counted by gguf-export, taken from the name by the converter
KEYS = ("general.license", "general.base_model", "general.dataset", "general.tags",
        "general.languages", "general.name", "general.finetune", "general.version")
failures = 0


def check(got, want, what):
    global failures
    failures += got != want
    print(f"ok      {what}" if got == want else f"FAILED  {what}\n  {got}\n  {want}", flush=True)


def run(*words):
    subprocess.run([str(w) for w in words], check=True, capture_output=True)


def of_file(path, keys=KEYS):
    fields = gguf.GGUFReader(path).fields
    return {k: f.contents() for k, f in fields.items() if k.startswith(tuple(keys))}


class Writer:
    """Takes what a GGUF writer would be given."""
    def __init__(self):
        self.writer = gguf.GGUFWriter(None, "llama")

    def values(self, keys):
        return {k: v.value for k, v in self.writer.kv_data[0].items() if k.startswith(tuple(keys))}


def of_converter(folder, keys=KEYS):
    made = Writer()
    gguf.Metadata.load(None, Path(folder), None, 0).set_gguf_meta_model(made.writer)
    return made.values(keys)


def with_card(source, folder, entries):
    shutil.copytree(source, folder)
    if entries:
        open(f"{folder}/README.md", "w").write(f"---\n{entries}---\n# Title\n")
    return folder


def main(bin, source):
    for name in NAMES:
        run(f"{bin}/gguf-export", with_card(source, name, ""), "a.gguf")
        check(of_file("a.gguf"), of_converter(name), name)
    about = [k for k in KEYS if k not in ("general.name", "general.finetune", "general.version")]
    for i, entries in enumerate(CARDS):
        folder = with_card(source, f"card-{i}", entries)
        run(f"{bin}/gguf-export", folder, "a.gguf")
        check(of_file("a.gguf"), of_converter(folder), f"card {i}")
        run(f"{bin}/gguf-export", "a.gguf", "b.gguf")
        check(of_file("b.gguf", about), of_file("a.gguf", about), f"card {i}, back and forth")
        run(f"{bin}/slice-model", folder, "--drop-layers", 0, "-o", "cut.ts")
        run(f"{bin}/gguf-export", "cut.ts", "cut.gguf")
        run(f"{bin}/hf-export", "cut.ts", f"cut-{i}")
        got, want = of_file("cut.gguf", about), of_converter(f"cut-{i}", about)
        if "base_model" not in entries:     # then the directory's name is known
            got = {k: v for k, v in got.items() if "base_model" not in k}
        check(got, want, f"card {i}, cut")
    print(f"{failures} failures")
    sys.exit(failures != 0)


if __name__ == "__main__":
    bin, source = map(os.path.abspath, sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        main(bin, source)
