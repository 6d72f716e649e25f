# dump-logits and kd-train --teacher-logits: what a stream holds, its shards, training from a file
# and from a pipe, refusals.
bats_require_minimum_version 1.5.0
load refused

setup() {
    BIN=${PARE_BIN:-$PWD/bin}
    G=$PWD/tests/golden
    LOGITS="python3 $PWD/tests/tools/logits.py"
    STUDENT=$G/slice/llama/all TEACHER=$G/families/llama
    export OMP_WAIT_POLICY=passive
    cd "$BATS_TEST_TMPDIR" || exit
    # 30 documents of 4 to 33 tokens
    seq 30 | awk '{ for (i = 0; i < $1 + 3; i++) printf "%d ", (i * $1 + i * i) % 83; print "" }' \
        > ids.txt
    "$BIN/tokenize" --ids ids.txt -o data.tsz
}

dump() { "$BIN/dump-logits" --quiet "$TEACHER" data.tsz --compress none "$@"; }
train() {       # 7 steps, or as many as --max-steps says, of 4 sequences
    case " $* " in *" --max-steps "*) ;; *) set -- --max-steps 7 "$@" ;; esac
    "$BIN/kd-train" "$STUDENT" --quiet --data data.tsz --batch-size 2 \
        --gradient-accumulation-steps 2 --learning-rate 1e-3 "$@"
}
weights() { "$BIN/ts-dump" --values layers.1.q_proj.weight "$1"; }

@test "the largest probabilities, their rest and draws, against the full logits" {
    dump --full -o full.tsz
    dump --top-k 5 -o top.tsz
    dump --top-k 5 --tail -o tail.tsz
    dump --sample 40 --temperature 2 -o sample.tsz
    $LOGITS forms full.tsz top.tsz tail.tsz sample.tsz
    "$BIN/ts-check" full.tsz top.tsz tail.tsz sample.tsz
}

@test "draws depend on seed and position: not on batches, threads or shards" {
    dump --sample 12 -o whole.tsz
    dump --sample 12 --batch-size 7 --threads 1 -o batches.tsz
    dump --sample 12 --windows 13 -o first.tsz
    dump --sample 12 --first-window 13 --windows 5 -o middle.tsz
    dump --sample 12 --first-window 18 -o last.tsz
    "$BIN/ts-cat" --compress none first.tsz middle.tsz last.tsz -o joined.tsz
    $LOGITS same whole.tsz batches.tsz
    $LOGITS same whole.tsz joined.tsz
    dump --sample 12 --seed 1 -o other.tsz
    run ! $LOGITS same whole.tsz other.tsz
    refused 1 "begins with window 18, but first.tsz ends before window 13" \
        "$BIN/ts-cat" first.tsz last.tsz -o x.tsz
    refused 1 "not parts of one stream" "$BIN/ts-cat" whole.tsz other.tsz -o x.tsz
    refused 1 "join all parts" train --teacher-logits first.tsz -o x.tsz
    "$BIN/dump-logits" --quiet "$STUDENT" data.tsz --compress none --sample 12 --first-window 18 \
        -o learner.tsz
    refused 1 "not parts of one stream" "$BIN/ts-cat" first.tsz middle.tsz learner.tsz -o x.tsz
    "$BIN/ts-cat" --any-model first.tsz middle.tsz learner.tsz -o x.tsz
    train --teacher-logits x.tsz -o a.tsz
    refused 2 "--any-model is for logits" "$BIN/ts-cat" --any-model data.tsz -o y.tsz
    train --teacher-logits whole.tsz -o a.tsz
    train --teacher-logits joined.tsz -o b.tsz
    cmp <(weights a.tsz) <(weights b.tsz)
}

@test "training from full logits is training with the teacher, to the same bits, in every loss" {
    dump --full -o full.tsz
    for loss in kl rkl+0.5jsd+ce mse+cosine; do
        train --teacher-logits full.tsz --loss $loss -o a.tsz
        train --teacher "$TEACHER" --loss $loss -o b.tsz
        cmp <(weights a.tsz) <(weights b.tsz)
    done
    train --teacher-logits full.tsz --temperature 2 -o a.tsz
    train --teacher "$TEACHER" --temperature 2 -o b.tsz
    cmp <(weights a.tsz) <(weights b.tsz)
}

@test "one pass of the teacher, two students; a file in that order gives the same bits" {
    dump --sample 12 -o sample.tsz
    dump --sample 12 --compress none -o - |
        tee >(train --teacher-logits - --loss kl+ce -o both.tsz; echo $? > status) |
        train --teacher-logits - --max-steps 3 -o kl.tsz
    for i in $(seq 100); do [ ! -s status ] || break; sleep 0.1; done
    [ "$(cat status)" = 0 ]
    train --teacher-logits sample.tsz --loss kl+ce --order sequential -o a.tsz
    train --teacher-logits sample.tsz --max-steps 3 --order sequential -o b.tsz
    cmp <(weights a.tsz) <(weights both.tsz)
    cmp <(weights b.tsz) <(weights kl.tsz)
    # compressed: copied, then read by position
    "$BIN/ts-cat" sample.tsz --compress 3 -o packed.tsz
    train --teacher-logits packed.tsz --loss kl+ce --order sequential -o c.tsz
    cmp <(weights a.tsz) <(weights c.tsz)
}

