#!/usr/bin/env python3
"""Writes tests/golden/tokenizers_small: a small tokenizer.json of every kind that lib/tokenizer
reads, and beside it NAME.jsonl with texts and what the tokenizers library makes of them: text, ids
(no special tokens added), special_prefix and special_suffix (what an ordinary encode puts around),
decoded where it differs from the text. Needs the Python package tokenizers. Usage:
make_tokenizers.py DIR"""
import json
import os
import random
import sys

from tokenizers import (Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors,
                        trainers)

from random_text import random_text

PROSE = """In the beginning was the word, and the word was with the letters; it's what \
they'd all say, isn't it? We're here, I'm there, you've
seen 3 of 12 and 1999 of 2024. Der Fluß fließt über die Brücke, où l'été s'achève; \
¿dónde está la niña? Привет, мир! Как дела сегодня?
日本語のテキストを少し、そして中文也有一些。한국어 문장도 있습니다. नमस्ते दुनिया, مرحبا بالعالم. def main(argc, argv):
    return {"key": [1, 2, 3], 'other': None}  # a comment
\tindented\twith\ttabs\n\n\n   three spaces and    four. HELLO World, hello WORLD! the the \
the and and other others another mother brother.
"""
TEXTS = [
    "", " ", "a", "Hello world", " Hello", "Hello  world  ", "   ", "\n", "\n\n\n\n\n", "\t\t a",
    "\t" * 9 + "a", "a\r\nb\r\n", "I'm don't WE'LL they'VE 'tis", "1 22 333 4444 55555",
    "½ ² Ⅷ ٣٤ ४", "café cafe\u0301 Å \u212b ǅ", "Привет, как дела?", "日本語と中文",
    "안녕하세요 \u1100\u1161\u11a8", "😀 👩‍👩‍👧 🇩🇪", "مرحبا بالعالم", "a\u00a0b\u3000c\u180ed\u0085e",
    "<s> x </s> <unk>", "<|endoftext|>a<|endoftext|> <|endoftext|>",
    "  lead <lead> and <trail>  tail  <both>  x", "a word aword word, WORD word",
    "x anotherword another", "中、文。〆ヶ", "▁a ▁ b▁c", "\x00\x01\x7f", "x" * 300,
    "the" * 40 + " " * 33 + "\n" * 17, "def f(x):\n    return x  # 🙂\n", "http://a.b/c?d=e&f=%20#g",
    "\u0344\u0958\u0915\u093c"]
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
GPT4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CL100K = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+")

OPENAI = (      # as in OpenAI's tiktoken, with possessive repetition
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|"
    r"\s++$|\s*[\r\n]|\s+(?!\S)|\s")
DEEPSEEK = [
    "[\r\n]", r"\s?[A-Za-zµÀ-ÖØ-öø-ƺ]+", r"\s?[!-/:-~！-／：-～‘-‟\u3000-。]+", r"\s+$",
    "[一-龥\u0800-一가-\ud7ff]+"]
CLASSES = (     # of Kimi's pattern, and classes in classes
    r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*"
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}|"
    r"[[:punct:]&&[^'\s]]+|[\t[\r\n]]+|\s+(?!\S)|\s+")


def added(i, content, special=False, **kind):
    return {
        "id": i, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
        "normalized": not special, "special": special, **kind}


