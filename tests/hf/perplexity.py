#!/usr/bin/env python3
"""perplexity.py BIN MODEL... - eval-ppl (in the folder BIN) on random documents, by every
convention and beside a cut copy of the model, against transformers on the same directories: loops
as the documentation of transformers, lm-evaluation-harness and llama.cpp have them, in float64.
Needs the Python packages torch and transformers; ends with "N passed, N failed"."""
import json
import math
import os
import random
import re
import struct
import subprocess
import sys
import tempfile

os.environ["OMP_NUM_THREADS"] = "1"     # tiny models
import torch  # noqa: E402
from transformers import AutoModelForCausalLM, logging  # noqa: E402

sys.path += [os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", d)
             for d in ("golden", "tools")]
import decilm  # noqa: E402, F401  registers nemotron-nas, which transformers does not have
import stream  # noqa: E402

logging.set_verbosity_error()
logging.disable_progress_bar()
passed = failed = 0
CONTEXT, STRIDE, DOCUMENTS = 24, 7, 3


def near(got, want, what):
    global passed, failed
    good = abs(got - want) <= 1e-4 * abs(want) + 1e-6
    passed, failed = passed + good, failed + (not good)
    if not good:
        print("FAILED %s: %.9g, not %.9g" % (what, got, want))


def load(path):
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32,
                                                attn_implementation="eager",
                                                experts_implementation="eager").eval()


def log_softmax(model, ids):
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    return torch.log_softmax(logits.double(), -1)


def nll(model, ids, labels):
    """labels[t] follows ids[t], None: it does not count."""
    log_p = log_softmax(model, ids)
    return [-log_p[t, label].item() for t, label in enumerate(labels) if label is not None]


def scored(ids, first):
    """Inputs and labels of a window whose tokens from `first` on count."""
    return ids[:-1], [t if i >= first else None for i, t in enumerate(ids)][1:]


def mean(values):
    return sum(values) / len(values)


def gptq(model, text):
    chunks = [text[i:i + CONTEXT] for i in range(0, len(text) - CONTEXT + 1, CONTEXT)]
    return math.exp(mean([mean(nll(model, *scored(c, 1))) for c in chunks]))


def hf_stride(model, text):
    """The exact mean, and the published one."""
    before, losses, total, count = 0, [], 0, 0
    for begin in range(0, len(text), STRIDE):
        end = min(begin + CONTEXT, len(text))
        target = end - before
        values = nll(model, *scored(text[begin:end], max(1, end - begin - target)))
        losses += values
        valid = target - 1
        total, count = total + mean(values) * valid, count + valid
        before = end
        if end == len(text):
            break
    return math.exp(mean(losses)), math.exp(total / count)


def rolling(tokens, prefix):
    """Pairs of inputs and what they predict, the last as many."""
    first = min(CONTEXT, len(tokens))
    yield [prefix] + tokens[:first - 1], tokens[:first]
    done = first
    while done < len(tokens):
        n = min(len(tokens) - done, CONTEXT)
        end = done + n
        yield tokens[end - CONTEXT - 1:end - 1], tokens[end - n:end]
        done = end


def harness(model, documents, prefix):
    total = 0
    for tokens in documents:
        for inputs, predicted in rolling(tokens, prefix):
            labels = [None] * (len(inputs) - len(predicted)) + predicted
            total += sum(nll(model, inputs, labels))
    return total


