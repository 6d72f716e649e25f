# Tools that share their work among processes: what they make is what one process makes, bit for
# bit; what they refuse.
bats_require_minimum_version 1.5.0

setup() {
    BIN=${PARE_BIN:-$PWD/build/mpi/bin}
    ROOT=$PWD
    G=$PWD/tests/golden
    MODEL=$G/families/llama
    export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
    cd "$BATS_TEST_TMPDIR" || exit
    # 13 documents of 4 to 28 tokens: seven batches or more with --batch-size 2
    for i in $(seq 13); do seq -s ' ' "$i" $((3 * i + 3)); done |
        "$BIN/tokenize" --ids --quiet -o tokens.tsz
}

processes() { "$ROOT/tests/mpi/processes" "$@"; }

# same TOOL OPTION...: its output is the same of one, two and four processes
same() {
    "$BIN/$1" --quiet "${@:2}" -o one
    for n in 2 4; do
        processes $n "$BIN/$1" --quiet "${@:2}" -o "of$n"
        cmp one "of$n"
    done
}

# figures TOOL OPTION...: its records, without those that differ from run to run
figures() {
    "$BIN/$1" --quiet "${@:2}" |
        sed -E 's/"(seconds|tokens_per_second|peak_rss|processes)":[0-9.]+,//g'
}

# The same of so many processes: figures_of N TOOL OPTION...
figures_of() {
    processes "$1" "$BIN/$2" --quiet "${@:3}" | tr -d '\r' |
        sed -E 's/"(seconds|tokens_per_second|peak_rss)":[0-9.]+,//g; s/"processes":'"$1"',//'
}

# refused WORDS COMMAND...
refused() {
    run "${@:2}"
    [ "$status" = 2 ] || { echo "$output"; false; }
    [[ $output == *"$1"* ]] || { echo "$output"; false; }
}

@test "calib-acts and dump-logits make the same streams" {
    same calib-acts "$MODEL" tokens.tsz --batch-size 2
    same calib-acts "$G/families/mixtral" tokens.tsz --batch-size 2 --max-tokens 100
    same calib-acts "$MODEL" tokens.tsz --batch-size 2 --stream-layers
    same dump-logits "$MODEL" tokens.tsz --batch-size 2 --full --stream-layers
    same dump-logits "$MODEL" tokens.tsz --batch-size 2 --sample 3 --first-window 1
}

@test "probe-layers makes the same scores" {
    same probe-layers "$MODEL" tokens.tsz --batch-size 2 --block-size all --by kl
    same probe-layers "$MODEL" tokens.tsz --batch-size 2 --greedy 1
}

@test "probe-layers makes the same table of variants, and continues that of one process" {
    variants() {
        "$@" --quiet "$MODEL" tokens.tsz --batch-size 2 --variants 'drop-mlp intermediate-size=16'
    }
    variants "$BIN/probe-layers" -o whole
    variants "$BIN/probe-layers" --max-tokens 36 -o part
    PYTHONPATH=$ROOT/tests/tools python3 "$ROOT/tests/tools/probe.py" partial whole part two.partial
    variants processes 2 "$BIN/probe-layers" -o two --resume 2> note
    cmp two whole
    [ ! -e two.partial ]
    same probe-layers "$MODEL" tokens.tsz --batch-size 2 --variants drop-layers
}

@test "hidden states go to a file where memory does not suffice for those of all processes" {
    echo 'MemAvailable: 16000 kB' > meminfo
    with_little() { unshare -rm sh -c 'mount --bind meminfo /proc/meminfo; exec "$@"' - "$@"; }
    with_little true 2> /dev/null || skip "no namespaces here"
    yes "$(seq -s ' ' 50)" | head -n 2500 | "$BIN/tokenize" --ids --quiet -o long.tsz
    with_little "$ROOT/tests/mpi/processes" 2 "$BIN/eval-ppl" "$MODEL" long.tsz --stream-layers \
        --batch-size 8 2> notes || { cat notes; false; }
    grep 'hidden states of all tokens, 8.8 MB, are kept in a file' notes
}

@test "an error leaves nothing unfinished" {
    OMPI_MCA_btl=self,tcp run processes 2 bash -c 'ulimit -f 1; exec "$@"' - "$BIN/probe-layers" \
        "$MODEL" tokens.tsz --batch-size 2 --variants 'drop-mlp drop-attention' -o table
    [ "$status" = 1 ]
    [[ $output == *"cannot write table.partial: File too large"* ]] || { echo "$output"; false; }
    [ -z "$(find . -name '.table*')" ]
}

