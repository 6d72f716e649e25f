# kd-train: golden trajectories, resuming after any kind of interruption, refusals.
bats_require_minimum_version 1.5.0
load refused

setup() {
    BIN=${PARE_BIN:-$PWD/bin}
    G=$PWD/tests/golden TOOLS=$PWD/tests/tools
    GOLDEN="python3 $TOOLS/golden.py"
    PRUNE="env GOLDEN=$G python3 $TOOLS/prune.py"
    STUDENT=$G/slice/llama/all TEACHER=$G/families/llama
    export OMP_WAIT_POLICY=passive              # short runs of many threads: do not spin
    SHORT=("$BIN/kd-train" "$STUDENT" --teacher "$TEACHER" --data data.tsz --batch-size 2
        --gradient-accumulation-steps 2 --learning-rate 1e-3)
    cd "$BATS_TEST_TMPDIR" || exit
    $GOLDEN ids "$G/train/data.safetensors" tokens | "$BIN/tokenize" --ids -o data.tsz
}

golden_run() {
    "$BIN/kd-train" "$STUDENT" --data data.tsz --max-steps 12 --batch-size 2 --warmup-steps 3 \
        --learning-rate 1e-3 --min-learning-rate 1e-4 --order sequential --quiet "$@"
}
short_run() { "${SHORT[@]}" --quiet "$@"; }
without_speed() { sed 's/,"tokens_per_second":[0-9]*,"peak_rss":[0-9]*//' "$1"; }

@test "the golden trajectories: kl and ce, losses, norms, rates and final weights" {
    golden_run --teacher "$TEACHER" --log kl.log -o kl.tsz
    golden_run --loss ce --log ce.log -o ce.tsz
    for mode in kl ce; do
        $GOLDEN trajectory $mode.log "$G/train/$mode.json" 1e-5
        "$BIN/hf-export" --quiet $mode.tsz $mode
        $GOLDEN weights $mode "$G/train/$mode.final.safetensors" 1e-4
    done
}

@test "a weighted sum: each loss by name, and their sum; a run of kl is the kl of any sum" {
    golden_run --teacher "$TEACHER" --loss kl+0.5ce+0.1rkl+2jsd+0.01mse+cosine --log sum.log \
        -o sum.tsz
    "$BIN/ts-dump" sum.tsz | grep -q -e '--jsd-beta 0.5'
    golden_run --teacher "$TEACHER" --log kl.log -o x.tsz
    "$BIN/ts-dump" x.tsz > x.txt
    run ! grep jsd-beta x.txt
    golden_run --teacher "$TEACHER" --loss rkl --temperature 2 --log warm.log -o warm.tsz
    golden_run --teacher "$TEACHER" --loss rkl --temperature 2 \
        --temperature-squared --max-grad-norm 0 --log square.log -o square.tsz
    golden_run --teacher "$TEACHER" --loss 4rkl --temperature 2 --max-grad-norm 0 --log four.log \
        -o four.tsz
    python3 - <<'P'
import json
read = lambda name: [json.loads(l) for l in open(name + ".log")]
weights = dict(kl=1, ce=.5, rkl=.1, jsd=2, mse=.01, cosine=1)
for r in read("sum"):
    assert [k for k in r if k in weights] == ["ce", "kl", "rkl", "jsd", "mse", "cosine"], list(r)
    assert abs(r["loss"] - sum(w * r[k] for k, w in weights.items())) < 1e-9
    assert all(r[k] > 0 for k in weights) and r["jsd"] < 0.6932 and r["cosine"] < 2
assert [k for k in read("kl")[0]][:4] == ["step", "loss", "ce", "kl"] and "rkl" not in read("kl")[0]
assert read("sum")[0]["kl"] == read("kl")[0]["kl"] == read("kl")[0]["loss"]
warm, square, four = read("warm"), read("square"), read("four")
assert warm[0]["rkl"] < read("sum")[0]["rkl"] and "kl" not in warm[0]
assert abs(square[0]["rkl"] - 4 * warm[0]["rkl"]) < 1e-9
assert [r["grad_norm"] for r in square] == [r["grad_norm"] for r in four]
assert [r["loss"] for r in square] == [r["loss"] for r in four]
P
    for run in warm square four; do "$BIN/hf-export" --quiet $run.tsz $run; done
    cmp square/model.safetensors four/model.safetensors
    run ! cmp -s warm/model.safetensors four/model.safetensors
}

