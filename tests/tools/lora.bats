# kd-train --lora, PEFT directories, hf-export --merge: what is written and read, numbers, refusals.
bats_require_minimum_version 1.5.0
load refused

setup() {
    BIN=${PARE_BIN:-$PWD/bin}
    G=$PWD/tests/golden
    LORA="python3 $PWD/tests/tools/lora.py"
    STUDENT=$G/families/llama
    export OMP_WAIT_POLICY=passive              # short runs of many threads: do not spin
    cd "$BATS_TEST_TMPDIR" || exit
    for i in 1 2 3 4 5 6; do echo $((i + 3)) $((i * 6)) 9 $((i * 5)) 11 12 $((i + 30)) 5; done |
        "$BIN/tokenize" --ids --seq-length 8 -o data.tsz
}

adapt() {       # adapt STUDENT OPTION...: four steps, without a teacher
    "$BIN/kd-train" "$1" --loss ce --data data.tsz --max-steps 4 --batch-size 2 --warmup-steps 1 \
        --learning-rate 1e-2 --quiet "${@:2}"
}

@test "a PEFT directory, and the model with its sums: W + alpha / R B A, the rest bit for bit" {
    "$BIN/hf-export" --quiet "$STUDENT" base
    adapt base --lora 3 --lora-alpha 6 --adapter peft -o m.tsz
    "$BIN/hf-export" --quiet m.tsz merged
    $LORA sums base peft merged 2
    $LORA config peft '{"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 3, "lora_alpha": 6,
        "bias": "none", "fan_in_fan_out": false, "rank_pattern": {}, "alpha_pattern": {},
        "base_model_name_or_path": "base", "target_modules": ["q_proj", "k_proj", "v_proj",
        "o_proj", "gate_proj", "up_proj", "down_proj"]}'
    "$BIN/hf-export" --quiet base again --merge peft
    cmp merged/model.safetensors again/model.safetensors
    grep -q '^Adapted with `pare`' again/README.md
    "$BIN/hf-export" --quiet base named --merge peft --base-model house/small
    grep -qx 'base_model_relation: finetune' named/README.md
    "$BIN/eval-ppl" --quiet base data.tsz > before
    "$BIN/eval-ppl" --quiet m.tsz data.tsz > after
    python3 - <<'P'
import json
before, after = (json.load(open(f))["nll"] for f in ("before", "after"))
assert after < before - 0.1, (before, after)
P
}

@test "a Mamba mixer has no adapter of its output; modules are named as in transformers" {
    "$BIN/hf-export" --quiet "$G/families/nemotron_h" base --dtype f32
    adapt base --lora 2 --adapter peft -o m.tsz
    "$BIN/hf-export" --quiet m.tsz merged
    "$BIN/hf-export" --quiet base again --merge peft
    cmp merged/model.safetensors again/model.safetensors
    python3 - <<'P'
import json, struct
with open("peft/adapter_model.safetensors", "rb") as f:
    names = set(json.loads(f.read(struct.unpack("<Q", f.read(8))[0])))
modules = {n.split(".lora_")[0].rsplit(".", 1)[1] for n in names - {"__metadata__"}}
assert modules == {"in_proj", "q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"}
assert "base_model.model.model.layers.0.mixer.in_proj.lora_A.weight" in names, names
P
    run "$BIN/kd-train" base --loss ce --data data.tsz --max-steps 1 --lora 2 \
        --lora-targets out_proj --adapter none -o none.tsz
    [ "$status" = 1 ]
    [[ $output == *'not "out_proj"'* ]]
}

