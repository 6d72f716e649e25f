#!/usr/bin/env bats
# The demonstration in a shortened form: every step of pipelines/demo runs, and the results hold
# that must hold even after a few steps of training.

setup_file() {
    cd "$BATS_TEST_DIRNAME/.." || return 1
    export DEMO_DIR=$BATS_FILE_TMPDIR/demo
    STEPS=12 RATES=1e-3 sh pipelines/demo > "$BATS_FILE_TMPDIR/out" 2> "$BATS_FILE_TMPDIR/err" ||
        { tail "$BATS_FILE_TMPDIR/out" "$BATS_FILE_TMPDIR/err" >&2; return 1; }
}

nll() {
    awk -v label="$1" 'index($0, label) == 1 { print $(NF - n) }' n="${2:-2}" "$DEMO_DIR/table.txt"
}
below() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a != "" && b != "" && a + 0 < b + 0) }'; }

@test "the table has its six rows" {
    [ "$(wc -l < "$DEMO_DIR/table.txt")" = 6 ]
}

@test "the teacher is trained: held-out loss below 2.7 nats a token" {
    below "$(nll teacher)" 2.7
}

@test "distillation repairs a pruned model, and pruning beats random initialisation by far" {
    distilled=$(nll "pruned + distillation" 5)
    below "$distilled" "$(nll "pruned, untouched")"
    below "$distilled" "$(nll "random initialisation" 5)"
}

@test "the student is about half of the teacher" {
    awk '
        /^teacher/ { t = $2 }
        /^pruned, untouched/ { s = $3 }
        END { exit !(s > 0.4 * t && s < 0.62 * t) }' "$DEMO_DIR/table.txt"
}

@test "teacher and student continue the same text" {
    [ "$(grep -c 'And it came to pass' "$BATS_FILE_TMPDIR/out")" = 2 ]
}

@test "the commands for the reader's own model name tools that exist" {
    cd "$BATS_TEST_DIRNAME/.." || return 1
    sed -n '/your own model/,$p' "$BATS_FILE_TMPDIR/out" | sed -n 's/^\([a-z-]*\) .*/\1/p' |
        grep -v export | while read -r tool
    do
        [ -x "bin/$tool" ] || { echo "no $tool"; return 1; }
    done
}