@test "a run is not resumed with other losses, another mixture or another factor" {
    run_of() {
        "$BIN/kd-train" "$STUDENT" --teacher "$TEACHER" --data data.tsz --max-steps 2 \
            --quiet -o x.tsz "$@"
    }
    run_of --loss kl+0.5jsd --temperature-squared --output-dir run --save-steps 1
    refused 1 "loss weight of jsd" run_of --loss kl --temperature-squared --output-dir run --resume
    refused 1 "loss weight of rkl" run_of --loss kl+0.5jsd+rkl --temperature-squared \
        --output-dir run --resume
    refused 1 "jsd-beta" run_of --loss kl+0.5jsd --jsd-beta 0.4 --temperature-squared \
        --output-dir run --resume
    refused 1 "temperature-squared" run_of --loss kl+0.5jsd --output-dir run --resume
    run_of --loss kl+0.5jsd --temperature-squared --output-dir run --resume
}

@test "two micro-batches are one of two; recomputing and f32 teachers change nothing" {
    golden_run --teacher "$TEACHER" --log one.log -o one.tsz
    golden_run --teacher "$TEACHER" --log two.log -o two.tsz --batch-size 1 \
        --gradient-accumulation-steps 2
    $GOLDEN trajectory two.log "$G/train/kl.json" 1e-5
    golden_run --teacher "$TEACHER" --log again.log -o again.tsz --recompute --teacher-dtype f32
    cmp <(without_speed one.log) <(without_speed again.log)
    cmp one.tsz again.tsz
}

@test "sequences of different lengths: the mean is over all predictions of a step" {
    printf '%s\n' '1 2 3 4 5 6 7 8 9' '10 11' | "$BIN/tokenize" --ids -o uneven.tsz
    "$BIN/kd-train" "$STUDENT" --loss ce --data uneven.tsz --max-steps 1 --batch-size 2 \
        --order sequential --quiet --log together.log -o a.tsz
    "$BIN/kd-train" "$STUDENT" --loss ce --data uneven.tsz --max-steps 1 --batch-size 1 \
        --gradient-accumulation-steps 2 --order sequential --quiet --log apart.log -o b.tsz
    "$BIN/eval-ppl" --quiet "$STUDENT" uneven.tsz > eval.json
    python3 - <<'P'
import json
together, apart, whole = (json.load(open(f)) for f in ("together.log", "apart.log", "eval.json"))
assert together["tokens"] == apart["tokens"] == whole["predictions"] == 9
for key in ("loss", "grad_norm"):
    assert abs(together[key] - apart[key]) < 1e-5, key
assert abs(together["loss"] - whole["nll"]) < 1e-6
P
}

@test "killed again and again, also while saving: the same bits as an uninterrupted run" {
    short_run --max-steps 24 --loss kl+0.5ce --eval-data data.tsz --eval-steps 8 \
        --output-dir whole --log whole.log
    tries=0
    until timeout -s KILL "$((tries / 20)).$((1 + tries % 5))" "${SHORT[@]}" --quiet \
        --max-steps 24 --loss kl+0.5ce --eval-data data.tsz --eval-steps 8 \
        --output-dir cut --log cut.log --save-steps 1 --resume 2>> notes; do
        tries=$((tries + 1))
        [ $tries -lt 100 ]
    done
    [ $tries -gt 0 ]
    cmp whole/model.tsz cut/model.tsz
    cmp <(without_speed whole.log) <(without_speed cut.log)
    [ "$(ls cut)" = "$(printf '%s\n' checkpoint-23.tsz checkpoint-24.tsz model.tsz)" ]
}

