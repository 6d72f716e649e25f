"""Random tokenizers of the kinds that lib/tokenizer reads: any of its normalizers, pre-tokenizers
and post-processors in any order, any flags of BPE, whole and incomplete alphabets, added tokens of
all kinds."""
import functools
import json

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from make_tokenizers import CL100K, GPT4O, LLAMA3, PROSE, added
from random_text import MARKS, SPACES

PATTERNS = [
    LLAMA3, GPT4O, CL100K, r"\s+", r"\p{N}{1,3}", r"\d", r"[a-z]+", r"(?i:the)", r" ?\p{L}+",
    r"\w+|[^\w\s]+", r"\s+(?!\S)|\s+", r"[\r\n]", r"$", r"^a", r"\p{M}", r"[一-龥]+", r"x+|y",
    r"\s+$", r"\n$", r"^\s*", r"\p{L}{1,3}+", r"\p{L}{2}+|\p{N}{,2}+", r"[a-z]{2}?", r"[a-z]{2,}?",
    r"\p{L}{2}{2}", r"[a-z]+?+", r"(?:a|\p{N}){1,2}+ ?", r"[^\r\n\p{L}\p{N}]?+\p{L}++",
    r"[\p{L}&&[^\p{Han}]]+", r"[^\p{L}&&[^a-f]]+", r"[a-c[x-z]\d]+", r"[a-m[^\p{Latin}]]+",
    r"[^a-f[g-m]\s]+", r"[\p{L}&&\p{Lu}&&[^A-E]]", r"[[:punct:]]+", r"[[:alpha:][:digit:]]+", r"\b",
    r"\B\w", r"\W+", r"\d{1,3}(?=(?:\d{3})*\b)", r"(?=(\d{3})+(?!\d))", r"a(?i)b|t", r"(?i)THE|'S",
    r"(?m:a.)", r".+", r"\A\p{L}", r".\z", r"\p{Punct}+|\p{^L}", r"a{|b{x}|{"]
STRINGS = [" ", "▁", "a", "the", "\n", "  ", "é", "'", "1", "日", "e\u0301"]
BEHAVIOURS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]
CONTENTS = [
    "<s>", "</s>", "<unk>", "<|x|>", "the", " the", "a b", "é", "e\u0301", "▁", "▁the", "\n", "  ",
    "1", "word", "WORD", "日本", "'s", "😀", "<", "<s", "\u0301", "Ġ", "ß", "-", "THE "]


def flip(r, chance=.5):
    return r.random() < chance


@functools.lru_cache(None)
def trained(byte_level, size):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = (pre_tokenizers.ByteLevel(add_prefix_space=False) if byte_level
                       else pre_tokenizers.Metaspace())
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet()) if byte_level else []
    t.train_from_iterator([PROSE] * 2, trainers.BpeTrainer(
        vocab_size=size, min_frequency=2, show_progress=False, initial_alphabet=alphabet))
    return t.to_str()


def model_of(r):
    """The tables of a trained model, often without some of its symbols."""
    model = json.loads(trained(flip(r), r.choice([280, 340, 420])))["model"]
    texts = sorted(model["vocab"], key=model["vocab"].get)
    if flip(r):
        gone = {t for t in texts if len(t) == 1 and flip(r, r.choice([.05, .3]))}
        texts = [t for t in texts if not gone & set(t)]
    if flip(r, .3):
        texts = [t for t in texts if len(t) == 1 or flip(r, .8)]
    front = ["<unk>"] if flip(r, .7) else []
    if flip(r, .6):
        front += ["<0x%02X>" % b for b in range(256) if flip(r, .97) or flip(r)]
    known = set(front + texts)
    model["merges"] = [m for m in model["merges"] if {*m, "".join(m)} <= known]
    texts = list(dict.fromkeys(front + texts))
    if flip(r, .3):
        r.shuffle(texts)
    model["vocab"] = {t: i for i, t in enumerate(texts)}
    model.update(unk_token="<unk>" if "<unk>" in known and flip(r, .8) else None, fuse_unk=flip(r),
                 byte_fallback=flip(r), ignore_merges=flip(r, .3))
    return model


def unigram_of(r):
    """The same texts with random scores, some of them equal."""
    model = model_of(r)
    texts = list(model["vocab"])
    return {
        "type": "Unigram", "unk_id": r.randrange(len(texts)) if flip(r, .9) else None,
        "byte_fallback": flip(r),
        "vocab": [[t, -r.choice([r.uniform(1, 14), r.randint(1, 9)])] for t in texts]}


