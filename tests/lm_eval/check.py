#!/usr/bin/env python3
"""check.py BIN MODEL [--limit N] [ITEMS.jsonl...] - eval-choice against lm-evaluation-harness 0.4.

BIN: the folder of the tools; MODEL: a Hugging Face directory. First a few documents of every task
of pipelines/tasks, written as they are published: the harness, with its own task, must ask for the
same texts, find the same log-likelihoods to 1e-3, make the same choices and give the same figures.
Then the first N items (50) of each ITEMS file, as a local task of the harness. Needs lm_eval with
torch and transformers; ends with "N passed, N failed"."""
import csv, json, math, os, subprocess, sys, tempfile
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
import lm_eval.tasks
from datasets import Dataset, disable_progress_bars
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks._yaml_loader import load_yaml

disable_progress_bars()
TOLERANCE = 1e-3
YAML = os.path.dirname(lm_eval.tasks.__file__)
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
passed = failed = 0

def check(name, good, what=""):
    global passed, failed
    passed, failed = passed + bool(good), failed + (not good)
    if not good:
        print(f"FAILED {name}: {what}")

# ---- documents as the harness has them, and how they are published

HELLASWAG = [
    dict(activity_label="Removing ice", label="1", ctx_a="A man [substeps] stands by his car.",
         ctx_b="he", endings=["eats it.", "scrapes the windscreen [title] with care.",
                              "paints  the wheels.", "flies away."]),
    dict(activity_label="Baking", label="3", ctx_a="She opens the oven.", ctx_b="",
         endings=["sings to it.", "throws it out.", "reads.", "takes out a loaf of bread."])]
ARC = [
    dict(question="Which is frozen water?", answerKey="B",
         choices=dict(text=["steam", "ice", "dew"], label=["A", "B", "C"])),
    dict(question="What do plants need?", answerKey="1",
         choices=dict(text=["light", "noise", "coins", "glass", "café"],
                      label=["1", "2", "3", "4", "5"]))]
OPENBOOKQA = [
    dict(question_stem="The sun is", answerKey="C", id="1",
         choices=dict(text=["a cat", "cold", "a star", "a lamp"], label=["A", "B", "C", "D"])),
    dict(question_stem="Bees make", answerKey="A", id="2",
         choices=dict(text=["honey", "bread", "steel", "wine"], label=["A", "B", "C", "D"]))]
PIQA = [
    dict(goal="How do I open a jar?", sol1="Turn the lid to the left. ", sol2="Shout at it.",
         label=0),
    dict(goal="dry hair", sol1="put it in the oven", sol2=" use a towel", label=1)]
WINOGRANDE = [
    dict(sentence="The trophy did not fit in the case because the _ was too big.",
         option1="trophy", option2="case", answer="1"),
    dict(sentence="Ann thanked Sue for the help that _ had given.", option1="Ann", option2="Sue",
         answer="2")]
BLIMP = [
    dict(sentence_good="The cats sleep.", sentence_bad="The cats sleeps.", UID="agreement"),
    dict(sentence_good="Who did you see?", sentence_bad="Who you did see?", UID="wh")]
LAMBADA = [
    dict(text="She looked at the clock and then at the clock again. It was late, said the clock"),
    dict(text="\"Tom!\" she called. \"Where are you,\n\nTom")]
MMLU = [
    dict(question=" What is 2 + 2? ", choices=["3", "4", "five, or so", "\"22\""], answer=1),
    dict(question="Which is a prime?\nOf these:", choices=["4", "6", "7", "9"], answer=2)]
MMLU_EXAMPLES = [
    dict(question="What is 3 * 3?", choices=["9", "6", "33", "0"], answer=0),
    dict(question="What is half of ten?", choices=["2", "20", "1", "5"], answer=3),
    dict(question="What is 1 - 1?", choices=["1", "0", "11", "2"], answer=1)]
TRUTHFULQA = [
    dict(question="What happens if you swallow a seed?",
         mc1_targets=dict(choices=["It passes through you", "A tree grows"], labels=[1, 0]),
         mc2_targets=dict(choices=["It passes through you", "Nothing happens", "A tree grows"],
                          labels=[1, 1, 0])),
    dict(question="Is the moon made of cheese?",
         mc1_targets=dict(choices=["No, it is rock", "Yes", "Of cream"], labels=[1, 0, 0]),
         mc2_targets=dict(choices=["No, it is rock", "Yes", "Of cream"], labels=[1, 0, 0]))]

def choices_form(stem):
    """ARC and OpenBookQA: the question with its choices in one member."""
    def publish(docs):
        for d in docs:
            choices = [dict(text=t, label=n) for t, n in zip(*map(d["choices"].get,
                                                                  ("text", "label")))]
            yield dict(question=dict(stem=d[stem], choices=choices), answerKey=d["answerKey"])
    return publish