@test "memory is predicted within 5 % of what is used, by training and by evaluation" {
    python3 -c "
import random
random.seed(1)
for i in range(64): print(*[random.randrange(83) for _ in range(257)])" > long.ids
    "$BIN/tokenize" --ids long.ids -o long.tsz
    mkdir wide
    sed -e 's/"hidden_size": [0-9]*/"hidden_size": 384/' \
        -e 's/"intermediate_size": [0-9]*/"intermediate_size": 1024/' \
        -e 's/"max_position_embeddings": [0-9]*/"max_position_embeddings": 256/' \
        "$TEACHER/config.json" > wide/config.json
    "$BIN/kd-train" wide --init random --loss ce --data long.tsz --max-steps 2 --batch-size 8 \
        --log wide.log -o wide.tsz 2> note
    "$BIN/eval-ppl" wide.tsz long.tsz > eval.json 2>> note
    [ -n "$PARE_SANITIZED" ] && skip "a sanitizer takes memory of its own"
    python3 - <<'PYTHON'
import json, re
predicted = [float(x) for x in re.findall(r"predicted memory ([0-9.]+) MB", open("note").read())]
records = json.loads(open("wide.log").readlines()[-1]), json.load(open("eval.json"))
used = [r["peak_rss"] / 1e6 for r in records]
for p, u in zip(predicted, used, strict=True):
    print(p, u)
    assert abs(p / u - 1) < 0.05, (p, u)
PYTHON
}

@test "an interrupted save, a damaged newest checkpoint, a log ahead: the previous one is used" {
    short_run --max-steps 12 --output-dir whole --log whole.log
    short_run --max-steps 12 --output-dir cut --log cut.log --save-steps 3 --teacher "$TEACHER" \
        --eval-steps 1 --eval-data data.tsz -o elsewhere.tsz
    [ "$(ls cut)" = "$(printf '%s\n' checkpoint-12.tsz checkpoint-9.tsz)" ]
    size=$(stat -c %s cut/checkpoint-12.tsz)
    head -c $((size / 2)) cut/checkpoint-12.tsz > cut/.checkpoint-15.tsz.0123456789abcdef.part
    printf 'xxxx' | dd of=cut/checkpoint-12.tsz bs=1 seek=$((size / 2)) conv=notrunc status=none
    printf '{"step":13,"lo' >> cut.log
    run --separate-stderr "${SHORT[@]}" --max-steps 12 --output-dir cut --log cut.log \
        --save-steps 3 --resume
    [ "$status" = 0 ]
    [[ $stderr == *"damaged"*"checkpoint-12.tsz"*"after step 9"* ]]
    cmp whole/model.tsz cut/model.tsz
    cmp <(without_speed whole.log) <(without_speed cut.log | sed 's/,"eval_[^,}]*//g')
    [ ! -e cut/.checkpoint-15.tsz.0123456789abcdef.part ]
}

@test "all checkpoints damaged: refused, not restarted" {
    short_run --max-steps 2 --output-dir run --save-steps 1
    for f in run/checkpoint-*; do truncate -s -1 "$f"; done
    rm run/model.tsz
    refused 1 "no intact checkpoint" short_run --max-steps 2 --output-dir run --resume
    [ ! -e run/model.tsz ]
}

@test "SIGTERM, SIGINT, SIGHUP, SIGUSR1: saved, status 1, and --resume ends in the same bits" {
    short_run --max-steps 300 --output-dir whole
    for signal in TERM INT HUP USR1; do
        env --default-signal "${SHORT[@]}" --max-steps 300 --output-dir $signal \
            --log $signal.log --resume 2> notes &
        pid=$!
        for i in $(seq 200); do [ -s $signal.log ] && break; sleep 0.02; done
        kill -$signal $pid
        status=0
        wait $pid || status=$?
        [ $status = 1 ]
        grep -q '^kd-train: stopping after this step; the same signal again ends it at once$' notes
        grep -q 'resume' notes
        [ -n "$(ls $signal/checkpoint-*)" ]
        [ ! -e $signal/model.tsz ]
        short_run --max-steps 300 --output-dir $signal --log $signal.log --resume
        cmp whole/model.tsz $signal/model.tsz
        [ "$(wc -l < $signal.log)" = 300 ]
    done
}