@test "eval-ppl gives the same figures, also of more processes than batches" {
    run="eval-ppl $MODEL $G/slice/llama/ffn tokens.tsz"
    cmp <(figures_of 2 $run --batch-size 2 --per-sequence) \
        <(figures $run --batch-size 2 --per-sequence)
    cmp <(figures_of 4 $run --against "$MODEL" --batch-size 2) \
        <(figures $run --against "$MODEL" --batch-size 2)
    cmp <(figures_of 2 $run) <(figures $run)
}

@test "eval-choice and probe-layers --choices give the same figures" {
    teacher=$ROOT/pipelines/teacher
    for i in $(seq 9); do
        printf '{"ctx": "And %s", "choices": [" a heaven", " said"], "gold": %d, "group": "%d"}\n' \
            "$(seq -s ' ' "$i")" $((i % 2)) $((i % 3))
    done > items.jsonl
    run="eval-choice $teacher items.jsonl --batch-size 2"
    cmp <(figures_of 4 $run --items four) <(figures $run --items one)
    cmp four one
    same probe-layers "$teacher" --choices items.jsonl --batch-size 2
}

@test "the first process alone says and prints what there is to say" {
    processes 4 "$BIN/calib-acts" "$MODEL" tokens.tsz -o acts.tsz 2> notes
    [ "$(grep -c 'predicted memory' notes)" = 1 ]
    [ "$(processes 4 "$BIN/eval-ppl" "$MODEL" tokens.tsz --table | wc -l)" = \
        "$("$BIN/eval-ppl" "$MODEL" tokens.tsz --table 2> notes | wc -l)" ]
    run -3 processes 2 "$BIN/eval-ppl" --quiet "$MODEL" tokens.tsz --max-nll 0.1
    [ "$(grep -c 'exceeds --max-nll' <<< "$output")" = 1 ]
}

@test "pipes are refused, which one process would empty" {
    mkfifo pipe
    refused "standard input (-) reaches one process, not all 2" \
        processes 2 "$BIN/eval-ppl" "$MODEL" -
    refused "pipe is a pipe, of which each of 2 processes would get a part" \
        processes 2 "$BIN/eval-ppl" "$MODEL" pipe
    refused "works as one process, not as 2" processes 2 "$BIN/ts-dump" tokens.tsz
}

@test "a student learns the same from the pipe of two processes and of one" {
    mkfifo logits
    teach() { "$@" --quiet "$MODEL" tokens.tsz --top-k 4 --batch-size 2 -o logits; }
    for n in 1 2; do
        teach processes $n "$BIN/dump-logits" &
        "$BIN/kd-train" --quiet "$MODEL" --data tokens.tsz --teacher-logits logits --max-steps 1 \
            -o of$n 2> notes || { cat notes; false; }
        wait $!
    done
    cmp of1 of2
}

@test "a student of several processes learns the same from a pipe as from a file" {
    "$BIN/dump-logits" --quiet "$MODEL" tokens.tsz --top-k 4 -o file
    learn() {
        processes 2 "$BIN/kd-train" "$MODEL" --data tokens.tsz --teacher-logits "$1" \
            --order sequential --batch-size 2 --gradient-accumulation-steps 2 --max-steps 3 \
            --learning-rate 1e-2 "${@:2}" 2>> notes
    }
    weights() { "$BIN/ts-dump" --values norm.weight "$1"; }
    learn file -o of_file
    mkfifo pipe
    cat file > pipe &
    learn pipe -o of_pipe
    wait $!
    cmp <(weights of_file) <(weights of_pipe)
    cat file | learn - --max-steps 2 --output-dir run
    cat file | learn - --output-dir run --resume
    cmp <(weights of_file) <(weights run/model.tsz)
    [ "$(grep -c 'is a pipe: its sequences are taken in their order, once' notes)" = 3 ]
    run learn - < /dev/null
    [ "$status" = 1 ]
    grep 'standard input is empty; expected a stream' notes
    head -c 3000 file | { run learn - -o never; [ "$status" = 1 ]; }
    grep 'standard input ends early' notes
    [ ! -e never ]
}
