# bench-model: what a model costs, as records and as a table. Of speeds it can only be
# checked that they are there.
bats_require_minimum_version 1.5.0
load refused

setup() {
    BIN=${PARE_BIN:-$PWD/bin}
    G=$PWD/tests/golden
    LLAMA=$G/families/llama
    export OMP_WAIT_POLICY=passive              # short runs of many threads: do not spin
    cd "$BATS_TEST_TMPDIR" || exit
}

bench() { "$BIN/bench-model" --quiet --seconds 0.001 "$@"; }

@test "records: costs of the shape, predicted and measured" {
    bench "$LLAMA" "$G/slice/llama/ffn" --context 32 > records
    python3 - <<'P'
import json
whole, cut = map(json.loads, open("records"))
# 4 layers, 2 KV heads of 8 channels, keys and values in f32
assert whole["kv_bytes"] == cut["kv_bytes"] == 32 * 4 * 2 * 2 * 8 * 4
assert (whole["parameters"], cut["parameters"]) == (44172, 38124)
assert whole["weight_bytes"] == 4 * 44172 and whole["context"] == 32
assert whole["decode_flops"] > whole["prefill_flops"] > cut["prefill_flops"] > 0
for r in whole, cut:
    for kind in "predicted", "measured":
        assert r[kind]["prefill"] > 0 and r[kind]["decode"] > 0 and r[kind]["memory"] >= 0, r
assert whole["predicted"]["decode"] < cut["predicted"]["decode"]
P
}

@test "the table is 80 columns wide" {
    cp -r "$LLAMA" a-model-with-a-rather-long-name
    bench "$LLAMA" a-model-with-a-rather-long-name --context 8 --table > table
    [ "$(wc -l < table)" = 3 ]
    [ "$(awk '{ print length }' table | sort -u)" = 80 ]
    [[ $(tail -n 1 table) == "...ather-long-name  44.2K     0.2 "* ]]
}

@test "refused: contexts that no model can have" {
    refused 2 "--context must be from 2" bench "$LLAMA" --context 1
    refused 2 "--seconds must be more than 0" "$BIN/bench-model" "$LLAMA" --seconds 0
    refused 1 "learned positions" bench "$G/families/gpt2" --context 65
    "$BIN/bench-model" "$LLAMA" --context 65 --seconds 0.001 2> notes > record
    grep -q "beyond the 64 positions of the model" notes
}