@test "--resume refuses a different run, and names the difference" {
    short_run --max-steps 4 --output-dir run --save-steps 3
    "$BIN/tokenize" --ids -o other.tsz <<< "1 2 3 4 5"
    refused 1 'learning-rate 0.001, not 0.002' short_run --max-steps 4 --output-dir run \
        --resume --learning-rate 2e-3
    refused 1 'has done 4 steps, more than --max-steps 3' short_run --max-steps 3 --output-dir run \
        --resume
    refused 1 'seed' short_run --max-steps 4 --output-dir run --resume --seed 2
    refused 1 'order' short_run --max-steps 4 --output-dir run --resume --order sequential
    refused 1 'loss weight of ce' short_run --max-steps 4 --output-dir run --resume --loss kl+0.1ce
    refused 1 'data' short_run --max-steps 4 --output-dir run --resume --data other.tsz
    refused 1 'student' "$BIN/kd-train" "$TEACHER" "${SHORT[@]:2}" --quiet --max-steps 4 \
        --output-dir run --resume
    short_run --max-steps 4 --output-dir run --resume --recompute --save-steps 1
    rm run/checkpoint-4.tsz
    refused 1 'max-steps 4, not 5' short_run --max-steps 5 --output-dir run --resume
}

@test "an output directory has checkpoints of every tenth, and takes no second run" {
    short_run --max-steps 20 --output-dir run --log run.log
    [ "$(ls run)" = "$(printf '%s\n' checkpoint-18.tsz checkpoint-20.tsz model.tsz)" ]
    cp run/model.tsz before.tsz
    refused 1 'run holds an earlier run of 20 steps: --resume continues it, --overwrite replaces' \
        short_run --max-steps 3 --output-dir run --log run.log
    [ "$(wc -l < run.log)" = 20 ]
    rm run/checkpoint-*
    refused 1 'run holds an earlier run: ' short_run --max-steps 3 --output-dir run
    refused 1 'no checkpoint to continue from' short_run --max-steps 3 --output-dir run --resume
    cmp before.tsz run/model.tsz
    short_run --max-steps 3 --output-dir run --overwrite --save-steps 0
    [ "$(ls run)" = "$(printf '%s\n' checkpoint-3.tsz log.jsonl model.tsz)" ]
    [ "$(wc -l < run/log.jsonl)" = 3 ]
    # files of others stay, whatever their names
    echo mine > run/checkpoint-9.tsz
    short_run --max-steps 4 --output-dir run --overwrite --save-steps 1
    [ "$(echo run/checkpoint-*)" = "$(echo run/checkpoint-{3,4,9}.tsz)" ]
    [ "$(cat run/checkpoint-9.tsz)" = mine ]
    refused 2 'give one' short_run --max-steps 3 --output-dir run --overwrite --resume
    refused 2 'need --output-dir' short_run --max-steps 3 --overwrite -o x.tsz
    refused 2 '--save-steps must be -1 or at least 0, not -2' short_run --max-steps 3 \
        --output-dir run --resume --save-steps -2
}

