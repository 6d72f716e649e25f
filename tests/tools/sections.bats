# --stream-layers: what tools make of a model of which one layer is in memory at a time is what they
# make of the whole, from any kind of MODEL; refusals.
bats_require_minimum_version 1.5.0
load refused

setup() {
    BIN=${PARE_BIN:-$PWD/bin}
    G=$PWD/tests/golden
    TEACHER=$PWD/pipelines/teacher
    MODEL=$G/families/gemma2 # tied embeddings, windows, caps
    export OMP_WAIT_POLICY=passive
    cd "$BATS_TEST_TMPDIR" || exit
    # 24 documents of 4 to 27 tokens
    seq 24 | awk '{ for (i = 0; i < $1 + 3; i++) printf "%d ", (i * $1 + i * i) % 83; print "" }' \
        > ids.txt
    "$BIN/tokenize" --ids ids.txt -o data.tsz
}

evaluate() {    # evaluate MODEL...: all but what differs from run to run
    "$BIN/eval-ppl" --quiet "$@" data.tsz --per-sequence --batch-size 3 |
        sed 's/,"seconds.*//; s/"model":"[^"]*",//'
}

@test "eval-ppl: the same objects, also from a pipe" {
    "$BIN/hf-import" "$MODEL" -o model.tsz
    evaluate "$MODEL" > whole
    evaluate "$MODEL" --stream-layers | cmp - whole
    evaluate - --stream-layers < model.tsz | cmp - whole
    "$BIN/dump-logits" --quiet "$G/slice/gemma2/all" data.tsz --full -o teacher.tsz
    evaluate "$MODEL" --against teacher.tsz > whole
    evaluate "$MODEL" --against teacher.tsz --stream-layers | cmp - whole
    "$BIN/eval-ppl" "$MODEL" data.tsz --stream-layers 2> notes
    grep -q "weights of a layer .*, hidden states .*, program and data" notes
}

@test "dump-logits: the same stream" {
    "$BIN/dump-logits" --quiet "$MODEL" data.tsz --top-k 5 -o whole.tsz
    "$BIN/dump-logits" --quiet "$MODEL" data.tsz --top-k 5 --stream-layers -o layers.tsz
    cmp whole.tsz layers.tsz
}

@test "calib-acts: the same stream, also from a pipe, and of mixtures and hybrids" {
    seq 24 | awk '{ for (i = 0; i < $1 + 3; i++) printf "%d ", (i * $1 + i * i) % 41; print "" }' |
        "$BIN/tokenize" --quiet --ids -o small.tsz
    for m in gemma2 mixtral nemotron_h; do
        calibrate() { "$BIN/calib-acts" --quiet "$@" small.tsz:20 --batch-size 3; }
        calibrate "$G/families/$m" --block-size 2 -o whole.tsz
        calibrate "$G/families/$m" --block-size 2 --stream-layers -o layers.tsz
        cmp whole.tsz layers.tsz
    done
    "$BIN/hf-import" --quiet "$G/families/$m" |
        calibrate - --block-size 2 --stream-layers | "$BIN/score-importance" --quiet -o piped.tsz
    "$BIN/score-importance" --quiet whole.tsz -o scores.tsz
    cmp <("$BIN/ts-dump" --stats piped.tsz | sed -n '/f64/p') \
        <("$BIN/ts-dump" --stats scores.tsz | sed -n '/f64/p')
}

@test "slice-model --verify: the same slice and the same verdict, also from a pipe" {
    cut() { # of the model, of any way in
        "$BIN/slice-model" "$@" --in-order --hidden-size 6 --drop-layers 1 --drop-mlp 2 \
            --dtype bf16 --verify data.tsz
    }
    cut "$MODEL" -o whole.tsz 2> note
    cut "$MODEL" --stream-layers -o layers.tsz 2> notes
    cmp whole.tsz layers.tsz
    grep -v 'predicted memory .*a layer and logits' notes | cmp - note
    "$BIN/hf-import" --quiet "$MODEL" | cut - --stream-layers -o piped.tsz
    cmp <("$BIN/ts-dump" --stats piped.tsz | grep ' bf16 \[') \
        <("$BIN/ts-dump" --stats whole.tsz | grep ' bf16 \[')
}

@test "slice-model --verify: merged heads and a cut vocabulary" {
    cut() { # cut NAME OPTION...
        for way in '' --stream-layers; do
            "$BIN/slice-model" --quiet "${@:2}" $way -o "$1$way.tsz"
        done
        cmp "$1.tsz" "$1--stream-layers.tsz"
    }
    cut heads "$G/families/llama" --in-order --num-attention-heads 4 --merge-heads qkvo \
        --verify data.tsz
    echo 'In the beginning God created the heaven and the earth.' |
        "$BIN/tokenize" --quiet -m "$TEACHER" -o text.tsz
    "$BIN/score-vocab" --quiet "$TEACHER" text.tsz | "$BIN/rank" --quiet -o rank.tsz
    cut tokens "$TEACHER" --rank rank.tsz --vocab-size 1000 --verify text.tsz
}

@test "what reads the model again, or another, is refused" {
    refused 2 "--conventions evaluates four times, --stream-layers once" \
        "$BIN/eval-ppl" "$MODEL" data.tsz --conventions --stream-layers
    refused 2 "give --against the logits of $MODEL" \
        "$BIN/eval-ppl" "$MODEL" data.tsz --against "$MODEL" --stream-layers
    refused 2 "--stream-layers needs --verify TOKENS, and does not work with --repair" \
        "$BIN/slice-model" "$MODEL" --in-order --hidden-size 6 --stream-layers
    refused 2 "--stream-layers needs --verify TOKENS, and does not work with --repair" \
        "$BIN/slice-model" "$MODEL" --in-order --hidden-size 6 --stream-layers --verify data.tsz \
        --repair data.tsz
}
