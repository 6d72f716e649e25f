# kd-train --states: golden trajectories, what is kept and what is written, refusals.
bats_require_minimum_version 1.5.0
load refused

setup() {
    BIN=${PARE_BIN:-$PWD/bin}
    G=$PWD/tests/golden
    GOLDEN="python3 $PWD/tests/tools/golden.py"
    STUDENT=$G/slice/llama/all TEACHER=$G/families/llama
    export OMP_WAIT_POLICY=passive              # short runs of many threads: do not spin
    cd "$BATS_TEST_TMPDIR" || exit
    # a state of each of the golden tokens, also of the last, which predicts nothing
    $GOLDEN ids "$G/train/data.safetensors" tokens | sed 's/$/ 0/' |
        "$BIN/tokenize" --ids --seq-length 34 --compress none -o all.tsz
    $GOLDEN uncounted all.tsz data.tsz
}

golden_run() {
    "$BIN/kd-train" "$STUDENT" --teacher "$TEACHER" --data data.tsz --max-steps 12 --batch-size 2 \
        --warmup-steps 3 --learning-rate 1e-3 --min-learning-rate 1e-4 --order sequential \
        --quiet "$@"
}
lifted_run() { golden_run --loss kl+ce --lift "$G/train/data.safetensors" "$@"; }
without_speed() { sed 's/,"tokens_per_second":[0-9]*,"peak_rss":[0-9]*//' "$1"; }

