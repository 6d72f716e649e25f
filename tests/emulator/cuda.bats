# Tools with --device cuda: bf16 against f32, resuming from checkpoints on the same and on another
# device, refusals. PARE_BIN: a build that has the CUDA kernels, on the emulator or with a card.
bats_require_minimum_version 1.5.0

setup() {
    BIN=${PARE_BIN:-$PWD/build/emulated/bin}
    G=$PWD/tests/golden
    GOLDEN="python3 $PWD/tests/tools/golden.py"
    STUDENT=$G/slice/llama/all TEACHER=$G/families/llama
    cd "$BATS_TEST_TMPDIR" || exit
    $GOLDEN ids "$G/train/data.safetensors" tokens | "$BIN/tokenize" --ids -o data.tsz
}

golden_run() {
    "$BIN/kd-train" "$STUDENT" --teacher "$TEACHER" --data data.tsz --max-steps 12 --batch-size 2 \
        --warmup-steps 3 --learning-rate 1e-3 --min-learning-rate 1e-4 --order sequential \
        --quiet "$@"
}
without_speed() { sed 's/,"tokens_per_second":[0-9]*,"peak_rss":[0-9]*//' "$1"; }

@test "the losses of every family in bf16 are within 1 % of those in f32" {
    for family in "$G"/families/*; do
        $GOLDEN ids "$family/expected.safetensors" input_ids | "$BIN/tokenize" --ids -o family.tsz
        "$BIN/eval-ppl" "$family" family.tsz --device cuda --quiet >> records
    done
    [ "$(wc -l < records)" = "$(ls "$G/families" | wc -l)" ]
    $GOLDEN nll records 0.04
}

@test "generation after prompts of several pieces, the last of any length, gives the CPU's ids" {
    for n in 64 65 125 405 1045; do
        prompt=$(seq -s, 1 $n | tr , '\n' | awk '{ print ($1 * 37) % 83 }' | paste -sd,)
        "$BIN/generate" --quiet --ignore-eos "$TEACHER" --prompt-ids "$prompt" \
            --max-new-tokens 6 > cpu
        for compute in f32 tf32 bf16; do
            "$BIN/generate" --quiet --ignore-eos "$TEACHER" --prompt-ids "$prompt" \
                --max-new-tokens 6 --device cuda --compute $compute > device
            diff cpu device || { echo "$n tokens, $compute"; false; }
        done
    done
}

@test "a product that the library refuses is told at once, and fails the bench" {
    if nvidia-smi -L > /dev/null 2>&1; then skip "a card's library refuses others"; fi
    run -0 --separate-stderr "$BIN/eval-ppl" "$STUDENT" data.tsz --device cuda
    [[ $stderr == *"no algorithm for a product of "*" in bf16: a plain kernel"* ]]
    [ "$(grep -c "no algorithm" <<< "$stderr")" = 1 ]
    bench=$BIN/../tests/bench/bench
    "$bench" "eval tiny" --device cuda --steps 1 | grep '"refused_products":0'
    "$bench" "eval tiny" --device cuda --steps 1 --algorithms | grep '"algorithms":"timed"'
    "$bench" "train hybrid" --device cuda --steps 1 --ops > ops
    [ "$(grep -c -E '"op":"(conv|scan)","direction":"(for|back)ward","calls":[13],' ops)" = 4 ]
    run -1 --separate-stderr "$bench" "eval odd" --device cuda --steps 1
    [[ $stderr == "bench: "*"no algorithm"* ]]
}

@test "--algorithms: products are timed once; the file that keeps them gives the same bits" {
    golden_run --device cuda --max-steps 4 -o first.tsz
    golden_run --device cuda --max-steps 4 --algorithms kept.json -o timed.tsz
    cp kept.json before.json
    [ "$(grep -c '"bf16 [NT] [NT] .* to ' kept.json)" -gt 10 ]
    golden_run --device cuda --max-steps 4 --algorithms kept.json -o again.tsz
    cmp kept.json before.json
    cmp timed.tsz again.tsz
    "$BIN/ts-dump" --hist timed.tsz | grep -q -e '--algorithms kept.json'
    # rounding at most changes: not the id
    id() { "$BIN/ts-dump" "$1" | grep '^id'; }
    [ "$(id first.tsz)" = "$(id timed.tsz)" ]
    # the emulator's fastest is its second, which ends in 1 and 0
    nvidia-smi -L > /dev/null 2>&1 ||
        [ "$(grep -c '0100000000000000"' kept.json)" = "$(grep -c ' to ' kept.json)" ]
    # a run that ends early has kept what it timed
    golden_run --device cuda --max-steps 2 --algorithms cut.json --output-dir cut
    golden_run --device cuda --max-steps 4 --algorithms cut.json -o resumed.tsz
    diff <(sort cut.json) <(sort kept.json)
}

@test "--algorithms: files of another card, of none, and of no algorithms are refused" {
    of() {
        run "-$1" --separate-stderr "$BIN/eval-ppl" "$TEACHER" data.tsz "${@:3}"
        [[ $stderr == *"$2"* ]]
    }
    of 2 "--algorithms is for --device cuda" --algorithms a.json
    of 0 "" --device cuda --algorithms a.json
    sed 's/"for": "[^"]*"/"for": "another"/' a.json > b.json
    of 1 "b.json is of another, not cuBLASLt" --device cuda --algorithms b.json
    of 1 "not valid JSON" --device cuda --algorithms data.tsz
    echo '{"products": {}}' > c.json
    of 1 "c.json has no algorithms" --device cuda --algorithms c.json
    sed 's/: "[0-9a-f]*"/: "00ff"/' a.json > d.json
    of 1 "with the algorithm that was stored for it" --device cuda --algorithms d.json
    of 1 "cannot write nowhere/a.json" --device cuda --algorithms nowhere/a.json
}

@test "packed weights are widened on their way to the device" {
    tiny="env PYTHONPATH=$G/../tools:$G/../hf python3 $G/../tools/gguf.py"
    $tiny tiny tiny
    $tiny make tiny m.gguf Q8_0
    echo "1 2 3 4 5 6 7 8 9 10 11 12 13" | "$BIN/tokenize" --ids -o ids.tsz
    "$BIN/dump-logits" m.gguf ids.tsz --full --quiet --compress none -o cpu.tsz
    for how in f32:1e-6 bf16:2e-2; do
        "$BIN/dump-logits" m.gguf ids.tsz --full --quiet --device cuda --compute ${how%:*} \
            --compress none -o ${how%:*}.tsz
        $tiny near cpu.tsz ${how%:*}.tsz ${how#*:}
    done
}

@test "bf16, tf32 and f32 make three ids, and the history makes each again" {
    for how in bf16 tf32 f32; do
        "$BIN/dump-logits" "$STUDENT" data.tsz --full --max-tokens 64 --quiet --device cuda \
            --compute $how -o $how.tsz
        "$BIN/ts-dump" --hist $how.tsz > script
        grep -q -e "--device cuda --compute $how" script
        PATH=$BIN:$PATH sh script again.tsz
        cmp $how.tsz again.tsz
        "$BIN/ts-dump" --head $how.tsz | sed -n 's/^  "id": //p' >> ids
    done
    [ "$(sort -u ids | wc -l)" = 3 ]
    "$BIN/dump-logits" "$STUDENT" data.tsz --full --max-tokens 64 --quiet -o cpu.tsz
    [ "$("$BIN/ts-dump" --head cpu.tsz | sed -n 's/^  "id": //p')" = "$(tail -n 1 ids)" ]
}

@test "a teacher's listings: made on the device as on the CPU, and trained from in f32" {
    export OMP_WAIT_POLICY=passive
    $GOLDEN ids "$G/train/data.safetensors" tokens | head -n 4 | "$BIN/tokenize" --ids -o few.tsz
    for form in "--top-k 5 --tail" "--sample 12"; do
        "$BIN/dump-logits" "$TEACHER" few.tsz $form --compress none --quiet -o cpu.tsz
        "$BIN/dump-logits" "$TEACHER" few.tsz $form --compress none --quiet --device cuda \
            --compute f32 -o device.tsz
        for device in cpu cuda; do
            compute=; [ $device = cpu ] || compute="--compute f32"
            "$BIN/kd-train" "$STUDENT" --teacher-logits cpu.tsz --data few.tsz --max-steps 3 \
                --batch-size 2 --learning-rate 1e-3 --device $device $compute --quiet \
                --log $device.log -o x.tsz
        done
        python3 - <<'P'
import json
a, b = ([json.loads(l) for l in open(f + ".log")] for f in ("cpu", "cuda"))
for x, y in zip(a, b, strict=True):
    assert all(abs(x[k] / y[k] - 1) < 1e-5 for k in ("kl", "grad_norm")), (x, y)
P
    done
    python3 - "$G/../tools" <<'P'
import sys
sys.path.insert(0, sys.argv[1])
import stream
cpu, device = (stream.read(open(f + ".tsz", "rb"))[1] for f in ("cpu", "device"))
same = sum(a[3] == b[3] for a, b in zip(cpu, device, strict=True))
assert same >= 0.9 * len(cpu), same     # a draw at the edge of two tokens may be rounded
P
}

@test "steps in bf16: every loss within 1 % of f32 on the CPU (STEPS= how many)" {
    long() { golden_run --max-steps "${STEPS:-40}" --loss ce+kl "$@"; }
    long --device cuda --log bf16.log -o one.tsz
    long --device cpu --log f32.log -o f32.tsz
    python3 - <<'P'
import json
a, b = ([json.loads(l)["loss"] for l in open(f)] for f in ("bf16.log", "f32.log"))
worst = max(abs(x / y - 1) for x, y in zip(a, b, strict=True))
print(worst)
assert worst < 0.01
P
}

@test "interrupted and resumed on the device: the same bits; recomputation changes nothing" {
    for compute in bf16 f32; do
        golden_run --device cuda --compute $compute --output-dir whole.$compute \
            --log whole.$compute.log
        golden_run --device cuda --compute $compute --output-dir cut.$compute \
            --log cut.$compute.log --save-steps 5
        [ -e cut.$compute/checkpoint-10.tsz ]
        rm cut.$compute/model.tsz
        golden_run --device cuda --compute $compute --output-dir cut.$compute \
            --log cut.$compute.log --resume --recompute
        cmp whole.$compute/model.tsz cut.$compute/model.tsz
        cmp <(without_speed whole.$compute.log) <(without_speed cut.$compute.log)
    done
}

@test "a nested model in bf16 takes the steps of the cut one" {
    "$BIN/rank" --magnitude "$TEACHER" | "$BIN/slice-model" "$TEACHER" --rank - --sort -o sorted.tsz
    echo "hidden-size=24 num-attention-heads=4" > one
    "$BIN/slice-model" sorted.tsz --in-order --hidden-size 24 --num-attention-heads 4 -o cut.tsz
    STUDENT=sorted.tsz golden_run --widths one --device cuda --log nested.log -o nested.tsz
    STUDENT=cut.tsz golden_run --device cuda --log alone.log -o alone.tsz
    "$BIN/slice-model" nested.tsz --in-order --hidden-size 24 --num-attention-heads 4 -o out.tsz
    env GOLDEN="$G" python3 "$G/../tools/prune.py" close out.tsz alone.tsz 1e-4
    cmp <(cut -d , -f 1,2 alone.log | head -n 1) <(cut -d , -f 1,2 nested.log | head -n 1)
    "$BIN/eval-ppl" alone.tsz out.tsz data.tsz --device cuda --quiet |
        sed 's/.*"nll":\([^,]*\),.*/\1/' > nll
    awk 'NR == 1 { a = $1 } END { exit !(a > 0 && (a - $1) ^ 2 < 1e-6) }' nll
}

