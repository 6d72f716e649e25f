# tokenize --pack: documents side by side in rows are evaluated and trained as by themselves; which
# tools refuse such rows.
bats_require_minimum_version 1.5.0
load refused

setup() {
    BIN=${PARE_BIN:-$PWD/bin}
    G=$PWD/tests/golden
    LLAMA=$G/families/llama TEACHER=$PWD/pipelines/teacher
    export OMP_WAIT_POLICY=passive              # short runs of many threads: do not spin
    export PYTHONPATH=$PWD/tests/tools
    cd "$BATS_TEST_TMPDIR" || exit
    documents 3 20 1 9 5 12 24 2 > ids
    "$BIN/tokenize" --quiet --ids ids -o alone.tsz
    "$BIN/tokenize" --ids --seq-length 24 --pack ids -o packed.tsz 2> note
}

documents() {   # documents LENGTH...: a line of ids each
    for n; do
        for i in $(seq "$n"); do printf '%d ' $(((i * i * 7 + n * 11 + i) % 41)); done
        echo
    done
}
# near FILE FILE KEYS TOLERANCE: the numbers of their first lines of JSON
near() {
    python3 -c '
import json, sys
a, b = (json.loads(open(f).readline()) for f in sys.argv[1:3])
for key in sys.argv[3].split():
    x, y = a[key], b[key]
    assert abs(x - y) <= float(sys.argv[4]) * abs(y), "%s: %r, not %r" % (key, x, y)' "$@"
}

@test "rows hold whole documents in few rows, and the header counts text and padding" {
    [[ $(cat note) == *"8 documents in 4 rows of 24 tokens, 79.2 % full" ]]
    python3 - <<'EOF'
import stream, subprocess
raw = subprocess.run(["zstd", "-dc", "packed.tsz"], capture_output=True).stdout
import io, struct
head, records = stream.read(io.BytesIO(raw))
records = {name: (shape, data) for name, dtype, shape, data in records}
ids = struct.unpack("<96I", records["ids"][1])
flags = records["flags"][1]
assert list(records["ids"][0]) == list(records["flags"][0]) == [4, 24]
assert head["packed"] is True
assert (head["documents"], head["tokens"], head["padding"]) == (8, 76, 20)
starts = [i for i in range(96) if flags[i] & 2] + [96]
got = sorted(ids[a:b] for a, b in zip(starts, starts[1:]))
want = [tuple(map(int, line.split())) for line in open("ids")]
assert got == sorted(want + 20 * [(0,)]), got
assert all(i // 24 == (j - 1) // 24 for i, j in zip(starts, starts[1:]))
EOF
}

@test "every family: the loss of packed documents is that of the documents by themselves" {
    for family in "$G"/families/*; do
        "$BIN/eval-ppl" --quiet "$family" alone.tsz > alone
        "$BIN/eval-ppl" --quiet "$family" packed.tsz > packed
        near packed alone "nll predictions" 1e-6
    done
}

@test "long documents are cut as eval-ppl cuts them, with BOS and source bytes" {
    head -n 60 "$G/../../README.md" > text
    for row_bos in yes no; do
        tokens=("$BIN/tokenize" --quiet -m "$TEACHER" --doc-sep . --bos yes --row-bos $row_bos)
        "${tokens[@]}" text -o alone.tsz
        "${tokens[@]}" --seq-length 24 --pack text -o packed.tsz
        "$BIN/eval-ppl" --quiet "$TEACHER" alone.tsz --seq-length 24 > alone
        "$BIN/eval-ppl" --quiet "$TEACHER" packed.tsz > packed
        near packed alone "nll predictions bytes bits_per_byte" 1e-6
    done
}

@test "a step on packed rows is a step on the documents; resumed to the same bits" {
    train=("$BIN/kd-train" "$G/slice/llama/all" --teacher "$LLAMA" --quiet --order sequential)
    "${train[@]}" --data alone.tsz --batch-size 7 --max-steps 1 --log alone.log -o a.tsz
    "${train[@]}" --data packed.tsz --batch-size 4 --max-steps 1 --log packed.log -o p.tsz
    near packed.log alone.log "loss grad_norm tokens" 1e-5
    "$BIN/dump-logits" --quiet "$LLAMA" packed.tsz --full -o logits.tsz
    "$BIN/kd-train" "$G/slice/llama/all" --teacher-logits logits.tsz --quiet --order sequential \
        --data packed.tsz --batch-size 4 --max-steps 1 --log cached.log -o c.tsz
    near cached.log alone.log "loss grad_norm tokens" 1e-5
    run=("${train[@]}" --data packed.tsz --batch-size 2 --max-steps 6 --save-steps 2
        --output-dir run -o)
    "${run[@]}" whole.tsz
    rm run/checkpoint-6.tsz
    "${run[@]}" again.tsz --resume
    cmp whole.tsz again.tsz
}

@test "packed rows join with others, and the history makes them again" {
    documents 24 24 > more
    "$BIN/tokenize" --quiet --ids --seq-length 24 more -o rows.tsz
    "$BIN/ts-cat" rows.tsz packed.tsz -o both.tsz
    cat ids more > all
    "$BIN/tokenize" --quiet --ids all -o alone.tsz
    "$BIN/eval-ppl" --quiet "$LLAMA" alone.tsz > alone
    "$BIN/eval-ppl" --quiet "$LLAMA" both.tsz > both
    near both alone "nll predictions" 1e-6
    "$BIN/ts-dump" --hist packed.tsz > script
    grep -q -e '--pack' script
}

@test "refused: rows that would be joined or cut, tools that take a sequence for a document" {
    refused 1 "packed documents: --context" "$BIN/eval-ppl" --quiet "$LLAMA" packed.tsz --context 8
    refused 1 "cannot be cut to 8" "$BIN/eval-ppl" --quiet "$LLAMA" packed.tsz --seq-length 8
    refused 1 "made without --pack" "$BIN/calib-acts" --quiet "$LLAMA" packed.tsz -o acts.tsz
    # each document of longrope turns by its own length; up to 16 tokens all do so alike
    refused 1 "cannot be packed" "$BIN/eval-ppl" --quiet "$G/longrope" packed.tsz
    documents 3 9 2 13 1 | tee short | "$BIN/tokenize" --quiet --ids --pack --seq-length 16 \
        -o short.tsz
    "$BIN/tokenize" --quiet --ids short -o alone.tsz
    "$BIN/eval-ppl" --quiet "$G/longrope" alone.tsz > alone
    "$BIN/eval-ppl" --quiet "$G/longrope" short.tsz > packed
    near packed alone "nll predictions" 1e-6
    refused 2 "--pack needs --seq-length" "$BIN/tokenize" --ids --pack ids
    refused 2 "at most 16777216, not" "$BIN/tokenize" --ids --pack --seq-length 16777217 ids
    [ ! -e acts.tsz ]
}
