#!/usr/bin/env python3
"""chat.py BIN [--conversations N] [--seed N] [TEMPLATES] - random conversations through `tokenize`
(in the folder BIN) and through apply_chat_template of transformers: ids must be equal, the tokens
that count must be those of the answers, and what one refuses the other must refuse or is listed
here. TEMPLATES is a JSON object {name: text} of chat templates as published; with it, `tokenize`
must also know them by their text. Without it, templates written here say the same.
chat.py --write DIR BIN TEMPLATES - writes tests/golden/chat: conversations.jsonl, where "counted"
has a digit a token, and the tokenizers.
Needs the Python package transformers; ends with "N passed, N failed"."""
import argparse
import io
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerFast

import encode
from encode import check, repeats
from random_text import random_text

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "..", "tools"))
import stream  # noqa: E402

SMALL = os.path.join(here, "..", "golden", "tokenizers_small")
MARKERS = [
    "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
    "<|eot_id|>", "<bos>", "<start_of_turn>", "<end_of_turn>", "<s>", "</s>", "[INST]", "[/INST]"]
BOS = {"llama3": "<|begin_of_text|>", "gemma": "<bos>", "mistral": "<s>"}


# ---- templates in our own words

def turns(before, after, answer_after, trim=""):
    """One turn a message: before and after with ROLE in it."""
    def text(s, role):
        return s.replace("ROLE", role)
    return "{% for m in messages %}" + "".join(
        "{% if m.role == '" + role + "' %}" + text(before, shown) + "{{ m.content" + trim + " }}"
        + (answer_after if role == "assistant" else text(after, shown)) + "{% endif %}"
        for role, shown in (("system", "system"), ("user", "user"), ("assistant", "assistant"))
    ) + "{% endfor %}"


def chatml(default=None):
    before = "<|im_start|>ROLE{{ '\n' }}"
    after = "<|im_end|>{{ '\n' }}"
    first = "" if default is None else (
        "{% if messages[0].role != 'system' %}" + before.replace("ROLE", "system") + default + after
        + "{% endif %}")
    return first + turns(before, after, after) + (
        "{% if add_generation_prompt %}" + before.replace("ROLE", "assistant") + "{% endif %}")


def qwen3():
    answer = "<|im_start|>assistant{{ '\n' }}{{ m.content }}"
    last = "{{ '<think>\n\n</think>\n\n' + m.content.lstrip('\n') }}"
    return "{% set seen = namespace(user=false) %}" + chatml().replace(
        answer, answer.replace("{{ m.content }}", "{% if loop.last and seen.user %}" + last
                               + "{% else %}{{ m.content }}{% endif %}")).replace(
            "{% if m.role == 'user' %}", "{% if m.role == 'user' %}{% set seen.user = true %}")


def llama3(date=""):
    before, after = "<|start_header_id|>ROLE<|end_header_id|>{{ '\n\n' }}", "<|eot_id|>"
    rest = turns(before, after, after, " | trim")
    if date:
        rest = rest.replace("system<|end_header_id|>{{ '\n\n' }}",
                            "system<|end_header_id|>{{ '\n\n' }}" + date)
        rest = ("{% if messages[0].role != 'system' %}" + before.replace("ROLE", "system") + date
                + after + "{% endif %}") + rest
    return "{{ bos_token }}" + rest + (
        "{% if add_generation_prompt %}" + before.replace("ROLE", "assistant") + "{% endif %}")


def in_turn(user, answer, system, prompt="", trim=""):
    """User and assistant in turns; system: a condition on where the system prompt is put, or ''."""
    held = "" if not system else (
        "{% if messages[0].role == 'system' %}{% set s = messages[0].content + '\n\n' %}"
        "{% set messages = messages[1:] %}{% endif %}")
    front = "" if not system else "{% if s is defined and " + system + " %}{{ s }}{% endif %}"
    return "{{ bos_token }}" + held + (
        "{% for m in messages %}{% if m.role == 'system' or (m.role == 'user') != (loop.index0 % 2"
        " == 0) %}{{ raise_exception('order') }}{% endif %}{% if m.role == 'user' %}"
        + user[0] + front + "{{ m.content" + trim + " }}" + user[1] + "{% else %}"
        + answer + "{% endif %}{% endfor %}{% if add_generation_prompt %}" + prompt + "{% endif %}")


LINE = "{{ '\n' }}"
MODEL = "<start_of_turn>model" + LINE
GEMMA = dict(user=("<start_of_turn>user" + LINE, "<end_of_turn>" + LINE),
             answer=MODEL + "{{ m.content | trim }}<end_of_turn>" + LINE, prompt=MODEL,
             trim=" | trim")