@test "--resume in the middle of a file, and of a pipe, ends in the same bits" {
    dump --sample 12 -o sample.tsz
    interrupt() {       # interrupt DIR TEACHER...: stops after some step, then goes on
        train --output-dir "$1" --save-steps 1 "${@:2}"
        rm "$1"/checkpoint-7.tsz "$1"/model.tsz
    }
    train --teacher-logits sample.tsz -o whole.tsz
    interrupt file --teacher-logits sample.tsz
    train --teacher-logits sample.tsz --output-dir file --resume
    cmp <(weights whole.tsz) <(weights file/model.tsz)
    train --teacher-logits sample.tsz --order sequential -o ordered.tsz
    interrupt pipe --teacher-logits - < <(cat sample.tsz)
    train --teacher-logits - --output-dir pipe --resume < <(cat sample.tsz)
    cmp <(weights ordered.tsz) <(weights pipe/model.tsz)
    dump --sample 13 -o other.tsz
    refused 1 "teacher" train --teacher-logits other.tsz --output-dir file --resume
}

@test "what becomes of the rest: kl of each way, and what is refused" {
    dump --top-k 3 -o top.tsz
    dump --top-k 3 --tail -o tail.tsz
    loss() { train --max-steps 1 --log - --teacher-logits "$@" -o x.tsz | grep -o '"kl":[0-9.]*'; }
    [ "$(loss top.tsz --teacher-rest renormalise)" = \
        "$(loss tail.tsz --teacher-rest renormalise)" ]
    [ "$(loss tail.tsz)" = "$(loss tail.tsz --teacher-rest bin)" ]
    [ "$(loss top.tsz --teacher-rest drop)" = "$(loss tail.tsz --teacher-rest drop)" ]
    [ "$(loss top.tsz)" != "$(loss tail.tsz)" ]
    [ "$(loss top.tsz)" = "$(loss top.tsz --teacher-rest drop)" ]
    [ "$(loss top.tsz)" != "$(loss top.tsz --teacher-rest renormalise)" ]
    train --loss rkl+jsd --teacher-logits tail.tsz -o x.tsz
    refused 1 "--teacher-rest bin needs the mass" train --teacher-logits top.tsz \
        --teacher-rest bin -o x.tsz
    refused 1 "must be auto, bin" train --teacher-logits top.tsz --teacher-rest x -o x.tsz
    refused 1 "--loss rkl cannot be computed" train --loss rkl --teacher-logits top.tsz \
        --teacher-rest drop -o x.tsz
    refused 1 "--full" train --loss mse --teacher-logits tail.tsz -o x.tsz
    refused 2 "without --teacher-logits" train --teacher "$TEACHER" --teacher-rest drop -o x.tsz
}

@test "refused before the first step: another text, vocabulary, temperature, cut, order; damage" {
    dump --sample 4 -o sample.tsz
    refused 1 "--loss rkl cannot be computed from sample.tsz, which holds samples" \
        train --teacher-logits sample.tsz --loss rkl+kl -o x.tsz
    refused 1 "made with --temperature 1, not 2" train --teacher-logits sample.tsz \
        --temperature 2 -o x.tsz
    refused 2 "both teachers" train --teacher-logits sample.tsz --teacher "$TEACHER" -o x.tsz
    refused 2 "does not use --teacher-logits" train --teacher-logits sample.tsz --loss ce -o x.tsz
    refused 1 "windows of 0 tokens" train --teacher-logits sample.tsz --seq-length 9 -o x.tsz
    tail -n 29 ids.txt | "$BIN/tokenize" --ids -o other.tsz
    refused 1 "a different text than other.tsz" "$BIN/kd-train" --quiet "$STUDENT" \
        --data other.tsz --max-steps 1 --teacher-logits sample.tsz -o x.tsz
    refused 1 "from one token stream" train --data other.tsz --teacher-logits sample.tsz -o x.tsz
    mkdir larger
    sed 's/"vocab_size": 83/"vocab_size": 90/' "$STUDENT/config.json" > larger/config.json
    refused 1 "a vocabulary of 83 tokens, the student's has 90" "$BIN/kd-train" --quiet larger \
        --init random --data data.tsz --max-steps 1 --teacher-logits sample.tsz -o x.tsz
    refused 1 "order is that of the text" train --order shuffled --teacher-logits - -o x.tsz \
        < <(cat sample.tsz)
    refused 1 "comes only once: give --max-steps 7, or a file" train --max-steps 8 \
        --teacher-logits - -o x.tsz < <(cat sample.tsz)
    refused 1 "ends early" train --teacher-logits - -o x.tsz < <(head -c -100 sample.tsz)
    head -c -100 sample.tsz > cut.tsz
    refused 1 "ends early" train --teacher-logits cut.tsz -o x.tsz
    refused 1 "kind" train --teacher-logits data.tsz -o x.tsz
    refused 2 "one of --sample N, --top-k K and --full" dump --sample 2 --full -o x.tsz
    refused 2 "--tail needs --top-k" dump --sample 2 --tail -o x.tsz
    refused 2 "exceeds the vocabulary" dump --top-k 84 -o x.tsz
    refused 2 "--temperature has no effect" dump --full --temperature 2 -o x.tsz
    [ ! -e x.tsz ]
}