@test "begun on the device, finished on the CPU: the golden trajectory" {
    golden_run --device cuda --compute f32 --output-dir run --log run.log --save-steps 5
    rm run/model.tsz
    [ -e run/checkpoint-10.tsz ]
    golden_run --device cpu --output-dir run --log run.log --resume
    $GOLDEN trajectory run.log "$G/train/kl.json" 1e-5
}

@test "a step too large for the device is refused, with the options that would make it fit" {
    python3 -c 'for i in range(64): print(*[(7 * i + j) % 83 for j in range(512)])' |
        "$BIN/tokenize" --ids -o long.tsz
    run -1 --separate-stderr "$BIN/kd-train" "$STUDENT" --loss ce --data long.tsz --max-steps 1 \
        --batch-size 8192 --device cuda --quiet -o x.tsz
    [[ $stderr == *"the device has"*"--recompute"*"--batch-size"* ]] || { echo "$stderr"; false; }
    [ ! -e x.tsz ]
    run -2 --separate-stderr "$BIN/eval-ppl" "$TEACHER" data.tsz --device cpu --compute bf16
    [[ $stderr == *"--compute"* ]]
}

@test "adapters of rank 1, in bf16 and f32: losses near the CPU's, resuming, and the sums" {
    adapt() {
        golden_run --loss kl --lora 1 --learning-rate 1e-2 --save-steps 6 "$@"
    }
    adapt --log cpu.log --output-dir cpu
    for how in f32:1e-4 bf16:0.05; do
        compute=${how%:*}
        device="--device cuda --compute $compute"
        # shellcheck disable=SC2086
        adapt $device --log $compute.log --output-dir $compute --adapter p.$compute
        mkdir again
        cp $compute/checkpoint-6.tsz again/
        # shellcheck disable=SC2086
        adapt $device --output-dir again --resume
        cmp $compute/model.tsz again/model.tsz
        rm -r again
        "$BIN/hf-export" --quiet $compute/model.tsz m.$compute
        "$BIN/hf-export" --quiet "$STUDENT" b.$compute --merge p.$compute
        python3 - cpu.log $compute.log ${how#*:} <<'P'
import json, sys
a, b = ([json.loads(line)["loss"] for line in open(f)] for f in sys.argv[1:3])
assert a[-1] < a[0] - 0.05, a
assert all(abs(x - y) <= float(sys.argv[3]) * x for x, y in zip(a, b, strict=True)), (a, b)
P
    done
    cmp m.f32/model.safetensors b.f32/model.safetensors
}