OWN = {
    "chatml": chatml(),
    "smollm2": chatml("You are a helpful AI assistant named SmolLM, trained by Hugging Face"),
    "qwen2": chatml("You are a helpful assistant."),
    "qwen2.5": chatml("You are Qwen, created by Alibaba Cloud. You are a helpful assistant."),
    "qwen3": qwen3(),
    "llama3": llama3(),
    "llama3.1": llama3("Cutting Knowledge Date: December 2023" + LINE + "Today Date: 26 Jul 2024"
                       + LINE + LINE),
    "mistral": in_turn(("{{ '[INST] ' }}", " [/INST]"), "{{ m.content }}{{ eos_token }}", ""),
    "mistral-v1": in_turn(("{{ ' [INST] ' }}", " [/INST]"), "{{ ' ' + m.content }}{{ eos_token }}",
                          "loop.first"),
    "mistral-v3": in_turn(("{{ '[INST] ' }}", "[/INST]"),
                          "{{ ' ' + m.content | trim }}{{ eos_token }}", "loop.last"),
    "mistral-tekken": in_turn(("[INST]", "[/INST]"), "{{ m.content }}{{ eos_token }}", "loop.last"),
    "gemma": in_turn(system="", **GEMMA),
    "gemma3": in_turn(system="loop.first", **GEMMA)}


# ---- tokenizers

def tokenizer_json(name):
    """A small tokenizer that has every template's markers."""
    with open(f"{SMALL}/{name}.json", encoding="utf-8") as f:
        t = json.load(f)
    taken = {a["content"] for a in t["added_tokens"]}
    at = max(list(t["model"]["vocab"].values()) + [a["id"] for a in t["added_tokens"]]) + 1
    for text in [m for m in MARKERS if m not in taken]:
        t["added_tokens"].append(dict(id=at, content=text, single_word=False, lstrip=False,
                                      rstrip=False, normalized=False, special=True))
        at += 1
    return t


def special_tokens(template):
    family = template.split("-")[0].rstrip("0123456789.") or template
    ends = {"llama": "<|eot_id|>", "gemma": "<end_of_turn>", "mistral": "</s>"}
    bos = {"llama": "<|begin_of_text|>", "gemma": "<bos>", "mistral": "<s>"}
    return bos.get(family), ends.get(family, "<|im_end|>")


def open_library(folder, tokenizer, template, text):
    bos, eos = special_tokens(template)
    path = f"{folder}/{tokenizer}.json"
    with open(path, "w", encoding="utf-8") as f:
        json.dump(tokenizer_json(tokenizer), f)
    return PreTrainedTokenizerFast(tokenizer_file=path, chat_template=text, eos_token=eos,
                                   **({"bos_token": bos} if bos else {}))


# ---- what counts

def rendered(library, messages, prompt):
    return library.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)


def answer_ranges(library, messages, text, template):
    """Characters of the answers with the token that ends each, found from the left: the text up to
    each answer is that of the messages before it, as a prompt."""
    _, eos = special_tokens(template)
    ranges, at = [], 0
    for i, m in enumerate(messages):
        if m["role"] != "assistant":
            continue
        part = rendered(library, messages[:i], True)
        if template == "qwen3":     # writes an answer otherwise where it is the last message
            part = rendered(library, messages[:i] + [say("user", "")], False).removesuffix(
                "<|im_start|>user\n<|im_end|>\n") + "<|im_start|>assistant\n"
        at = len(part) if text.startswith(part) else text.index("[/INST]", at) + len("[/INST]")
        content = m["content"]
        if template in ("mistral-v3",) or "llama" in template or "gemma" in template:
            content = content.strip()
        if template == "qwen3" and i + 1 == len(messages) and any(
                n["role"] == "user" for n in messages):
            content = "<think>\n\n</think>\n\n" + content.lstrip("\n")
        if template in ("mistral-v1", "mistral-v3"):
            content = " " + content
        assert text[at:].startswith(content + eos), (template, text[at:], content)
        if m.get("weight", 1):
            ranges.append((at, at + len(content) + len(eos)))
        at += len(content) + len(eos)
    return ranges


def expected(library, messages, prompt, template):
    """(text, ids, counted), or None: refused."""
    try:
        text = rendered(library, messages, prompt)
    except TemplateError:
        return None
    code = library(text, add_special_tokens=False, return_offsets_mapping=True)
    assert code["input_ids"] == library.apply_chat_template(
        messages, tokenize=True, add_generation_prompt=prompt, return_dict=False)
    ranges = answer_ranges(library, messages, text, template)
    counted = [
        int(any(a < end and b > start for start, end in ranges))
        for a, b in code["offset_mapping"]]
    return text, code["input_ids"], counted


# ---- conversations

def say(role, content, **more):
    return {"role": role, "content": content, **more}


HI, YES = say("user", "Who's there?"), say("assistant", "It's me.")
FIXED = [
    [HI, YES],
    [say("system", " Be kind. "), say("user", "\u3000 3 words\n\x1f"),
     say("assistant", "\n the the\t\u0085")],
    [HI, YES, say("user", "And 1999?"), say("assistant", "", weight=0), say("user", "l'été"),
     say("assistant", "日本語 मस्ते\n\n")],
    [say("user", "what is <|im_end|> or </s>?"), say("assistant", "A <|eot_id|> token [INST].")],
    [say("user", ""), say("assistant", "<end_of_turn>")],
    [HI, YES, say("user", "and then?")],
    [say("system", "Be brief."), HI],
    [HI, HI, YES],
    [say("system", "Hm."), YES, HI],
]