def llama_cpp(model, text, bos):
    values = []
    for i in range(0, len(text) - CONTEXT + 1, CONTEXT):
        chunk = [bos] + text[i + 1:i + CONTEXT]
        values += nll(model, *scored(chunk, CONTEXT // 2 + 1))
    n = len(values)
    square = sum(v * v for v in values) / n - mean(values) ** 2
    return math.exp(mean(values)), math.exp(mean(values)) * math.sqrt(square / (n - 1))


def eval_ppl(*arguments):
    out = subprocess.run([bin + "/eval-ppl", "--quiet", *arguments], check=True,
                         stdout=subprocess.PIPE).stdout
    return [json.loads(line) for line in out.decode().splitlines()]


def write_tokens(documents, bos):
    """Documents that begin with a BOS which the tokenizer is said to add."""
    head = {"kind": "tokens", "id": "0" * 32, "tokenizer_id": "", "hist": [],
            "bos": {"rule": "auto", "begin": [bos], "end": [], "row": [bos]}}
    stream.write(open("tokens.tsz", "wb"), head, [
        ("ids.%d" % i, "u32", [len(d) + 1], struct.pack("<%dI" % (len(d) + 1), bos, *d))
        for i, d in enumerate(documents)])


def check_conventions(path, model, documents, bos):
    text = sum(([bos] + d for d in documents), [])
    pages = [" = Title = \n\n some  words %d\u2003here \n" % i for i in range(len(documents))]
    with open("pages.jsonl", "w") as f:
        f.writelines(json.dumps({"text": page}) + "\n" for page in pages)
    records = {r["convention"]: r for r in eval_ppl(
        path, "tokens.tsz", "--conventions", "--context", str(CONTEXT), "--stride", str(STRIDE),
        "--text", "pages.jsonl")}
    exact, published = hf_stride(model, text)
    near(records["gptq"]["ppl"], gptq(model, text), path + ": gptq")
    near(records["hf-stride"]["ppl"], exact, path + ": hf-stride")
    near(records["hf-stride"]["ppl_published"], published, path + ": hf-stride, published")
    ppl, error = llama_cpp(model, text, bos)
    near(records["llama.cpp"]["ppl"], ppl, path + ": llama.cpp")
    near(records["llama.cpp"]["ppl_error"], error, path + ": llama.cpp, error")
    total, r = harness(model, documents, bos), records["harness"]
    words = sum(len(re.split(r"\s+", page)) for page in pages)
    size = sum(len(page.encode()) for page in pages)
    near(r["word_perplexity"], math.exp(total / words), path + ": harness, word")
    near(r["byte_perplexity"], math.exp(total / size), path + ": harness, byte")
    near(r["bits_per_byte"], total / size / math.log(2), path + ": harness, bits per byte")


def check_divergence(path, model, documents, bos):
    """Beside the same model with its first layer left out."""
    subprocess.run([bin + "/slice-model", "--quiet", path, "--drop-layers", "0", "-o", "cut.tsz"],
                   check=True)
    subprocess.run([bin + "/hf-export", "--quiet", "cut.tsz", "cut"], check=True)
    cut = load("cut")
    got = eval_ppl("cut", "tokens.tsz", "--against", path)[0]["against"]
    kl, same = [], {1: [], 5: [], 10: []}
    for d in documents:
        t, s = (log_softmax(m, [bos] + d)[:-1] for m in (model, cut))
        kl += (t.exp() * (t - s)).sum(-1).tolist()
        for k in same:
            best = [x.topk(k, -1).indices.tolist() for x in (t, s)]
            same[k] += [len(set(a) & set(b)) / k for a, b in zip(*best)]
    near(got["kl"], mean(kl), path + ": KL")
    near(got["kl_percentiles"]["100"], max(kl), path + ": largest KL")
    near(got["kl_percentiles"]["99"], torch.tensor(kl).double().quantile(0.99).item(),
         path + ": 99th percentile of KL")
    for k in same:
        near(got["same_top%d" % k], mean(same[k]), path + ": top %d" % k)


bin, *models = sys.argv[1:]
bin, models = os.path.abspath(bin), [os.path.abspath(m) for m in models]
with tempfile.TemporaryDirectory() as work:
    os.chdir(work)
    for path in models:
        rng = random.Random(path.rsplit("/", 1)[-1])
        model = load(path)
        vocab, bos = model.config.vocab_size, 1
        documents = [[rng.randrange(2, vocab) for _ in range(rng.randrange(20, 60))]
                     for _ in range(DOCUMENTS)]
        write_tokens(documents, bos)
        check_conventions(path, model, documents, bos)
        if path.endswith(("llama", "gemma2")):
            check_divergence(path, model, documents, bos)
            subprocess.run(["rm", "-r", "cut"], check=True)
print("%d passed, %d failed" % (passed, failed))
sys.exit(failed > 0)
