# Training by several processes: the numbers of one process, the same bits from run to run, and
# checkpoints from which any number of processes goes on.
bats_require_minimum_version 1.5.0

setup() {
    BIN=${PARE_BIN:-$PWD/build/mpi/bin}
    ROOT=$PWD
    MODEL=$PWD/tests/golden/families/llama
    export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
    cd "$BATS_TEST_TMPDIR" || exit
    for i in $(seq 40); do seq -s ' ' "$i" $((i + 4 + i % 9)); done |
        "$BIN/tokenize" --ids --quiet -o train.tsz
}

# train N OPTION...
train() {
    local n=$1
    shift
    "$ROOT/tests/mpi/processes" "$n" "$BIN/kd-train" "$MODEL" --data train.tsz --max-steps 6 \
        --learning-rate 3e-3 --schedule constant $PARE_DEVICE "$@"
}

# alike LOG LOG...: losses, gradient norms and figures of every step, to rounding
alike() {
    python3 - "$@" <<'END'
import json, sys
logs = [[json.loads(line) for line in open(name)] for name in sys.argv[1:]]
skip = {"tokens_per_second", "peak_rss"}
for log in logs[1:]:
    assert len(log) == len(logs[0]) == 6
    for a, b in zip(logs[0], log):
        assert a.keys() == b.keys()
        for key in a.keys() - skip:
            x, y = a[key], b[key]
            same = abs(x - y) <= 1e-5 * abs(x) if isinstance(x, float) else x == y
            assert same, f"step {a['step']}: {key} {x}, not {y}"
END
}

# same_numbers OPTION...: one, two and four processes train alike
same_numbers() {
    for n in 1 2 4; do
        train $n --quiet "$@" -o of$n.tsz --log of$n.jsonl
    done
    alike of1.jsonl of2.jsonl of4.jsonl
}

@test "cross-entropy, passes and sequences shared" {
    same_numbers --loss ce --batch-size 4 --gradient-accumulation-steps 2 --eval-data train.tsz \
        --eval-steps 3
    train 4 --quiet --loss ce --batch-size 4 --gradient-accumulation-steps 2 -o again.tsz
    cmp of4.tsz again.tsz
}

@test "a teacher, and hidden states that are balanced over a pass" {
    same_numbers --teacher "$MODEL" --init random --batch-size 8 --states emb+block:-2:-2
}

@test "low-rank adapters" {
    same_numbers --loss ce --batch-size 8 --lora 4
}

@test "shapes within the student" {
    printf 'full\nintermediate-size=24\n' > shapes
    same_numbers --loss ce --batch-size 4 --widths shapes
}

@test "as many processes end in the same bits, other numbers go on" {
    train 4 --quiet --loss ce -o whole.tsz --log whole.jsonl
    train 4 --quiet --loss ce --max-steps 4 --output-dir run
    [ "$(ls run/checkpoint-4.*)" = "$(printf 'run/checkpoint-4.%s\n' \
        part-1.tsz part-2.tsz part-3.tsz tsz)" ]
    for n in 1 2 4; do
        cp -r run run$n
        train $n --loss ce --output-dir run$n --resume 2> notes
        grep 'continuing after step 4' notes
        alike whole.jsonl run$n/log.jsonl
    done
    cmp whole.tsz run4/model.tsz
    train 4 --quiet --loss ce --max-steps 7 --output-dir run1 --resume
}

@test "a damaged or missing part makes a checkpoint useless; the one before is taken" {
    train 2 --quiet --loss ce -o whole.tsz
    train 2 --quiet --loss ce --max-steps 5 --save-steps 1 --output-dir run
    cp -r run lost
    printf x | dd of=run/checkpoint-5.part-1.tsz bs=1 seek=3000 conv=notrunc status=none
    rm lost/checkpoint-5.part-1.tsz
    for dir in run lost; do
        train 2 --loss ce --output-dir $dir --resume 2> notes
        grep 'skipped a damaged checkpoint: .*5.part-1.tsz.*continuing after step 4' notes
        cmp whole.tsz $dir/model.tsz
    done
}

@test "parts that overlap, and leave a hole of the same size, are refused" {
    train 2 --quiet --loss ce --max-steps 2 --save-steps 2 --output-dir run
    PYTHONPATH=$ROOT/formats python3 - << 'END'
import stream
path = "run/checkpoint-2.tsz"
head, records = stream.read(open(path, "rb"))
assert head["ranges"][0][1] == head["ranges"][1][1]
head["ranges"][1] = head["ranges"][0]
stream.write(open(path, "wb"), head, records)
END
    for n in 1 2; do
        run -1 train $n --loss ce --output-dir run --resume
        [[ $output == *"its 2 parts do not hold every value once"* ]] || { echo "$output"; false; }
    done
}

@test "a checkpoint that cannot be written leaves no parts, which would take room" {
    mkdir -p run/checkpoint-2.tsz
    train 2 --loss ce --max-steps 4 --save-steps 2 --output-dir run --overwrite 2> notes
    grep 'cannot write run/checkpoint-2.tsz: .*goes on without a checkpoint of step 2' notes
    [ "$(ls run)" = "$(printf '%s\n' checkpoint-2.tsz checkpoint-4.part-1.tsz checkpoint-4.tsz \
        log.jsonl model.tsz)" ]
}

@test "each process keeps its part of the moments" {
    train 1 --loss ce -o of1.tsz 2> of1
    train 4 --loss ce -o of4.tsz 2> of4
    grep 'of each of 4 processes' of4
    moments() { sed -n 's/.*moments \([0-9.]*\).*/\1/p' "$1"; }
    [ "$(moments of1)" = 0.4 ]
    [ "$(moments of4)" = 0.1 ]
}

@test "a step that cannot be shared evenly is refused" {
    run -2 train 4 --loss ce --batch-size 6 -o no.tsz
    [[ $output == *"4 processes cannot share the --batch-size 6"* ]]
    run -2 train 2 --loss ce --batch-size 3 --gradient-accumulation-steps 5 -o no.tsz
}

@test "killed again and again: the same bits in the end" {
    "$ROOT/tests/mpi/kills" "$BIN" 2
}

@test "a signal to one process: all save and stop" {
    train 2 --quiet --loss ce --max-steps 300 -o whole.tsz
    train 2 --loss ce --max-steps 300 --output-dir run --log log 2> notes &
    job=$!
    until [ -s log ]; do sleep 0.02; done
    kill -USR1 "$(pgrep -P "$(pgrep -P $job)" kd-train | tail -n 1)"
    status=0
    wait $job || status=$?
    cat notes
    [ $status = 1 ]
    [ "$(grep -c 'stopped after' notes)" = 1 ]
    grep 'kd-train: stopped after step .* (User defined signal 1); step .* is saved in run' notes
    train 2 --quiet --loss ce --max-steps 300 --output-dir run --log log --resume
    cmp whole.tsz run/model.tsz
}