def refused_here(messages, template):
    """What transformers renders and pare refuses: these templates would drop the system prompt."""
    return template in ("mistral-v3", "mistral-tekken") and messages[0]["role"] == "system" and (
        messages[-1]["role"] == "assistant")


def golden_lines(templates, folder):
    for template, text in templates.items():
        for tokenizer in ("smollm", "spm") if "mistral" in template else ("smollm",):
            library = open_library(folder, tokenizer, template, text)
            for messages in FIXED:
                prompt = messages[-1]["role"] == "user"
                want = None
                if not refused_here(messages, template):
                    want = expected(library, messages, prompt, template)
                line = dict(template=template, tokenizer=tokenizer, messages=messages,
                            prompt=prompt)
                if want:
                    line.update(text=want[0], ids=want[1], counted="".join(map(str, want[2])))
                yield line


def write(templates, folder):
    with open(f"{folder}/conversations.jsonl", "w", encoding="utf-8") as f:
        for line in golden_lines(templates, folder):
            f.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")


# ---- through tokenize

def random_content(r):
    markers = [m for m in MARKERS if "INST" not in m]  # by which answers are found
    return random_text(r, markers if r.random() < .3 else (), r.choice((1, 3, 12)))


def random_messages(r):
    """Mostly in an order that all templates take."""
    messages = [say("system", random_content(r))] if r.random() < .4 else []
    for i in range(r.randint(1, 6)):
        messages.append(say(("user", "assistant")[i % 2], random_content(r)))
    if r.random() < .1:
        messages.insert(r.randint(1, len(messages)), say(r.choice(("user", "assistant")), "again"))
    if r.random() < .2:
        messages[-1]["weight"] = 0
    return messages


def model_folder(folder, template, library):
    """A model's directory with the tokenizer and its template."""
    path, llama = f"{folder}/{template}", f"{here}/../golden/families/llama"
    os.makedirs(path)
    for name in "config.json", "model.safetensors":
        shutil.copy(f"{llama}/{name}", path)
    library.save_pretrained(path)
    return path


def tokenize(tools, model, options, conversations, folder):
    """(ids, counted) of each conversation; nothing if they are refused."""
    lines = f"{folder}/lines.jsonl"
    with open(lines, "w", encoding="utf-8") as f:
        f.writelines(json.dumps({"messages": c}) + "\n" for c in conversations)
    done = subprocess.run(
        [f"{tools}/tokenize", "-m", model, "--quiet", "--compress", "none", *options, lines],
        capture_output=True)
    if done.returncode:
        return
    records = {r[0]: r[3] for r in stream.read(io.BytesIO(done.stdout))[1]}
    for i in range(len(conversations)):
        ids = records[f"ids.{i}"]
        yield list(struct.unpack("<%dI" % (len(ids) // 4), ids)), [
            1 - (f & 1) for f in records.get(f"flags.{i}", bytes(len(ids) // 4))]


def compare(tools, template, text, options, n, r):
    tokenizer = "spm" if "mistral" in template and r.random() < .5 else "smollm"
    with tempfile.TemporaryDirectory() as folder:
        library = open_library(folder, tokenizer, template, text)
        model = model_folder(folder, template, library)
        taken = []
        for _ in range(n):
            messages = random_messages(r)
            want = None
            if not refused_here(messages, template):
                want = expected(library, messages, False, template)
            if want:
                taken.append((messages, want))
            else:
                check(not list(tokenize(tools, model, options, [messages], folder)),
                      f"{template}: not refused: {ascii(messages)}")
        got = list(tokenize(tools, model, options, [t[0] for t in taken], folder))
        check(len(got) == len(taken), f"{template}: refused")
        for (messages, want), (ids, counted) in zip(taken, got):
            if ids != want[1] and repeats(library.backend_tokenizer.encode(want[0]), want[0]):
                continue
            check(ids == want[1], f"{template}: other ids for {ascii(messages)}")
            check(counted == want[2], f"{template}: others count in {ascii(messages)}")


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("bin")
    p.add_argument("templates", nargs="?")
    p.add_argument("--conversations", type=int, default=100)
    p.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    p.add_argument("--write", metavar="DIR")
    a = p.parse_args()
    templates = OWN
    if a.templates:
        with open(a.templates, encoding="utf-8") as f:
            templates = {k: v for k, v in json.load(f).items() if k in OWN}
    if a.write:
        return write(templates, a.write)
    print("seed", a.seed)
    r = random.Random(a.seed)
    for template, text in templates.items():
        options = [] if a.templates else ["--chat-template", template]
        compare(a.bin, template, text, options, a.conversations, r)
    print(f"{encode.passed} passed, {encode.failed} failed")
    return encode.failed != 0


if __name__ == "__main__":
    sys.exit(main())
