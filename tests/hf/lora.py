#!/usr/bin/env python3
"""lora.py BIN DIR... - adapters of kd-train in PEFT, and PEFT's in hf-export (BIN: the folder of
the tools).

For each model directory: what `kd-train --lora --adapter` writes is loaded by PEFT onto the base
and must give the logits of the model with the sums; adapters with random values that PEFT writes
must give, merged by `hf-export --merge`, the logits that they give in PEFT, and unchanged through
`kd-train --lora-from`. Needs peft 0.21, torch and transformers; ends with "N passed, N failed"."""
import os, subprocess, sys, tempfile, warnings
os.environ.setdefault("OMP_NUM_THREADS", "1")
import torch, transformers
from transformers import AutoModelForCausalLM
try:
    from peft import LoraConfig, PeftModel, get_peft_model
except ImportError as e:
    sys.exit(f"peft is not installed ({e}): adapters are not checked")

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../golden"))
import decilm  # registers nemotron-nas, which transformers does not have

warnings.filterwarnings("ignore")
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
TOLERANCE = 1e-4
EAGER = {"attn_implementation": "eager", "experts_implementation": "eager"}
passed = failed = 0

def check(name, good, what=""):
    global passed, failed
    passed, failed = passed + bool(good), failed + (not good)
    if not good:
        print(f"FAILED {name}: {what}")

def tool(*words, **more):
    subprocess.run([os.path.join(sys.argv[1], words[0]), *words[1:], "--quiet"], check=True, **more)

def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, **EAGER).eval()

def logits(model, ids):
    with torch.no_grad():
        return model(input_ids=ids).logits

def compare(name, got, want, before):
    """before: without adapters, from which they must be far."""
    far, moved = (got - want).abs().max().item(), (before - want).abs().max().item()
    check(name, far < TOLERANCE and moved > 100 * far, f"off by {far:.3g} of {moved:.3g}")

def train(tmp, *options):
    tool("kd-train", f"{tmp}/base", "--data", f"{tmp}/tokens", "--loss", "ce", "--batch-size", "2",
         *options)

def ours(name, tmp, ids, before):
    train(tmp, "--lora", "4", "--lora-alpha", "6", "--max-steps", "6", "--learning-rate", "1e-2",
          "--warmup-steps", "1", "--adapter", f"{tmp}/ours", "-o", f"{tmp}/trained.tsz")
    tool("hf-export", f"{tmp}/trained.tsz", f"{tmp}/trained")
    merged = logits(load(f"{tmp}/trained"), ids)
    adapted = PeftModel.from_pretrained(load(f"{tmp}/base"), f"{tmp}/ours").eval()
    compare(f"{name}: ours in PEFT", logits(adapted, ids), merged, before)

def theirs(name, tmp, ids, before, kind, **settings):
    base = load(f"{tmp}/base")
    # experts and routers are parameters, not modules, which is refused
    has_experts = getattr(base.config, "_experts_implementation", None) and any(
        n.endswith(".experts") for n, _ in base.named_modules())
    model = get_peft_model(base, LoraConfig(        # PEFT refuses the out_proj of Mamba mixers
        task_type="CAUSAL_LM", r=3, lora_alpha=5, **settings, exclude_modules=["out_proj"],
        target_modules=r".*\.[qkvo]_proj" if has_experts else "all-linear"))
    for key, value in model.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(value, std=0.05)
    there, back = f"{tmp}/theirs-{kind}", f"{tmp}/back-{kind}"
    model.eval().save_pretrained(there)
    want = logits(model, ids)
    tool("hf-export", f"{tmp}/base", f"{there}-merged", "--merge", there)
    compare(f"{name}: PEFT's {kind}, merged", logits(load(f"{there}-merged"), ids), want, before)
    train(tmp, "--lora-from", there, "--max-steps", "1", "--learning-rate", "1e-30", "--adapter",
          back, "-o", "/dev/null")
    adapted = PeftModel.from_pretrained(load(f"{tmp}/base"), back).eval()
    compare(f"{name}: PEFT's {kind}, read and written", logits(adapted, ids), want, before)

for folder in sys.argv[2:]:
    name = os.path.basename(folder.rstrip("/"))
    with tempfile.TemporaryDirectory() as tmp:
        tool("hf-export", folder, f"{tmp}/base", "--dtype", "f32")
        base = load(f"{tmp}/base")
        ids = torch.randint(3, base.config.vocab_size, (6, 24),
                            generator=torch.Generator().manual_seed(1))
        lines = "\n".join(" ".join(map(str, row)) for row in ids.tolist())
        tool("tokenize", "--ids", "--seq-length", "24", "-o", f"{tmp}/tokens", input=lines.encode())
        before = logits(base, ids)
        ours(name, tmp, ids, before)
        theirs(name, tmp, ids, before, "adapters")
        theirs(name, tmp, ids, before, "rsLoRA", use_rslora=True)
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