@test "some matrices; a fused module has the ranks of all its parts, a Conv1D is transposed" {
    "$BIN/hf-export" --quiet "$G/families/phi3" phi3 --dtype f32
    adapt phi3 --lora 2 --lora-targets q_proj,v_proj,down_proj --adapter p3 -o p3.tsz
    "$BIN/hf-export" --quiet p3.tsz m3
    $LORA sums phi3 p3 m3 1
    $LORA config p3 '{"r": 4, "lora_alpha": 4, "target_modules": ["qkv_proj", "down_proj"],
        "rank_pattern": {"down_proj": 2}, "alpha_pattern": {"down_proj": 2}}'
    adapt phi3 --lora 2049 --lora-targets q_proj,v_proj --adapter wide -o wide.tsz
    "$BIN/hf-export" --quiet wide.tsz wide3
    "$BIN/hf-export" --quiet phi3 again --merge wide
    cmp wide3/model.safetensors again/model.safetensors
    "$BIN/hf-export" --quiet "$G/families/gpt2" gpt2 --dtype f32
    adapt gpt2 --lora 2 --lora-targets k_proj,o_proj --adapter p2 -o p2.tsz
    "$BIN/hf-export" --quiet p2.tsz m2
    $LORA sums gpt2 p2 m2 1
    $LORA config p2 '{"r": 2, "fan_in_fan_out": true, "target_modules": ["c_attn",
        "transformer.h.0.attn.c_proj", "transformer.h.1.attn.c_proj", "transformer.h.2.attn.c_proj"
        ]}'
}

@test "checkpoints have the adapters alone; resuming gives the same bits" {
    adapt "$STUDENT" --lora 2 --output-dir a --save-steps 2 --adapter pa
    mkdir b
    cp a/checkpoint-2.tsz b/
    adapt "$STUDENT" --lora 2 --output-dir b --save-steps 2 --adapter pb --resume
    cmp a/model.tsz b/model.tsz
    cmp pa/adapter_model.safetensors pb/adapter_model.safetensors
    python3 - a/checkpoint-4.tsz pa/adapter_model.safetensors <<'P'
import os, sys
checkpoint, adapters = map(os.path.getsize, sys.argv[1:])
assert 3 * adapters - 20000 < checkpoint < 3 * adapters + 20000, (checkpoint, adapters)
P
    refused 1 'was written with lora 2, not 4' adapt "$STUDENT" --lora 4 --output-dir b --resume
    refused 1 'was written with lora 2, not absent' adapt "$STUDENT" --output-dir b --resume
}

@test "sums beyond what f32 holds are refused" {
    adapt "$STUDENT" --lora 2 --adapter peft -o /dev/null
    $LORA change peft large lora_alpha=1e300
    refused 1 'have a sum that is not finite' "$BIN/hf-export" "$STUDENT" out --merge large
    [ ! -e out ]
}

@test "a run begins with the adapters of a directory, also of a fused module" {
    for family in llama phi3; do
        "$BIN/hf-export" --quiet "$G/families/$family" $family --dtype f32
        adapt $family --lora 2 --adapter p.$family -o /dev/null
        "$BIN/hf-export" --quiet $family m.$family --merge p.$family
        adapt $family --lora-from p.$family --learning-rate 1e-30 --adapter q.$family -o q.tsz
        "$BIN/hf-export" --quiet q.tsz n.$family
        cmp m.$family/model.safetensors n.$family/model.safetensors
        cmp p.$family/adapter_model.safetensors q.$family/adapter_model.safetensors
        cmp p.$family/adapter_config.json q.$family/adapter_config.json
    done
    "$BIN/ts-dump" --hist q.tsz | grep -q -- '--lora-from p.phi3'
}

@test "frozen weights keep their dtype; sums are rounded to it once" {
    "$BIN/hf-export" --quiet "$STUDENT" half --dtype bf16
    adapt half --lora 2 --adapter p --dtype bf16 -o m.tsz
    "$BIN/hf-export" --quiet m.tsz a
    "$BIN/hf-export" --quiet half b --merge p
    cmp a/model.safetensors b/model.safetensors
    "$BIN/hf-export" --quiet half c --merge p --dtype f32
    $LORA sums half p c 1
    tiny="env PYTHONPATH=$G/../tools:$G/../hf python3 $G/../tools/gguf.py"
    $tiny tiny tiny
    $tiny make tiny m.gguf Q8_0
    adapt m.gguf --lora 2 --adapter q -o q.tsz
    "$BIN/hf-export" --quiet m.gguf base
    "$BIN/hf-export" --quiet q.tsz e
    $LORA sums base q e 1
}

