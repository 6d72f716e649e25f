# The recipes in pipelines/: each runs in a shortened form, has its table, and does nothing twice.
bats_require_minimum_version 1.5.0

setup() {
    export PARE_BIN=${PARE_BIN:-$PWD/bin} OMP_WAIT_POLICY=passive
    export STEPS=2 BATCH=2 SEQ=32 SEEDS=1 WORK=$BATS_TEST_TMPDIR/work
    export TRAIN=$PWD/README.md HELDOUT=$BATS_TEST_TMPDIR/heldout.txt
    head -n 12 LICENSE > "$HELDOUT"
}

# again NAME: the recipe as before; it must not have made a file anew
again() {
    cp "$WORK/table.txt" "$BATS_TEST_TMPDIR/before"
    touch "$BATS_TEST_TMPDIR/mark"
    sh "pipelines/$1" > /dev/null
    cmp "$BATS_TEST_TMPDIR/before" "$WORK/table.txt"
    made=$(find "$WORK" -name '*.tsz' -newer "$BATS_TEST_TMPDIR/mark")
    [ -z "$made" ] || { echo "made again: $made"; false; }
}
rows() { grep -c '^| .* | [0-9.]* |' "$WORK/table.txt"; }

@test "losses: a row for each variant, the mean over seeds; other settings are refused" {
    export SEEDS="1 2" VARIANTS='ce --loss ce
kl,linear --loss kl --schedule linear'
    sh pipelines/losses > "$BATS_TEST_TMPDIR/out"
    [ "$(rows)" = 4 ]
    grep -q '^| kl,linear | [0-9.]* | [0-9.]* | 2 |$' "$WORK/table.txt"
    mean=$(cat "$WORK"/ce-?.nll | awk '{ s += $1 } END { printf "| ce | %.4f |", s / 2 }')
    grep -qF "$mean" "$WORK/table.txt"
    again losses
    STEPS=3 run -1 --separate-stderr sh pipelines/losses
    [[ $stderr == *"results of other settings"* ]]
}

@test "streams: a row for each form of the teacher, with its bytes" {
    export VARIANTS="teacher --teacher pipelines/teacher
sample-4 --sample 4
top-3-tail --top-k 3 --tail"
    sed "s|pipelines/teacher|$PWD/&|" <<< "$VARIANTS" > "$BATS_TEST_TMPDIR/variants"
    VARIANTS=$(cat "$BATS_TEST_TMPDIR/variants") sh pipelines/streams > "$BATS_TEST_TMPDIR/out"
    grep -q '^| teacher | 4096 | [0-9.]* |  | 1 |$' "$WORK/table.txt"
    grep -q '^| sample-4 | [0-9]* | [0-9.]* |  | 1 |$' "$WORK/table.txt"
    grep -q '^| top-3-tail | [0-9]* | [0-9.]* |  | 1 |$' "$WORK/table.txt"
    [ "$(grep -c '^| .* | [0-9.]* |  | 1 |$' "$WORK/table.txt")" = 5 ]
}

@test "relative paths go from where a recipe is started; what is missing is named at once" {
    export VARIANTS='ce --loss ce'
    recipe=$PWD/pipelines/losses
    cp -r pipelines/teacher "$BATS_TEST_TMPDIR/teacher"
    cp "$TRAIN" "$BATS_TEST_TMPDIR/train.txt"
    cd "$BATS_TEST_TMPDIR"
    TRAIN=none.txt run -1 --separate-stderr sh "$recipe"
    [ "$stderr" = "pipelines/losses: there is no none.txt" ]
    HELDOUT='' run -1 --separate-stderr sh "$recipe"
    [ "$stderr" = "pipelines/losses: TRAIN= needs a HELDOUT= beside it" ]
    MODEL=teacher TRAIN=train.txt HELDOUT=heldout.txt WORK=work sh "$recipe" > out
    [ "$(rows)" = 3 ]
}

@test "iterative: a row for each way" {
    sh pipelines/iterative > "$BATS_TEST_TMPDIR/out"
    [ "$(rows)" = 8 ]
    again iterative
}

@test "on-policy: answers, tokens and a training in each round, and the teacher's judgement" {
    export ROUNDS=2 ANSWERS=3 NEW=5
    sh pipelines/on-policy > "$BATS_TEST_TMPDIR/out"
    [ "$(rows)" = 7 ]
    [ "$(cat "$WORK"/round-?-1.prompts.jsonl | sort -u | wc -l)" = 6 ]
    [ "$(grep -c '"completion"' "$WORK/round-2-1.own.answers.jsonl")" = 3 ]
    "$PARE_BIN/ts-dump" --hist "$WORK/round-1-1.tsz" |
        grep -- '--loss rkl' > "$BATS_TEST_TMPDIR/rounds"
    grep -q -- '--data round-1-1.own.tsz' "$BATS_TEST_TMPDIR/rounds"
    run ! grep train.tsz "$BATS_TEST_TMPDIR/rounds"
    again on-policy
}

@test "teacher-correction: the teacher moves, and teaches, also beside" {
    export STEPS=4 PARTS=2
    sh pipelines/teacher-correction > "$BATS_TEST_TMPDIR/out"
    [ "$(rows)" = 7 ]
    [ "$(cat "$WORK/original.nll")" != "$(cat "$WORK/teacher.nll")" ]
    [ "$(cat "$WORK/plain-1.nll")" != "$(cat "$WORK/corrected-1.nll")" ]
    again teacher-correction
}