def byte_level(pre, size=420, special=("<|endoftext|>",)):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator([PROSE] * 2,
                          trainers.BpeTrainer(
                              vocab_size=size, min_frequency=2, special_tokens=list(special),
                              show_progress=False,
                              initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    return json.loads(t.to_str())


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), behavior, invert),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def sentencepiece(metaspace):
    """Characters, merges over them, and in front <unk> <s> </s> and, with byte fallback,
    <0x00>..<0xFF>."""
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Metaspace()
    t.train_from_iterator([PROSE] * 2,
                          trainers.BpeTrainer(vocab_size=330, min_frequency=2, show_progress=False))
    j = json.loads(t.to_str())
    front = ["<unk>", "<s>", "</s>"] + ([] if metaspace else ["<0x%02X>" % b for b in range(256)])
    j["model"]["vocab"] = {
        text: i
        for i, text in enumerate(front + sorted(j["model"]["vocab"], key=j["model"]["vocab"].get))}
    j["model"].update(unk_token="<unk>", fuse_unk=True, byte_fallback=not metaspace)
    j["added_tokens"] = [added(i, text, True) for i, text in enumerate(front[:3])]
    j["post_processor"] = json.loads(
        processors.TemplateProcessing(single="<s> $A" + (" </s>" if metaspace else ""),
                                      special_tokens=[("<s>", 1), ("</s>", 2)]).__getstate__())
    if not metaspace:
        j["pre_tokenizer"] = None
        j["normalizer"] = json.loads(
            normalizers.Sequence([normalizers.Prepend("▁"),
                                  normalizers.Replace(" ", "▁")]).__getstate__())
        j["decoder"] = json.loads(
            decoders.Sequence([
                decoders.Replace("▁", " "),
                decoders.ByteFallback(),
                decoders.Fuse(),
                decoders.Strip(" ", 1, 0)]).__getstate__())
    else:
        j["decoder"] = json.loads(decoders.Metaspace().__getstate__())
    return j


def unigram():
    """The tokens of a SentencePiece vocabulary with scores instead of merges, as converted files
    have them."""
    j = sentencepiece(False)
    texts, r = sorted(j["model"]["vocab"], key=j["model"]["vocab"].get), random.Random(1)
    scored = [
        [t, round(-r.uniform(2, 4) - len(t) / 2, 3) if i > 258 else 0]
        for i, t in enumerate(texts)]
    j["model"] = {"type": "Unigram", "unk_id": 0, "byte_fallback": True, "vocab": scored}
    j["normalizer"] = json.loads(normalizers.Replace(Regex(" {2,}"), " ").__getstate__())
    j["pre_tokenizer"] = json.loads(pre_tokenizers.Metaspace(split=False).__getstate__())
    j["decoder"] = json.loads(
        decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()]).__getstate__())
    return j