def sequence(r, one, key, most):
    parts = [one(r) for _ in range(r.randint(0, most))]
    if len(parts) == 1 and flip(r):
        return parts[0]
    return {"type": "Sequence", key: parts} if parts else None


@functools.lru_cache(None)
def may_be_empty(pattern):
    """Where such a match is at the beginning, the library doubles what replaces it."""
    def replaced(text, content):
        return normalizers.Replace(Regex(pattern), content).normalize_str(text)

    return any(replaced(t, "") == t != replaced(t, "?") for t in ("", "123", "a b", "xx"))


def normalizer(r):
    kind = r.random()
    if kind < .35:
        return {"type": r.choice(["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Nmt"])}
    if kind < .45:
        return {"type": "Strip", "strip_left": flip(r), "strip_right": flip(r)}
    if kind < .65:
        return {"type": "Prepend", "prepend": r.choice(STRINGS)}
    regex = r.choice([p for p in PATTERNS if not may_be_empty(p)])
    pattern = {"Regex": regex} if flip(r, .4) else {"String": r.choice(STRINGS)}
    return {"type": "Replace", "pattern": pattern, "content": r.choice(STRINGS + [""])}


def pre_tokenizer(r):
    kind = r.random()
    if kind < .3:
        return {"type": "ByteLevel", "add_prefix_space": flip(r), "trim_offsets": flip(r),
                "use_regex": flip(r)}
    if kind < .45:
        return {"type": "Digits", "individual_digits": flip(r)}
    if kind < .5:
        return {"type": r.choice(["Whitespace", "WhitespaceSplit", "BertPreTokenizer"])}
    if kind < .53:
        return {"type": "CharDelimiterSplit", "delimiter": r.choice("a é日")}
    if kind < .56:
        return {"type": "Punctuation", "behavior": r.choice(BEHAVIOURS)}
    if kind < .65:
        return {"type": "Metaspace", "replacement": r.choice("▁▁▁_é"),
                "prepend_scheme": r.choice(["always", "first", "never"]), "split": flip(r)}
    pattern = {"Regex": r.choice(PATTERNS)} if flip(r, .7) else {"String": r.choice(STRINGS)}
    return {"type": "Split", "pattern": pattern, "behavior": r.choice(BEHAVIOURS),
            "invert": flip(r, .3)}


def added_tokens(r, vocab):
    tokens, next_id = [], len(vocab)
    for content in r.sample(CONTENTS, r.randint(0, 8)) + r.sample(sorted(vocab), r.randint(0, 3)):
        if content in [t["content"] for t in tokens]:
            continue
        known = vocab.get(content)
        tokens.append(added(next_id if known is None else known, content, flip(r),
                            **{k: flip(r, .3) for k in ("single_word", "lstrip", "rstrip")}))
        tokens[-1]["normalized"] = flip(r)
        next_id += known is None
    return tokens


def post_processor(r, tokens):
    def special(token):
        return {"SpecialToken": {"id": token["content"], "type_id": 0}}

    if not tokens or flip(r, .4):
        return r.choice([None, {"type": "ByteLevel", "add_prefix_space": True,
                                "trim_offsets": False, "use_regex": True}])
    used = [r.choice(tokens) for _ in range(r.randint(1, 3))]
    at = r.randint(0, len(used))
    single = [special(t) for t in used]
    single.insert(at, {"Sequence": {"id": "A", "type_id": 0}})
    template = {
        "type": "TemplateProcessing", "single": single,
        "pair": [{"Sequence": {"id": k, "type_id": 0}} for k in "AB"],
        "special_tokens": {
            t["content"]: {"id": t["content"], "ids": [t["id"]], "tokens": [t["content"]]}
            for t in used}}
    return {"type": "Sequence", "processors": [template]} if flip(r) else template


def random_tokenizer(r):
    """The JSON value of a tokenizer.json."""
    model = (unigram_of if flip(r, .3) else model_of)(r)
    vocab = model["vocab"]
    if model["type"] == "Unigram":
        vocab = {t: i for i, (t, _) in enumerate(vocab)}
    tokens = added_tokens(r, vocab)
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": tokens,
        "normalizer": sequence(r, normalizer, "normalizers", 3),
        "pre_tokenizer": sequence(r, pre_tokenizer, "pretokenizers", 3),
        "post_processor": post_processor(r, tokens), "decoder": None, "model": model}


def random_texts(r, make, tokenizer, n):
    """Texts that often have what this tokenizer looks for."""
    marks = [t["content"] for t in tokenizer["added_tokens"]] + STRINGS + SPACES + MARKS
    return [make(r, marks, r.choice([3, 20])) for _ in range(n)]
