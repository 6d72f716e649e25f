# The recipes in pipelines/: each runs in a shortened form, has its table, and does nothing twice.
bats_require_minimum_version 1.5.0

setup() {
    [ -z "${PARE_SANITIZED:-}" ] || skip "scripts around the tools"
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

@test "vocabulary: a row for each size, a column for each loss" {
    export SIZES=700 LOSSES='ce kl+ce'
    sh pipelines/vocabulary > "$BATS_TEST_TMPDIR/out"
    grep -q '^| original | 2632128 | [0-9]* | [0-9.]* |  |  |$' "$WORK/table.txt"
    grep -q '^| 700 | 2569920 | [0-9]* | [0-9.]* | [0-9.]* | [0-9.]* |$' "$WORK/table.txt"
    again vocabulary
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

@test "repair: rows with and without repair, before and after distillation" {
    export REPAIR='--repair-tokens 512' CUTS='ffn --intermediate-size 352
layers --drop-layers 2'
    OPTIONS='--warmup-steps 1' sh pipelines/repair > "$BATS_TEST_TMPDIR/out"
    [ "$(rows)" = 7 ]
    grep -q '^| layers: repaired, [0-9-]* % of the loss back |' "$WORK/table.txt"
    again repair
}

@test "iterative: a row for each way" {
    sh pipelines/iterative > "$BATS_TEST_TMPDIR/out"
    [ "$(rows)" = 8 ]
    again iterative
}

@test "iterative-scores: a row for each score and number of rounds, before and after training" {
    export ROUNDS=2 SCORES="weighted taylor" SHAPE="--intermediate-size 351"
    sh pipelines/iterative-scores > "$BATS_TEST_TMPDIR/out"
    [ "$(rows)" = 5 ]
    # the first round goes half of the way, and what is left is scored again
    "$PARE_BIN/ts-dump" --head "$WORK/taylor-2.1.tsz" | grep -q '"intermediate_size": 432,'
    "$PARE_BIN/ts-dump" --head "$WORK/taylor-2.2.tsz" | grep -q '"intermediate_size": 351,'
    again iterative-scores
    SCORES=size WORK=$BATS_TEST_TMPDIR/other run -1 --separate-stderr sh pipelines/iterative-scores
    [[ $stderr == *"not size"* ]]
    SHAPE='--drop-layers 2' WORK=$BATS_TEST_TMPDIR/layers \
        run -1 --separate-stderr sh pipelines/iterative-scores
    [[ $stderr == *"takes plain sizes, not --drop-layers 2"* ]]
}

@test "on-policy: answers, tokens and a training in each round, and the teacher's judgement" {
    export ROUNDS=2 ANSWERS=3 NEW=5 OPTIONS='--weight-decay 0.01'
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

@test "nas: halving; no candidate twice; a training continues as if it had not been stopped" {
    export JOBS=2 CANDIDATES='--intermediate-size 216
--hidden-size 144

--intermediate-size 0-5:216
--num-hidden-layers 3'
    sh pipelines/nas > "$BATS_TEST_TMPDIR/out"
    [ "$(wc -l < "$WORK/candidates")" = 3 ]
    [ "$(grep -c ': to 2 steps$' "$BATS_TEST_TMPDIR/out")" = 3 ]
    [ "$(grep -c ': to 4 steps$' "$BATS_TEST_TMPDIR/out")" = 2 ]
    [ "$(grep -cE '^\| c[123]: --[a-z0-9: -]* \| [0-9]* \| [0-9.]* \| [0-9.]* \|$' \
        "$WORK/table.txt")" = 2 ]
    grep -qE '^\| c[123]: .* \| [0-9.]* \| - \|$' "$WORK/table.txt"
    grep -q '^| 2 | 124 | 3 of 3 | c' "$WORK/order-2.txt"
    best=$(head -n 1 "$WORK/best")
    [ "$(head -n 1 "$WORK/round-4")" = "$(sort -g "$WORK/round-4" | head -n 1)" ]
    again nas
    cd "$WORK"
    "$PARE_BIN/kd-train" "$best.tsz" --teacher "$OLDPWD/pipelines/teacher" --data train.tsz \
        --max-steps 4 --batch-size 2 --seed 1 --schedule constant --warmup-steps 1 \
        --learning-rate 3e-3 --eval-data heldout.tsz --quiet --log straight.jsonl \
        -o straight.tsz
    nll=$(sed -n '$s/.*"eval_nll":\([0-9.]*\).*/\1/p' straight.jsonl)
    awk -v best="$best" -v nll="$nll" \
        '$2 == best { gap = nll - $1 } END { exit !(gap < 1e-4 && gap > -1e-4) }' round-4
}

@test "nas: candidates of search-arch" {
    export SEARCH='--parameters 1.4M --layers 4 --hidden 160,176 --ffn 384,448' JOBS=2
    sh pipelines/nas > "$BATS_TEST_TMPDIR/out"
    [ "$(wc -l < "$WORK/candidates")" = 2 ]
    grep -q -- '^--hidden-size 160 --intermediate-size 448 --drop-layers ' "$WORK/candidates"
}

@test "nas: what cannot be a search" {
    CANDIDATES='--intermediate-size 216' run -1 --separate-stderr sh pipelines/nas
    [[ $stderr == *'pipelines/nas: there are no two shapes to choose from' ]]
    rm -r "$WORK"
    CANDIDATES='--hidden-size 999' run -1 --separate-stderr sh pipelines/nas
    [[ $stderr == *'pipelines/nas: slice-model refuses the candidate --hidden-size 999' ]]
    FACTOR=1 WORK=$WORK-2 run -1 --separate-stderr sh pipelines/nas
    [ "$stderr" = 'pipelines/nas: FACTOR= must be at least 2, not 1' ]
}

@test "paper: a part for each section, with the papers' figures; sections share trainings" {
    export SEEDS='1 2' LONG=2 EVERY=1
    run -2 --separate-stderr sh pipelines/paper T2
    [[ $stderr == 'pipelines/paper: no section T2; there are T11 '* ]]
    sh pipelines/paper T1 T12 F9 F6 equal blocks > "$BATS_TEST_TMPDIR/out"
    cd "$WORK"
    [ "$(grep -c '^### ' paper.md)" = 6 ]
    "$PARE_BIN/ts-dump" --hist rounds-2-2.tsz > hist
    grep -q -- '--hidden-size 168' hist
    [ "$(grep -c calib-acts hist)" = 2 ]
    [ "$(grep -c '^cut.kl-1: ' "$BATS_TEST_TMPDIR/out")" = 1 ]
    mean=$(cat cut.kl-?.nll | awk '{ s += $1 } END { printf "%.4f", s / 2 }')
    untrained=$(awk '{ printf "%.4f", $1 }' cut.nll)
    grep -q "^| width | 1393488 | $untrained | $mean | .* | 2 | 6.33 | 2.049 |\$" T1.md
    grep -qx 'In the paper it keeps that of 7 of 10 pairs.' T1.md
    [ "$(grep -c '^| [12] | ' F9.md)" = 2 ]
    grep -q '^| 2 | 124 | 6 of 6 | ' F9.md
}

@test "paper: the table of the awk program, by hand" {
    printf '%s\n' 'a|x|10|3|1 2 3|5|9' 'b|x|20|2|4 2 6|6|-' 'c|x|30|1|7 8 9|4|3' | tr '|' '\t' |
        awk -v what=loss -f pipelines/paper.awk > "$BATS_TEST_TMPDIR/table"
    cd "$BATS_TEST_TMPDIR"
    grep -qF '| a | 10 | 3.0000 | 2.0000 | 0.5774 | 2.0000 | 3 | 5 | 9 |' table
    grep -qF '| b | 20 | 2.0000 | 4.0000 | 1.1547 | 4.0000 | 3 | 6 | - |' table
    grep -qF 'Untrained, 2 of 3 pairs of rows are in' table
    grep -qF 'Trained, 0 of 1 pairs of rows are in' table
    grep -qF 'All seeds order 2 of 3 pairs of rows alike, 0 of 1 of these as the paper does.' table
    grep -qF 'Training keeps the order of 0 of 3 pairs.' table
    grep -qF 'In the paper it keeps that of 1 of 1 pairs.' table
}