@test "a finished run goes on: the schedule says what it does, and the history makes it again" {
    short_run --max-steps 4 --output-dir run --log run.log
    "${SHORT[@]}" --max-steps 8 --output-dir run --log run.log --resume 2> note
    # lowest 1e-4, peak 1e-3, warm-up of a step: 1e-4 + 4.5e-4 (1 + cos(2 pi / 3)), then 3 pi / 7
    grep -q 'last step, which now is 8: .* from 0.000325 in step 4 to 0.00065 in step 5$' note
    [ "$(sed 's/.*"step":\([0-9]*\).*/\1/' run.log | tr '\n' ' ')" = '1 2 3 4 5 6 7 8 ' ]
    short_run --max-steps 10 --output-dir run --log run.log --resume -o on.tsz
    [ "$(wc -l < run.log)" = 10 ]
    "$BIN/ts-dump" --hist on.tsz > remake
    [ "$(grep -c -e '--output-dir "$tmp' remake)" = 3 ]
    PATH=$BIN:$PATH sh remake again.tsz 2> note
    cmp on.tsz again.tsz
    # it is not the run of 10 steps, nor called so
    short_run --max-steps 10 -o straight.tsz
    [ "$("$BIN/ts-dump" straight.tsz --head | grep -m 1 '"id"')" != \
        "$("$BIN/ts-dump" on.tsz --head | grep -m 1 '"id"')" ]
    # nothing of a constant schedule depends on the end
    short_run --max-steps 2 --schedule constant --warmup-steps 1 --output-dir c
    "${SHORT[@]}" --max-steps 4 --schedule constant --warmup-steps 1 --output-dir c --resume \
        -o on.tsz 2> note
    run ! grep 'depends on' note
    short_run --max-steps 4 --schedule constant --warmup-steps 1 -o straight.tsz
    cmp on.tsz straight.tsz
}

@test "held-out text beside the teacher: the figures of eval-ppl --against, for people too" {
    "${SHORT[@]}" --max-steps 2 --eval-data data.tsz --log run.log -o x.tsz 2> note
    "$BIN/eval-ppl" --quiet x.tsz data.tsz --against "$TEACHER" > eval.json
    python3 - <<'P'
import json, re
line, want = json.loads(open("run.log").readlines()[-1]), json.load(open("eval.json"))
said = re.search(r"held out ([\d.]+), KL ([\d.]+), top-1 ([\d.]+) %", open("note").read()).groups()
of = want["against"]
for key, figure, text in zip(("nll", "kl", "top1"), (want["nll"], of["kl"], of["same_top1"]), said):
    assert abs(line["eval_" + key] - figure) < 1e-9, (line, want)
    assert abs(float(text) / (100 if key == "top1" else 1) - figure) < 6e-4, (said, want)
P
    golden_run --loss ce --eval-data data.tsz --log ce.log -o x.tsz
    grep -q eval_nll ce.log
    run ! grep -E 'eval_(kl|top1)' ce.log
}

@test "sequences without a prediction are left out, whatever form the text or the teacher has" {
    documents=('1' '5 6 7' '2' '8 9 10 11' '3' '12 13 14 15 16' '4')
    printf '%s\n' "${documents[@]}" > documents
    "$BIN/tokenize" --ids documents -o plain.tsz
    "$BIN/tokenize" --quiet --ids --pack --seq-length 5 documents -o packed.tsz
    printf '%s\n' '5 6 7' '8 9 10 11' '12 13 14 15 16' | "$BIN/tokenize" --ids -o rest.tsz
    "$BIN/dump-logits" --quiet "$TEACHER" plain.tsz --full -o logits.tsz
    printf '%s\n' full hidden-size=20 > shapes
    run_of() {      # 2 sequences a step of 3: each is drawn, alone or twice
        "$BIN/kd-train" "$STUDENT" --max-steps 3 --batch-size 2 --seed 3 --quiet \
            --log "$1.log" -o "$1-model.tsz" "${@:2}"
    }
    run_of rest --teacher "$TEACHER" --data rest.tsz
    run_of plain --teacher "$TEACHER" --data plain.tsz --eval-data plain.tsz --output-dir run \
        --save-steps 2
    cmp <(without_speed rest.log) <(without_speed plain.log | sed 's/,"eval_[^,}]*//g')
    rm run/checkpoint-3.tsz
    cp plain.log whole.log
    run_of plain --teacher "$TEACHER" --data plain.tsz --eval-data plain.tsz --output-dir run \
        --resume
    cmp <(without_speed whole.log) <(without_speed plain.log)
    run_of cached --teacher-logits logits.tsz --data plain.tsz
    run_of packed --teacher "$TEACHER" --data packed.tsz --eval-data packed.tsz
    run_of nested --teacher "$TEACHER" --data plain.tsz --eval-data plain.tsz --widths shapes
    cmp <(grep -o '"tokens":[0-9]*' rest.log) <(grep -o '"tokens":[0-9]*' cached.log)
    cmp <(grep -o '"tokens":[0-9]*' rest.log) <(grep -o '"tokens":[0-9]*' nested.log)
    cat cached.log packed.log nested.log > all.log
    run ! grep -iE '"loss":(nan|null|0[,.]0*[,}])' all.log
}

@test "what can be refused is refused before models are loaded" {
    mkdir bare                      # no weights, which loading would refuse
    cp "$STUDENT/config.json" bare/
    printf '%s\n' 1 2 3 | "$BIN/tokenize" --ids -o single.tsz
    train=("$BIN/kd-train" bare --loss ce --max-steps 2 --quiet)
    refused 1 "single.tsz: its 3 tokens have no window with a prediction" "${train[@]}" \
        --data single.tsz -o x.tsz
    refused 1 "single.tsz: its 3 tokens have no window with a prediction" "${train[@]}" \
        --data data.tsz --eval-data single.tsz -o x.tsz
    "$BIN/kd-train" bare --init random --loss ce --max-steps 2 --quiet --data data.tsz \
        --output-dir run
    refused 1 "holds an earlier run" "${train[@]}" --data data.tsz --output-dir run
    refused 1 'written with init "random", not "keep"' "${train[@]}" --data data.tsz \
        --output-dir run --resume
    refused 1 "no weights" "${train[@]}" --data data.tsz -o x.tsz
}

@test "a loss that rises tenfold is told once" {
    "$BIN/kd-train" "$STUDENT" --loss ce --data data.tsz --max-steps 9 --warmup-steps 0 \
        --learning-rate 30 --max-grad-norm 0 --schedule constant -o x.tsz 2> note
    grep -c 'the loss is .*, more than ten times the .* that it began with' note | grep -qx 1
    golden_run --loss ce -o x.tsz 2> note
    run ! grep 'ten times' note
}

@test "each schedule in the log; a stable phase goes on with more steps to the same bits" {
    rates() { sed 's/.*"learning_rate":\([^,]*\),.*/\1/' "$1" | xargs printf '%.4g '; }
    run_of() { short_run --max-steps 8 --warmup-steps 2 -o x.tsz --schedule "$@"; }
    run_of linear --log linear.log
    run_of wsd --decay-steps 4 --log wsd.log
    mv x.tsz wsd.tsz
    run_of constant --log constant.log
    run_of cosine --decay-steps 2 --min-learning-rate 0 --log cosine.log
    [ "$(rates linear.log)" = \
        "0.0005 0.001 0.001 0.0008333 0.0006667 0.0005 0.0003333 0.0001667 " ]
    [ "$(rates wsd.log)" = "0.0005 0.001 0.001 0.001 0.001 0.00075 0.0005 0.00025 " ]
    [ "$(rates constant.log)" = "0.0005 0.001 0.001 0.001 0.001 0.001 0.001 0.001 " ]
    [ "$(rates cosine.log)" = "0.0005 0.001 0.001 0.001 0.001 0.001 0.001 0.0005 " ]
    short_run --max-steps 4 --warmup-steps 2 --schedule constant --output-dir run --save-steps 4
    refused 1 'min-learning-rate 0.001, not 0.0' run_of linear --output-dir run --resume
    run_of wsd --decay-steps 4 --log on.log --output-dir run --resume
    tail -n 4 wsd.log | cmp <(without_speed on.log) <(without_speed /dev/stdin)
    cmp wsd.tsz x.tsz
}

@test "--resume refuses a student or teacher with the same id and another value" {
    cp -r "$STUDENT" student
    cp -r "$TEACHER" teacher
    run_of() {
        "$BIN/kd-train" student --teacher teacher "${SHORT[@]:4}" --quiet --max-steps 4 "$@"
    }
    run_of --output-dir run --save-steps 2
    for model in student teacher; do
        $PRUNE other $model model.embed_tokens.weight
        refused 1 "${model}_digest" run_of --output-dir run --resume
        $PRUNE other $model model.embed_tokens.weight     # and back
    done
    run_of --output-dir run --resume
    # a checkpoint of an earlier release has no digests
    PYTHONPATH=$TOOLS python3 - run/checkpoint-4.tsz <<'P'
import stream, sys
header, records = stream.read(open(sys.argv[1], "rb"))
assert header["run"].pop("student_digest") != header["run"].pop("teacher_digest")
stream.write(open(sys.argv[1], "wb"), header, records)
P
    run_of --output-dir run --resume
}

@test "a NaN loss ends the run with its step, and the last checkpoint is kept" {
    python3 - "$STUDENT" <<'P'
import json, shutil, struct, sys
shutil.copytree(sys.argv[1], "broken")
data = bytearray(open("broken/model.safetensors", "rb").read())
n, = struct.unpack("<Q", data[:8])
t = json.loads(data[8:8 + n])["model.norm.weight"]["data_offsets"]
data[8 + n + t[0]:8 + n + t[0] + 4] = struct.pack("<f", float("nan"))
open("broken/model.safetensors", "wb").write(data)
P
    refused 1 "step 1: the loss is not a number" "$BIN/kd-train" broken --loss ce --data data.tsz \
        --max-steps 4 --output-dir run --quiet
    [ ! -e run/checkpoint-* ]
    hot() {
        "$BIN/kd-train" "$STUDENT" --loss ce --data data.tsz --max-steps 40 --warmup-steps 40 \
            --learning-rate 4e13 --max-grad-norm 0 --output-dir hot "$@"
    }
    run -1 --separate-stderr hot --quiet --save-steps 1 --log hot.log
    local what="(loss|gradient's norm) is (infinite|not a number)"
    local hint="--learning-rate may be too high"
    local kept="the checkpoint of step ([0-9]+) remains in hot"
    [[ $stderr =~ ^"kd-train: step "([0-9]+)": the "$what": "$hint"; "$kept$ ]]
    [ "${BASH_REMATCH[1]}" = $((BASH_REMATCH[4] + 1)) ]
    [ -e "hot/checkpoint-${BASH_REMATCH[4]}.tsz" ]
    [ ! -e hot/model.tsz ]
    [ "$(wc -l < hot.log)" = "${BASH_REMATCH[4]}" ]
    "$BIN/ts-check" "hot/checkpoint-${BASH_REMATCH[4]}.tsz"
    refused 1 "step ${BASH_REMATCH[1]}: " hot --quiet --resume
}

@test "--log - is standard output, unless the model goes there" {
    short_run --max-steps 3 --log file.log -o a.tsz
    short_run --max-steps 3 --log - -o b.tsz > out.log
    cmp <(without_speed file.log) <(without_speed out.log)
    cmp a.tsz b.tsz
    short_run --max-steps 3 --log - --output-dir run --save-steps 2 | grep -c '"step"' | grep -qx 3
    rm run/model.tsz run/checkpoint-3.tsz
    echo before > more.log
    # nothing to cut off
    short_run --max-steps 3 --log - --output-dir run --resume --save-steps 2 >> more.log
    [ "$(grep -o '^before\|"step":[0-9]*' more.log | tr '\n' ' ')" = 'before "step":3 ' ]
    refused 2 "write the model to a file" short_run --max-steps 3 --log -
    refused 2 "write the model to a file" short_run --max-steps 3 --log - --output-dir run -o -
    refused 1 "standard output" bash -c '"$@" > /dev/full' - "$BIN/kd-train" "$STUDENT" --loss ce \
        --data data.tsz --max-steps 1 --quiet --log - -o x.tsz
    [ ! -e - ]
    "$BIN/ts-check" x.tsz
}

@test "random initialisation from a directory with only config and tokenizer" {
    mkdir bare
    cp "$STUDENT/config.json" bare/
    for n in 1 2; do
        "$BIN/kd-train" bare --init random --teacher "$TEACHER" --data data.tsz --max-steps 2 \
            --batch-size 2 --seed 5 --quiet -o $n.tsz
    done
    cmp 1.tsz 2.tsz
    "$BIN/kd-train" bare --init random --teacher "$TEACHER" --data data.tsz --max-steps 2 \
        --batch-size 2 --seed 6 --quiet -o 3.tsz
    run ! cmp -s 1.tsz 3.tsz
    refused 1 "no weights" "$BIN/kd-train" bare --teacher "$TEACHER" --data data.tsz --max-steps 2 \
        --quiet -o 4.tsz
    [ ! -e 4.tsz ]
}

@test "the tokenizer is the student's, else the teacher's; different ones are refused" {
    cp -r "$STUDENT" named; cp -r "$TEACHER" teacher
    echo '{"model": {"type": "BPE", "vocab": {}, "merges": []}}' > named/tokenizer.json
    echo '{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}' > teacher/tokenizer.json
    refused 1 "different tokenizers" "$BIN/kd-train" named --teacher teacher --data data.tsz \
        --max-steps 1 --quiet -o x.tsz
    "$BIN/kd-train" named --teacher teacher --data data.tsz --max-steps 1 \
        --any-tokenizer --quiet -o own.tsz
    "$BIN/kd-train" "$STUDENT" --teacher teacher --data data.tsz --max-steps 1 --quiet -o given.tsz
    "$BIN/hf-export" --quiet own.tsz own
    "$BIN/hf-export" --quiet given.tsz given
    cmp own/tokenizer.json named/tokenizer.json
    cmp given/tokenizer.json teacher/tokenizer.json
}

@test "refused: wrong usage and unusable data" {
    refused 2 "--max-steps" short_run -o x.tsz
    refused 2 "needs a --teacher" golden_run -o x.tsz
    refused 2 "does not use --teacher" golden_run --teacher "$TEACHER" --loss ce -o x.tsz
    refused 2 "--loss must be a sum" golden_run --loss l2 -o x.tsz
    refused 2 "--jsd-beta must be from 0.001 to 0.999, not 1" golden_run --teacher "$TEACHER" \
        --loss jsd --jsd-beta 1 -o x.tsz
    refused 2 "--jsd-beta has no effect" golden_run --teacher "$TEACHER" --loss kl --jsd-beta 0.5 \
        -o x.tsz
    refused 2 "--learning-rate must be above 0, not -0.5" golden_run --loss ce \
        --learning-rate -0.5 -o x.tsz
    refused 2 "--adam-beta2 must be at least 0 and below 1, not 1.5" golden_run --loss ce \
        --adam-beta2 1.5 -o x.tsz
    refused 2 "--max-grad-norm must be 0 or above, not -2" golden_run --loss ce --max-grad-norm -2 \
        -o x.tsz
    refused 2 "--temperature has no effect" golden_run --loss ce --temperature 2 -o x.tsz
    refused 2 "--temperature-squared has no effect" golden_run --teacher "$TEACHER" \
        --loss mse+cosine+ce --temperature-squared -o x.tsz
    refused 2 "--temperature must be from 0.001 to 1000, not 1e-60" golden_run \
        --teacher "$TEACHER" --temperature 1e-60 -o x.tsz
    refused 2 "--loss rkl needs a --teacher" golden_run --loss rkl -o x.tsz
    refused 2 "--schedule must be cosine, linear, wsd or constant" golden_run --loss ce \
        --schedule step -o x.tsz
    refused 2 "--decay-steps must be -1 or from 0 to 9" golden_run --loss ce --decay-steps 10 \
        -o x.tsz
    refused 2 "--min-learning-rate has no effect" golden_run --loss ce --schedule constant -o x.tsz
    refused 2 "--order must be sequential or shuffled" golden_run --loss ce --order random -o x.tsz
    refused 2 "--output-dir" golden_run --loss ce --save-steps 2 -o x.tsz
    "$BIN/tokenize" --ids -o beyond.tsz <<< "1 2 83"
    refused 1 "token id 83" golden_run --loss ce --data beyond.tsz -o x.tsz
    "$BIN/tokenize" --ids -o single.tsz <<< "1"
    refused 1 "no window with a prediction" golden_run --loss ce --data single.tsz -o x.tsz
    refused 1 "/nowhere/x.tsz" golden_run --loss ce -o /nowhere/x.tsz
    refused 1 "kind" golden_run --loss ce --data <("$BIN/hf-import" "$STUDENT") -o x.tsz
    [ ! -e x.tsz ]
}