@test "works with states and their lift, recomputing, packed rows, and a teacher's logits" {
    "$BIN/hf-export" --quiet "$G/slice/llama/all" small
    run_it() {
        adapt small --teacher "$STUDENT" --loss kl --states block:-1:-1 --lora 2 "$@"
    }
    run_it -o a.tsz --adapter p
    run_it -o b.tsz --recompute
    cmp a.tsz b.tsz
    "$BIN/hf-export" --quiet a.tsz merged
    $LORA sums small p merged 1
    printf '5 6 7\n8 9\n10 11 12 13 14\n3 4\n' |
        "$BIN/tokenize" --ids --pack --seq-length 8 -o packed.tsz
    "$BIN/dump-logits" "$STUDENT" packed.tsz --top-k 4 -o top.tsz --quiet
    "$BIN/kd-train" small --data packed.tsz --teacher-logits top.tsz --max-steps 2 --lora 2 \
        --batch-size 1 --adapter t -o t.tsz --quiet
    "$BIN/hf-export" --quiet t.tsz taught
    $LORA sums small t taught 1
}

@test "refusals come before the first step" {
    refused 2 '--lora must be a rank from 1 to 4096, not "0"' adapt "$STUDENT" --lora 0
    refused 2 '--lora must be a rank from 1 to 4096, not "8.5"' adapt "$STUDENT" --lora 8.5
    refused 2 '--lora-alpha must be' adapt "$STUDENT" --lora 2 --lora-alpha 0
    refused 2 'have no effect without --lora' adapt "$STUDENT" --lora-alpha 2
    refused 2 'leave out --lora,' adapt "$STUDENT" --lora 2 --lora-from p
    refused 2 '--adapter writes what --lora trains' adapt "$STUDENT" --adapter p
    refused 2 'a directory of its own, which run is not' adapt "$STUDENT" --lora 2 \
        --output-dir run --adapter run
    refused 2 'a directory of its own, which m.tsz is not' adapt "$STUDENT" --lora 2 -o m.tsz \
        --adapter m.tsz
    refused 2 'cannot begin with --init random' adapt "$STUDENT" --lora 2 --init random
    echo full > widths
    refused 2 'models of --widths' adapt "$STUDENT" --lora 2 --widths widths
    refused 1 'have q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, not "c_fc"' \
        adapt "$STUDENT" --lora 2 --lora-targets q_proj,c_fc -o m.tsz
    mkdir full
    touch full/file
    refused 1 'full' adapt "$STUDENT" --lora 2 --adapter full -o m.tsz
    [ ! -e m.tsz ]
    refused 1 'adapter_config.json' adapt "$STUDENT" --lora-from full -o m.tsz
    adapt "$STUDENT" --lora 2 --adapter p -o m.tsz
    refused 1 'the model requires' "$BIN/hf-export" "$G/slice/llama/all" out --merge p
    refused 1 'is not an adapter of any of the model' "$BIN/hf-export" "$G/families/gpt2" out \
        --merge p
    for change in 'use_dora=true' 'target_parameters=["gate.weight"]' 'bias="all"' \
        'peft_type="IA3"' 'modules_to_save=["lm_head"]'; do
        $LORA change p bad "$change"
        refused 1 "'bad': adapters " "$BIN/hf-export" "$STUDENT" out --merge bad
    done
    $LORA change p bad 'lora_alpha="16"'
    refused 1 'lora_alpha of model.layers.0.self_attn.q_proj must be a number other than 0' \
        "$BIN/hf-export" "$STUDENT" out --merge bad
    [ ! -e out ]
}
