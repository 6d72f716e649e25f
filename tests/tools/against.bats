# eval-ppl --against: figures beside a teacher, by sequence and as a table.
bats_require_minimum_version 1.5.0
load refused

setup() {
    BIN=${PARE_BIN:-$PWD/bin}
    G=$PWD/tests/golden
    TOOLS=$BATS_TEST_DIRNAME
    LLAMA=$G/families/llama FFN=$G/slice/llama/ffn
    export OMP_WAIT_POLICY=passive              # short runs of many threads: do not spin
    cd "$BATS_TEST_TMPDIR" || exit
    python3 "$TOOLS/golden.py" ids "$LLAMA/expected.safetensors" input_ids |
        "$BIN/tokenize" --ids --compress none -o tokens.tsz
}

record() { "$BIN/eval-ppl" --quiet "$@"; }
logits() { "$BIN/dump-logits" --quiet --full --compress none "$@"; }
against() { python3 -c 'import json, sys
print(json.dumps({k: v for k, v in json.load(sys.stdin)["against"].items() if k not in (
    "model", "logits", "logits_id")}))'; }

@test "divergence, agreement and their errors are those of the logits" {
    logits "$LLAMA" tokens.tsz -o teacher.tsz
    logits "$FFN" tokens.tsz -o student.tsz
    record "$FFN" tokens.tsz --against "$LLAMA" --per-sequence > records
    [ "$(wc -l < records)" = 3 ]
    python3 "$TOOLS/divergence.py" teacher.tsz student.tsz tokens.tsz records
    # the same from the stream, from a pipe, and with one window at a time
    tail -n 1 records | against > want
    record "$FFN" tokens.tsz --against teacher.tsz | against | cmp - want
    logits "$LLAMA" tokens.tsz | record "$FFN" tokens.tsz --against - | against | cmp - want
    record "$FFN" tokens.tsz --against teacher.tsz --batch-size 1 > one
    python3 -c '
import json
a, b = json.load(open("one"))["against"], json.load(open("want"))
assert abs(a["kl"] - b["kl"]) < 1e-6 and a["same_top10"] == b["same_top10"]'
}

@test "a model does not diverge from itself; the loss is that without a teacher" {
    record "$LLAMA" tokens.tsz --against "$LLAMA" --context 16 --score-from 9 > self
    record "$LLAMA" tokens.tsz --context 16 --score-from 9 > alone
    record "$LLAMA" tokens.tsz --context 16 --score-from 9 --per-sequence > windows
    python3 - <<'P'
import json
mine, alone = json.load(open("self")), json.load(open("alone"))
a = mine["against"]
assert a["kl"] == a["kl_percentiles"]["100"] == a["ln_ppl_ratio"] == 0 and a["same_top10"] == 1
assert mine["predictions"] == alone["predictions"] == 28
assert abs(mine["nll"] - alone["nll"]) < 1e-6
*parts, whole = [json.loads(line) for line in open("windows")]
assert [(p["window"], p["predictions"]) for p in parts] == [(i, 7) for i in range(4)]
assert abs(sum(p["nll"] for p in parts) / 4 - alone["nll"]) < 1e-9 and "against" not in whole
P
}

@test "documents: a record of each, whatever it is cut into" {
    printf '%s\n' '5 6 7 8 9 10 11' '8' '9 10 11 12' |
        "$BIN/tokenize" --ids --compress none -o tokens.tsz
    record "$FFN" tokens.tsz --against "$LLAMA" --per-sequence --seq-length 3 > records
    python3 - <<'P'
import json
*parts, whole = [json.loads(line) for line in open("records")]
assert [(p["sequence"], p["tokens"], p["predictions"]) for p in parts] == [(0, 6, 4), (2, 3, 2)]
for key, all in ("nll", whole["nll"]), ("kl", whole["against"]["kl"]):
    assert abs(sum(p[key] * p["predictions"] for p in parts) / 6 - all) < 1e-9
P
}

@test "the table: 80 columns, compared with the first row" {
    cp -r "$FFN" a-model-with-a-rather-long-name
    for teacher in "" "--against $LLAMA"; do
        # shellcheck disable=SC2086
        record "$LLAMA" a-model-with-a-rather-long-name tokens.tsz --table $teacher > table
        [ "$(wc -l < table)" = 3 ]
        [ "$(awk '{ print length }' table | sort -u)" = 80 ]
        last=$(tail -n 1 table)
        [[ $last == "...ather-long-name "*" 38.1K "*" 86%  5.9302 "*" -0.1524 "* ]]
    done
    [[ $last == *" 0.4671  53.1%" ]]
}

@test "refused: what is no teacher of these windows" {
    logits "$LLAMA" tokens.tsz -o teacher.tsz
    seq -s ' ' 1 40 | "$BIN/tokenize" --ids -o other.tsz
    "$BIN/dump-logits" --quiet "$LLAMA" tokens.tsz --top-k 5 -o top.tsz
    logits "$LLAMA" tokens.tsz --windows 1 -o part.tsz
    refused 1 "make it with dump-logits --full" record "$FFN" tokens.tsz --against top.tsz
    refused 1 "a different text" record "$FFN" other.tsz --against teacher.tsz
    refused 1 "join all parts" record "$FFN" tokens.tsz --against part.tsz
    refused 2 "windows are those of" record "$FFN" tokens.tsz --against teacher.tsz --context 16
    refused 2 "comes only once" record "$FFN" "$FFN" tokens.tsz --against <(cat teacher.tsz)
    refused 2 "leave out --per-sequence" record "$FFN" tokens.tsz --table --per-sequence
    refused 1 "cannot open model" record "$FFN" tokens.tsz --against nothing
    echo 90 1 2 | "$BIN/tokenize" --ids -o wide.tsz
    refused 1 "90" record "$FFN" wide.tsz --against "$LLAMA"
}

@test "a teacher whose predictions are not numbers is an error, as such a model is" {
    python3 "$TOOLS/../hf/st.py" edit "$LLAMA" broken '
for name, (dtype, shape, data) in list(T.items()):
    if "up_proj" in name: T[name] = dtype, shape, b"\x00\x00\xc0\x7f" + data[4:]'
    refused 1 "the nll of broken is not finite" record "$FFN" tokens.tsz --against broken
}
