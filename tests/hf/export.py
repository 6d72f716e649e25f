#!/usr/bin/env python3
"""export.py BIN DIR... - what transformers makes of directories that hf-export wrote (BIN: the
folder of the tools).

Each DIR (with expected.safetensors: input_ids, logits) goes through hf-import | hf-export, in one
file and in shards, is loaded strictly (no missing, unexpected or mismatched tensor) and must give
the expected logits. Then the twins: shapes that a class of transformers refuses, compared with that
class built around its check. Needs torch and transformers; ends with "N passed, N failed"."""
import json, os, subprocess, sys, tempfile
os.environ.setdefault("OMP_NUM_THREADS", "1")
import torch, transformers
from safetensors.torch import load_file, save_file
from transformers import (AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Phi3Config,
                          Phi3ForCausalLM)

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../golden"))
import decilm  # registers nemotron-nas, which transformers does not have

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
# Of logits with a standard deviation of about 2; transformers keeps norms and rope in f32.
TOLERANCE = 1e-4
passed = failed = 0

def check(name, good, what=""):
    global passed, failed
    passed, failed = passed + good, failed + (not good)
    if not good:
        print(f"FAILED {name}: {what}")

def export(tools, source, target, *options):
    stream = subprocess.run([f"{tools}/hf-import", source], stdout=subprocess.PIPE,
                            check=True).stdout
    subprocess.run([f"{tools}/hf-export", "-", target, "--quiet", *options], input=stream,
                   check=True)

def load(folder):
    # transformers' eager attention adds ALiBi twice
    alibi = json.load(open(f"{folder}/config.json")).get("alibi")
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64,
                                                       attn_implementation="sdpa"
                                                       if alibi else "eager",
                                                       experts_implementation="eager",
                                                       output_loading_info=True)
    wrong = {
        k: sorted(map(str, info[k]))
        for k in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs")
        if info.get(k)}
    return model.eval(), wrong

def logits(model, ids):
    with torch.no_grad():
        return model(input_ids=ids).logits

def compare(name, folder, ids, expected):
    try:
        model, wrong = load(folder)
    except Exception as e:
        return check(name, False, f"{type(e).__name__}: {e}")
    check(name + ": strict load", not wrong, wrong)
    far = (logits(model, ids) - expected).abs().max().item()
    check(name + ": logits", far < TOLERANCE, f"off by {far:.3g}")

def golden(tools, folder, scratch):
    expected = load_file(f"{folder}/expected.safetensors")
    for options in [], ["--max-shard-size", "20KB"]:
        target = f"{scratch}/{folder.strip('/').replace('/', '_')}{len(options)}"
        export(tools, folder, target, *options)
        compare(" ".join([folder, *options]), target, expected["input_ids"],
                expected["logits"].double())

def twin(tools, name, model, scratch, expected_type):
    """`model` was built around its config's check: its weights and config as a directory, exported,
    must compute the same as another class."""
    source, target = f"{scratch}/{name}", f"{scratch}/{name}_twin"
    ids = torch.arange(2 * 40).reshape(2, 40) % 50
    os.mkdir(source)
    json.dump(model.config.to_dict(), open(source + "/config.json", "w"))
    save_file({k: v.clone() for k, v in model.state_dict().items()}, source + "/model.safetensors")
    export(tools, source, target)
    written = json.load(open(target + "/config.json"))["model_type"]
    check(f"{name}: model_type", written == expected_type, written)
    compare(name, target, ids, logits(model.double().eval(), ids))

def randomised(model, seed):
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(1 + 0.1 * torch.randn_like(p) if "norm" in name else 0.3 * torch.randn_like(p))
    return model

def widened(cls, config, hidden_size):
    config.hidden_size = hidden_size        # after the check of the constructor
    config._attn_implementation = "eager"
    return randomised(cls(config), 1)

def main():
    tools, *folders = sys.argv[1:]
    common = dict(vocab_size=50, intermediate_size=20, num_hidden_layers=2, num_attention_heads=4,
                  num_key_value_heads=2, max_position_embeddings=64, pad_token_id=None,
                  bos_token_id=1, eos_token_id=2)
    with tempfile.TemporaryDirectory() as scratch:
        for folder in folders:
            golden(tools, folder, scratch)
        for bias in False, True:
            config = LlamaConfig(hidden_size=24, head_dim=6, attention_bias=bias, mlp_bias=bias,
                                 **common)
            twin(tools, f"llama_bias_{bias}", widened(LlamaForCausalLM, config, 21), scratch,
                 "smollm3" if bias else "mistral")
        rope = {
            "rope_type": "longrope", "short_factor": [1.0, 1.2, 1.4],
            "long_factor": [2.0, 3.0, 5.0], "rope_theta": 10000.0}
        for limit in 32, 48:        # 40 tokens: beyond the original length, and within
            config = Phi3Config(hidden_size=24, original_max_position_embeddings=limit,
                                rope_parameters=dict(rope), **common)
            config.head_dim = 6
            twin(tools, f"phi3_longrope_{limit}", widened(Phi3ForCausalLM, config, 16), scratch,
                 "mistral")
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed != 0)

if __name__ == "__main__":
    main()