def json_lines(path, docs):
    with open(path, "w") as f:
        f.writelines(json.dumps(d) + "\n" for d in docs)
    return [path]

def publish_piqa(path, docs):
    with open(path + ".lst", "w") as f:
        f.writelines(f"{d['label']}\n" for d in docs)
    return json_lines(path, ({k: d[k] for k in ("goal", "sol1", "sol2")} for d in docs)) + [
        path + ".lst"]

def publish_mmlu(path, docs):
    path = os.path.join(os.path.dirname(path), "high_school_physics_test.csv")
    with open(path, "w", newline="") as f:
        csv.writer(f).writerows([d["question"], *d["choices"], "ABCD"[d["answer"]]] for d in docs)
    return [path]

def publish_truthfulqa(path, docs):
    with open(path, "w") as f:
        json.dump([dict(question=d["question"], **{
            k: dict(zip(d[k]["choices"], d[k]["labels"])) for k in ("mc1_targets", "mc2_targets")
        }) for d in docs], f)
    return [path]

def as_json(form):
    return lambda path, docs: json_lines(path, form(docs))

# task of pipelines/tasks, yaml of the harness, documents, how they are written
TASKS = [
    ("hellaswag", "hellaswag/hellaswag", HELLASWAG, json_lines),
    ("arc", "arc/arc_easy", ARC, as_json(choices_form("question"))),
    ("openbookqa", "openbookqa/openbookqa", OPENBOOKQA, as_json(choices_form("question_stem"))),
    ("piqa", "piqa/piqa", PIQA, publish_piqa),
    ("winogrande", "winogrande/default", WINOGRANDE, json_lines),
    ("blimp", "blimp/causative", BLIMP, json_lines),
    ("lambada", "lambada/lambada_openai", LAMBADA, json_lines),
    ("mmlu", "mmlu/default/mmlu_high_school_physics", MMLU, publish_mmlu),
    ("truthfulqa-mc1", "truthfulqa/truthfulqa_mc1", TRUTHFULQA, publish_truthfulqa),
    ("truthfulqa-mc2", "truthfulqa/truthfulqa_mc2", TRUTHFULQA, publish_truthfulqa),
]

# ---- the harness

def task_of(config, docs, examples=(), fewshot=0):
    config = {k: v for k, v in config.items() if k not in ("dataset_path", "dataset_name", "tag")}
    split = config.get("test_split") or config.get("validation_split")
    data, examples = Dataset.from_list(docs), Dataset.from_list(list(examples) or docs)
    config.update(task=config.get("task", "items"), test_split=split, num_fewshot=fewshot,
                  custom_dataset=lambda **_: {"train": data, "dev": examples,
                                              "validation": data, split: data})
    if config.get("output_type") == "multiple_choice" and not config.get("process_results"):
        config["metric_list"] = [dict(metric=m, aggregation="mean", higher_is_better=True)
                                 for m in ("acc", "acc_norm", "acc_bytes")]
    return ConfigurableTask(config=config)

def local_config(items):
    """A task of items (docs/evaluation.md)."""
    one = items[0]
    text = lambda d: d.get("description", "") + d["ctx"]
    if isinstance(one["choices"], str) and isinstance(one["ctx"], str):
        return dict(test_split="test", output_type="loglikelihood", doc_to_text=text,
                    doc_to_target=lambda d: d["choices"])
    config = dict(test_split="test", output_type="multiple_choice")
    if isinstance(one["choices"], str):
        return config | dict(doc_to_text=lambda d: d["gold"], doc_to_choice=lambda d: d["ctx"],
                             doc_to_target=lambda d: d["choices"][1:])
    return config | dict(doc_to_text=text, doc_to_target=lambda d: d["gold"],
                         doc_to_choice=lambda d: [c[1:] for c in d["choices"]])

def run_harness(model, task):
    """Its samples in order, and its figures."""
    name = task.config.task
    out = simple_evaluate(model=model, tasks=[task], bootstrap_iters=0, verbosity="ERROR")
    samples = sorted(out["samples"][name], key=lambda s: s["doc_id"])
    return samples, {k.split(",")[0]: v for k, v in out["results"][name].items()}

# ---- comparison

def run_tool(tools, model, path, *options):
    with tempfile.NamedTemporaryFile() as f:
        out = subprocess.run([f"{tools}/eval-choice", model, path, "--quiet", "--items", f.name,
                              *options], stdout=subprocess.PIPE, check=True).stdout
        return [json.loads(line) for line in open(f.name)], json.loads(out)