@test "the golden trajectories: losses, states, norms with the lift, final weights and lift" {
    lifted_run --states block:-3:-3 --log kl_ce_is.log --output-dir normed --save-steps 12
    lifted_run --states block:1:0 --states-norm none --log kl_ce_is_raw.log --output-dir raw \
        --save-steps 12
    for mode in kl_ce_is:normed kl_ce_is_raw:raw; do
        dir=${mode#*:} mode=${mode%:*}
        $GOLDEN trajectory $mode.log "$G/train/$mode.json" 1e-5
        "$BIN/hf-export" --quiet $dir/model.tsz $mode
        $GOLDEN weights $mode "$G/train/$mode.final.safetensors" 1e-4
        $GOLDEN lift $dir/checkpoint-12.tsz "$G/train/$mode.final.safetensors" 1e-4
    done
    python3 - "$G/train" <<'P'
import json, sys
for mode, name in ("kl_ce_is", "block:-3:-3"), ("kl_ce_is_raw", "block:1:0"):
    got = [json.loads(l) for l in open(mode + ".log")]
    want = json.load(open("%s/%s.json" % (sys.argv[1], mode)))["log"]
    for a, b in zip(got, want, strict=True):
        assert a["states"] == a[name]
        for mine, theirs in ("states", "intermediate"), ("alpha", "alpha"), ("kl", "kl"):
            assert abs(a[mine] - b[theirs]) <= 1e-5 * b[theirs], (mode, a, b)
P
}

@test "a sum of states with a weight of its own; recomputing changes nothing" {
    sum=emb+0.5block:-3:-3+2*mlp_in:3:2+0.25qkv:-1:-1
    lifted_run --states $sum --states-weight 0.7 --states-loss mse --log a.log -o a.tsz
    lifted_run --states $sum --states-weight 0.7 --states-loss mse --log b.log -o b.tsz --recompute
    cmp a.tsz b.tsz
    cmp <(without_speed a.log) <(without_speed b.log)
    python3 - <<'P'
import json
weights = {"emb": 1, "block:-3:-3": .5, "mlp_in:3:2": 2, "qkv:-1:-1": .25}
for r in map(json.loads, open("a.log")):
    states = sum(w * r[k] for k, w in weights.items())
    assert r["alpha"] == 0.7 and abs(r["states"] - states) < 1e-6 * states
    assert abs(r["loss"] - r["kl"] - r["ce"] - 0.7 * states) < 1e-6 * r["loss"]
    assert all(r[k] > 0 for k in weights)
P
    "$BIN/ts-dump" a.tsz | grep -q -e '--states-norm next'
}

@test "micro-batches are balanced one by one, and weigh what both sums weigh in the step" {
    lifted_run --states block:-3:-3 --log one.log -o one.tsz
    lifted_run --states block:-3:-3 --log two.log -o two.tsz --batch-size 1 \
        --gradient-accumulation-steps 2
    lifted_run --states block:-3:-3 --states-weight 1.5 --log three.log -o three.tsz
    lifted_run --states block:-3:-3 --states-weight 1.5 --log four.log -o four.tsz --batch-size 1 \
        --gradient-accumulation-steps 2
    python3 - <<'P'
import json
one, two, three, four = ([json.loads(l) for l in open(n + ".log")]
                         for n in ("one", "two", "three", "four"))
for r in one + two:
    assert abs(r["alpha"] * r["states"] - r["kl"]) < 1e-9 * r["kl"]
    assert abs(r["loss"] - r["ce"] - 2 * r["kl"]) < 1e-9 * r["loss"]
# of the same weights: the same sums, and gradients that differ, if only a little
assert abs(one[0]["alpha"] / two[0]["alpha"] - 1) < 1e-5
assert 1e-6 < abs(one[0]["grad_norm"] / two[0]["grad_norm"] - 1) < 1e-2
# a weight that is given is the same in all
for a, b in zip(three, four, strict=True):
    assert abs(a["grad_norm"] / b["grad_norm"] - 1) < 1e-4
P
}

@test "padding has no states: sequences of different lengths, together and apart" {
    printf '%s\n' '1 2 3 4 5 6 7 8 9' '10 11 12' | "$BIN/tokenize" --ids -o uneven.tsz
    for run in 'together --batch-size 2' \
        'apart --batch-size 1 --gradient-accumulation-steps 2'; do
        # shellcheck disable=SC2086
        "$BIN/kd-train" "$STUDENT" --teacher "$TEACHER" --data uneven.tsz --max-steps 1 \
            --states emb+qkv:0:0+mlp_in:0:0 --states-weight 1 --order sequential --quiet \
            --log "${run%% *}.log" -o x.tsz ${run#* }
    done
    python3 - <<'P'
import json
together, apart = (json.load(open(f + ".log")) for f in ("together", "apart"))
for key in "emb", "qkv:0:0", "mlp_in:0:0", "loss", "grad_norm":
    assert abs(together[key] - apart[key]) <= 1e-5 * apart[key], (key, together, apart)
P
}

@test "families of other shapes; no lift where widths are equal; states without logits" {
    for pair in gpt2:llama qwen2:gemma2 llama_bias:gpt_neox olmo2:nemotron; do
        "$BIN/kd-train" "$G/families/${pair%:*}" --teacher "$G/families/${pair#*:}" \
            --data data.tsz --max-steps 2 --batch-size 2 --quiet --log $pair.log -o $pair.tsz \
            --states block:-1:-1+mlp_in:0:1+qkv:1:0
        grep -c '"qkv:1:0":' $pair.log | grep -qx 2
    done
    "$BIN/kd-train" "$G/slice/llama/depth" --teacher "$TEACHER" --data data.tsz --max-steps 2 \
        --states block:-3:-2+emb --states-weight 1 --loss ce --batch-size 2 --quiet \
        --log equal.log -o equal.tsz --output-dir equal --save-steps 2
    # embeddings that the cut has left as they were: no weight makes a gradient of rounding errors
    "$BIN/kd-train" "$G/slice/llama/depth" --teacher "$TEACHER" --data data.tsz --max-steps 2 \
        --states emb --batch-size 2 --quiet --log same.log -o same.tsz
    python3 - "$PWD/equal" "$G/slice/llama/depth" <<'P'
import json, os, sys
for r in map(json.loads, open("same.log")):
    assert r["states"] < 1e-6 and r["alpha"] == 1e6 and r["grad_norm"] < 50, r
r = [json.loads(l) for l in open("equal.log")][1]
assert "kl" not in r and abs(r["loss"] - r["ce"] - r["block:-3:-2"] - r["emb"]) < 1e-9 * r["loss"]
# three times the model's own values in f32, and no lift
model, saved = (os.path.getsize(f) for f in (sys.argv[2] + "/model.safetensors",
                                             sys.argv[1] + "/checkpoint-2.tsz"))
assert saved < 3.3 * model, (saved, model)
P
}

@test "interrupted and resumed: the same bits, lift and all; another sum is another run" {
    short() {
        lifted_run --states emb+block:-3:-3 --max-steps 8 --gradient-accumulation-steps 2 \
            --batch-size 1 "$@"
    }
    short --output-dir whole --save-steps 8 --log whole.log
    short --output-dir cut --log cut.log --save-steps 5
    rm cut/checkpoint-8.tsz cut/model.tsz       # as if stopped after step 5
    short --output-dir cut --log cut.log --save-steps 1 --resume
    cmp whole/model.tsz cut/model.tsz
    cmp <(without_speed whole.log) <(without_speed cut.log)
    for run in whole cut; do
        "$BIN/ts-dump" $run/checkpoint-8.tsz --values weights > $run.txt
        "$BIN/ts-dump" $run/checkpoint-8.tsz --values m >> $run.txt
    done
    cmp whole.txt cut.txt
    refused 1 'states' short --output-dir cut --resume --states emb
    refused 1 'states-loss' short --output-dir cut --resume --states-loss mse
    refused 1 'states-weight' short --output-dir cut --resume --states-weight 1
    "$BIN/hf-export" --quiet cut/model.tsz cut/dir
    run ! grep -q lift cut/dir/model.safetensors
}

@test "refused before the first step, with what would be right" {
    refused 2 "no effect without --states" golden_run -o x.tsz --states-loss mse
    refused 2 "sum such as emb+0.5block:-3:-3" golden_run -o x.tsz --states bloc:1:1
    refused 2 "sum such as emb+0.5block:-3:-3" golden_run -o x.tsz --states block:1
    refused 2 "cosine or mse" golden_run -o x.tsz --states emb --states-loss l1
    refused 2 "auto or a number" golden_run -o x.tsz --states emb --states-weight 0
    refused 2 "give a number" golden_run -o x.tsz --states emb --loss ce
    refused 2 "needs a --teacher" "$BIN/kd-train" "$STUDENT" --data data.tsz --max-steps 1 \
        --loss ce --states emb --states-weight 1 -o x.tsz
    refused 1 "from -4 to 3, not 4" golden_run -o x.tsz --states block:4:0
    refused 1 "from -3 to 2, not -5" golden_run -o x.tsz --states block:0:-5
    refused 1 "each state once, not block:-3:-3 and block:1:0" golden_run -o x.tsz \
        --states block:-3:-3+block:1:0
    refused 1 "is not needed" golden_run -o x.tsz --states qkv:0:0 \
        --lift "$G/train/data.safetensors"
    refused 1 "36 x 24" golden_run -o x.tsz --states emb --lift "$G/train/kl.final.safetensors"
    refused 1 "use --states-norm none" "$BIN/kd-train" "$G/families/olmo2" --teacher "$TEACHER" \
        --data data.tsz --max-steps 1 --states block:0:0 --quiet -o x.tsz
    [ ! -e x.tsz ]
}