def kinds():
    level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    yield "gpt2", byte_level(level)
    j = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True))
    n = len(j["model"]["vocab"])
    j["added_tokens"] += [
        added(n, "<lead>", lstrip=True),
        added(n + 1, "<trail>", rstrip=True),
        added(n + 2, "<both>", True, lstrip=True, rstrip=True),
        added(n + 3, "word", single_word=True),
        added(n + 4, "   "),
        added(n + 5, "    ", normalized=False),
        added(n + 6, "\t\t"),
        added(n + 7, "\t\t\t\t")]
    j["post_processor"] = {
        "type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    yield "added", j
    j = byte_level(split(LLAMA3), special=("<|begin|>", "<|end|>"))
    j["model"]["ignore_merges"] = True
    j["model"]["vocab"]["Ġanotherword"] = len(j["model"]["vocab"])      # can only be had whole
    j["post_processor"] = {
        "type": "Sequence",
        "processors": [
            {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False,
             "use_regex": True},
            json.loads(
                processors.TemplateProcessing(
                    single="<|begin|> $A", special_tokens=[("<|begin|>", 0)]).__getstate__())]}
    yield "llama3", j
    j = byte_level(split(LLAMA3.replace("{1,3}", "")))
    j["normalizer"] = {"type": "NFC"}
    j["model"]["merges"] = [" ".join(m) for m in j["model"]["merges"]]  # the older form
    yield "qwen2", j
    yield "gpt4o", byte_level(split(GPT4O))
    yield "cl100k", byte_level(split(CL100K))
    yield "openai", byte_level(split(OPENAI))
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    yield "deepseek_llm", byte_level(pre_tokenizers.Sequence([
        *(pre_tokenizers.Split(Regex(p), "isolated") for p in DEEPSEEK),
        pre_tokenizers.Digits(individual_digits=True), whole]))
    yield "classes", byte_level(split(CLASSES))
    j = byte_level(level)
    j["normalizer"] = {"type": "NFKC"}
    yield "nfkc", j
    j = byte_level(pre_tokenizers.Sequence([
        pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("contiguous"), whole]))
    j["normalizer"] = json.loads(
        normalizers.Sequence([
            normalizers.Nmt(), normalizers.NFKD(), normalizers.Lowercase(),
            normalizers.Replace(Regex(r"\p{Mn}+|(?<=\d),(?=\d)"), ""),
            normalizers.Strip()]).__getstate__())
    yield "normalized", j
    j = byte_level(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), level]))
    merged = {c for m in j["model"]["merges"] for c in "".join(m)}
    lacking = [c for c in sorted(pre_tokenizers.ByteLevel.alphabet()) if c not in merged][-21:]
    j["model"]["vocab"] = {
        text: i for i, text in enumerate(k for k in j["model"]["vocab"] if k not in lacking)}
    yield "smollm", j
    yield "digits", byte_level(
        pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=False), level]))
    whole = pre_tokenizers.ByteLevel(
        add_prefix_space=False,
        use_regex=False)  # learns merges over every border, so that borders show
    for behavior in "removed", "merged_with_previous", "merged_with_next", "contiguous":
        yield "split_" + behavior, {
            **byte_level(whole), "pre_tokenizer": json.loads(
                split(r"[\s,.]|\d{2}", behavior).__getstate__())}
    yield "split_inverted", {
        **byte_level(whole), "pre_tokenizer": json.loads(
            split(r"\p{L}+|\p{Han}", "removed", True).__getstate__())}
    yield "split_string", {
        **byte_level(whole), "pre_tokenizer": {
            "type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"String": "e"}, "behavior": "MergedWithPrevious",
                 "invert": False},
                json.loads(level.__getstate__())]}}
    yield "spm", sentencepiece(False)
    j = sentencepiece(False)
    j["model"]["vocab"].update({
        text: len(j["model"]["vocab"]) + i for i, text in enumerate([",▁", "▁▁", "▁▁▁"])})
    j["model"]["merges"] = [[",", "▁"], ["▁", "▁"], ["▁▁", "▁"]] + j["model"]["merges"]
    yield "spm_across", j           # a merge that reaches over the start of a word
    yield "unigram", unigram()
    for scheme in "always", "first", "never":
        j = sentencepiece(True)
        j["pre_tokenizer"] = {
            "type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme,
            "split": scheme != "first"}
        j["decoder"] = {
            "type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": True}
        j["model"]["fuse_unk"] = scheme != "never"
        yield "metaspace_" + scheme, j


def around(t):
    """What an ordinary encode puts before and after."""
    ids, all_ids = t.encode("a", add_special_tokens=False).ids, t.encode("a").ids
    start = next(i for i in range(len(all_ids)) if all_ids[i:i + len(ids)] == ids)
    return {"special_prefix": all_ids[:start], "special_suffix": all_ids[start + len(ids):]}


def expected(t, text):
    ids = t.encode(text, add_special_tokens=False).ids
    decoded = t.decode(ids, skip_special_tokens=False)
    return {
        "text": text, "ids": ids, **({} if decoded == text else {"decoded": decoded}), **around(t)}


def main(folder):
    os.makedirs(folder, exist_ok=True)
    for name, j in kinds():
        t = Tokenizer.from_str(json.dumps(j))
        r = random.Random(name)
        texts = TEXTS + [
            random_text(r, [a["content"] for a in j["added_tokens"]], 12) for _ in range(40)]
        with open(f"{folder}/{name}.json", "w", encoding="utf-8") as f:
            json.dump(j, f, ensure_ascii=False, separators=(",", ":"))
        with open(f"{folder}/{name}.jsonl", "w", encoding="utf-8") as f:
            for text in texts:
                f.write(
                    json.dumps(expected(t, text), ensure_ascii=True, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