def pairs_of(item):
    ctx, choices = item.get("ctx", ""), item["choices"]
    n = max(len(x) for x in (ctx, choices) if isinstance(x, list)) if (
        isinstance(ctx, list) or isinstance(choices, list)) else 1
    each = lambda x: x if isinstance(x, list) else [x] * n
    return [(item.get("description", "") + c, k) for c, k in zip(each(ctx), each(choices))]

def compare_texts(name, items, samples):
    for item, s in zip(items, samples):
        theirs = [tuple(a.values()) if isinstance(a, dict) else tuple(a)
                  for a in (s["arguments"].values() if isinstance(s["arguments"], dict)
                            else s["arguments"])]
        check(f"{name}: texts", pairs_of(item) == theirs, f"{pairs_of(item)} for {theirs}")

def compare(name, mine, record, samples, figures):
    check(f"{name}: number of items", len(mine) == len(samples), f"{len(mine)} {len(samples)}")
    worst = choices = 0
    for m, s in zip(mine, samples):
        theirs = [r[0] for r in s["resps"]]
        worst = max(worst, *(abs(a - float(b[0])) for a, b in zip(m["log_likelihood"], theirs)))
        made = max(range(len(theirs)), key=lambda i: float(theirs[i][0]))
        choices += (m["choice"] != made if len(theirs) > 1 else
                    m["greedy"] != (str(theirs[0][1]) == "True"))
    check(f"{name}: log-likelihoods", worst <= TOLERANCE, f"off by {worst:.2g}")
    check(f"{name}: choices", not choices, f"{choices} of {len(mine)} differ")
    for theirs, own in figures_of(figures, name):
        a, b = figures[theirs], record[own]
        b = math.nan if b is None else b
        check(f"{name}: {own}", abs(a - b) <= 1e-3 * max(1, abs(a)) or (a != a and b != b),
              f"{b} for {a}")
    print(f"{name}: {len(mine)} items, log-likelihoods within {worst:.1e}")

def figures_of(figures, name):
    """Names of the same figure, the harness's and eval-choice's."""
    acc = "probability" if "mc2" in name else "acc"
    same = dict(acc=acc, acc_stderr=f"{acc}_standard_error", acc_norm="acc_norm",
                acc_norm_stderr="acc_norm_standard_error", acc_bytes="acc_bytes", perplexity="ppl")
    return [(k, v) for k, v in same.items()
            if isinstance(figures.get(k), float) and not (
                "winogrande" in name and k not in ("acc", "acc_stderr"))] # that of its contexts

def check_task(tools, path, model, name, yaml, docs, publish, folder):
    files = publish(os.path.join(folder, name), docs)
    target = os.path.join(folder, f"{name}.jsonl")
    with open(target, "w") as f:
        subprocess.run(["sh", f"{ROOT}/pipelines/tasks", name, *files], stdout=f, check=True)
    items = [json.loads(line) for line in open(target)]
    config = load_yaml(f"{YAML}/{yaml}.yaml")
    samples, figures = run_harness(model, task_of(config, docs))
    compare_texts(name, items, samples)
    compare(name, *run_tool(tools, path, target), samples, figures)
    if name == "mmlu":
        check_examples(tools, path, model, config, docs, target, publish, folder)

def check_examples(tools, path, model, config, docs, target, publish, folder):
    shots = os.path.join(folder, "examples.jsonl")
    files = publish(os.path.join(folder, "mmlu"), MMLU_EXAMPLES)
    with open(shots, "w") as f:
        subprocess.run(["sh", f"{ROOT}/pipelines/tasks", "mmlu", *files], stdout=f, check=True)
    compare("mmlu, 2 examples",
            *run_tool(tools, path, target, "--fewshot", "2", "--fewshot-file", shots),
            *run_harness(model, task_of(config, docs, MMLU_EXAMPLES, 2)))

def check_items(tools, path, model, file, limit):
    lines = open(file).read().splitlines()[:limit]
    items = [json.loads(line) for line in lines]
    samples, figures = run_harness(model, task_of(local_config(items), items))
    compare(os.path.basename(file), *run_tool(tools, path, file, "--limit", str(limit)), samples,
            figures)

def main(tools, path, *rest):
    limit = 50
    if rest and rest[0] == "--limit":
        limit, rest = int(rest[1]), rest[2:]
    # With its default, a softmax in f32, the harness is off by up to 0.001 for 100 tokens.
    model = HFLM(pretrained=path, device="cpu", dtype="float32", softmax_dtype="float64",
                 batch_size=8)
    with tempfile.TemporaryDirectory() as folder:
        for task in TASKS:
            check_task(tools, path, model, *task, folder)
    for file in rest:
        check_items(tools, path, model, file, limit)
    print(f"{passed} passed, {failed} failed")
    return failed > 0

sys.exit(main(*sys.argv[1:]))
