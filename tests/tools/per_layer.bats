# Shapes whose layers differ: from replace and measure to the best shape under a budget, its cut,
# and a directory that others load.
bats_require_minimum_version 1.5.0
load refused

setup() {
    export PATH=${PARE_BIN:-$PWD/bin}:$PATH OMP_WAIT_POLICY=passive OMP_NUM_THREADS=1
    T=$PWD/pipelines/teacher
    cd "$BATS_TEST_TMPDIR" || exit
}

# made KL...: a table for the teacher by hand; lines LAYER WHAT KL on standard input
table() {
    id=$(ts-dump --head "$T" | python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])')
    printf '{"kind":"variants","model_id":"%s","nll":3.5}\n' "$id"
    while read -r layer what kl; do
        printf '{"layer":%s,%s,"kl":%s}\n' "$layer" "$what" "$kl"
    done
}

options() { sed 's/.*"options":"\([^"]*\)".*/\1/' "$1"; }

@test "probe, search, cut, export, import: the loss stays that of the cut" {
    generate "$T" --prompt "And it came to pass" --max-new-tokens 100 --quiet > text
    tokenize -m "$T" --seq-length 50 text -o tokens.tsz --quiet
    calib-acts --quiet "$T" tokens.tsz | score-importance | rank -o rank.tsz
    probe-layers --quiet "$T" tokens.tsz --rank rank.tsz --variants "drop-attention \
        intermediate-size=256" > variants.jsonl
    search-arch "$T" --per-layer variants.jsonl --ratio 0.8 --portable > shape.json
    # shellcheck disable=SC2046
    slice-model "$T" --rank rank.tsz $(options shape.json) -o cut.tsz --quiet
    hf-export cut.tsz nas --quiet
    grep -q '"model_type": "nemotron-nas"' nas/config.json
    hf-import nas -o back.tsz
    loss() { eval-ppl --quiet "$1" tokens.tsz | grep -o '"nll":[^,]*'; }
    [ "$(loss cut.tsz)" = "$(loss back.tsz)" ]
    parameters() { grep -o '"parameters":[0-9]*'; }
    [ "$(eval-ppl --quiet nas tokens.tsz | parameters)" = "$(parameters < shape.json)" ]
    [ "$(parameters < shape.json | cut -d: -f2)" -le $((2632128 * 8 / 10)) ]
}

# 2632128 parameters; 256 neurons fewer: 3 x 192 x 256 = 147456; no attention: 192 x (2 x 192 + 2 x
# 96) + 192 = 110784
@test "the least KL under a budget, and the whole curve" {
    table > t.jsonl <<'E'
0 "drop":"attention" 0.5
1 "drop":"attention" 0.25
1 "intermediate_size":256 0.125
2 "intermediate_size":256 0.0625
E
    search-arch "$T" --per-layer t.jsonl --parameters 2.5M > shape.json
    [ "$(options shape.json)" = "--intermediate-size 0-1:512,2:256,3-5:512" ]
    grep -q '"parameters":2484672,.*"kl":0.0625' shape.json
    search-arch "$T" --per-layer t.jsonl --parameters 2.3M --curve curve.csv > shape.json
    [ "$(options shape.json)" = "--intermediate-size 0:512,1-2:256,3-5:512 --drop-attention 1" ]
    cat > expected.csv <<'E'
budget,kl,options
2115648,0.9375,"--intermediate-size 0:512,1-2:256,3-5:512 --drop-attention 0-1"
2226432,0.4375,"--intermediate-size 0:512,1-2:256,3-5:512 --drop-attention 1"
2337216,0.1875,"--intermediate-size 0:512,1-2:256,3-5:512"
2484672,0.0625,"--intermediate-size 0-1:512,2:256,3-5:512"
2632128,0,""
E
    cmp curve.csv expected.csv
    # a token reads all weights, 2 bytes each, and 2 x 3 x 32 x 2 bytes a layer and position
    search-arch "$T" --per-layer t.jsonl --decode-speedup 1.1 --context 4 > shape.json
    [ "$(options shape.json)" = "--intermediate-size 0:512,1-2:256,3-5:512" ]
    search-arch "$T" --per-layer t.jsonl --kv-bytes 8K --context 4 > shape.json
    [ "$(options shape.json)" = "--drop-attention 1" ]
    search-arch "$T" --per-layer t.jsonl --kv-bytes 7K --context 4 > shape.json
    [ "$(options shape.json)" = "--drop-attention 0-1" ]
    search-arch "$T" --per-layer t.jsonl --bytes 4.7M --dtype bf16 --table > chosen
    grep -q ' 2.34M ' chosen
    [ "$(tail -n 2 chosen | tr '\n' ,)" \
        = "KL: 0.1875,options: --intermediate-size 0:512,1-2:256,3-5:512," ]
    refused 1 "smallest variants still cost 7680, more than the budget of 7000" \
        search-arch "$T" --per-layer t.jsonl --kv-bytes 7000 --context 4 --portable
}

@test "refused: budgets and tables that do not go together" {
    table < /dev/null > empty.jsonl
    table <<< '0 "drop":"mlp" 0.5' > mlp.jsonl
    refused 1 "has no variants" search-arch "$T" --per-layer empty.jsonl --ratio 0.5
    sed 's/"model_id":"./"model_id":"x/' mlp.jsonl > other.jsonl
    refused 1 "variants of another model" search-arch "$T" --per-layer other.jsonl --ratio 0.5
    search-arch "$T/config.json" --per-layer other.jsonl --ratio 0.9 | grep -q '"--drop-mlp 0"'
    refused 1 "--portable leaves none of the variants of mlp.jsonl" \
        search-arch "$T" --per-layer mlp.jsonl --ratio 0.9 --portable
    refused 2 "needs one budget" search-arch "$T" --per-layer mlp.jsonl
    refused 2 "needs one budget" search-arch "$T" --per-layer mlp.jsonl --ratio 0.5 --bytes 1M
    refused 2 "without --tolerance" \
        search-arch "$T" --per-layer mlp.jsonl --parameters 2M --tolerance 1%
    refused 2 "--active is for budgets of parameters" \
        search-arch "$T" --per-layer mlp.jsonl --bytes 1M --active
    refused 2 "--table is for the shape of a budget" \
        search-arch "$T" --per-layer mlp.jsonl --curve c.csv --table
    refused 2 "not from a grid" search-arch "$T" --per-layer mlp.jsonl --ratio 0.5 --ffn 256
    refused 2 "go with --per-layer TABLE" search-arch "$T" --ratio 0.5
    refused 2 '--decode-speedup must be at least 1, not "0.9"' \
        search-arch "$T" --per-layer mlp.jsonl --decode-speedup 0.9
    refused 2 '--ratio must be more than 0' search-arch "$T" --per-layer mlp.jsonl --ratio 1.5
}
