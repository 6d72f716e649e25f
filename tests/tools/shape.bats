# Choosing a shape: budgets of slice-model, what it says about shapes before they are trained, and
# search-arch.
bats_require_minimum_version 1.5.0
load refused

setup() {
    export PATH=${PARE_BIN:-$PWD/bin}:$PATH OMP_WAIT_POLICY=passive
    GOLDEN=$PWD/tests/golden
    llama=$GOLDEN/families/llama
    cd "$BATS_TEST_TMPDIR" || exit
}

@test "a budget is a short way to give sizes: the same bytes, id and history" {
    rank --magnitude "$llama" -o rank.tsz
    cut="slice-model $llama --rank rank.tsz --multiple-of 4"
    $cut --ratio 50% --dry-run > plan 2> note
    sizes=$(sed -n 's/^slice-model: --ratio 50%: [0-9]* parameters with//p' note)
    [ "$sizes" = " --hidden-size 20 --intermediate-size 32" ]
    grep -qx "options:$sizes" plan
    [ "$(awk '/^parameters/ { print $3 <= $2 / 2 }' plan)" = 1 ]
    $cut --ratio 50% -o budget.tsz 2> note
    grep -q "with$sizes$" note
    # shellcheck disable=SC2086
    slice-model "$llama" --rank rank.tsz $sizes -o sizes.tsz
    cmp budget.tsz sizes.tsz
    ts-dump --hist budget.tsz > again
    run ! grep -e --ratio -e --multiple-of again
    grep -q -- '--hidden-size 20' again
    sh again remade.tsz
    cmp budget.tsz remade.tsz
}

@test "a budget in bytes counts the dtypes that are written" {
    slice-model "$llama" --in-order --bytes 100K --multiple-of 4 -o cut.tsz 2> note
    bytes=$(sed -n "s/.*--bytes 100K: \([0-9]*\) bytes.*/\1/p" note)
    [ "$bytes" -le 100000 ]
    [ "$(slice-model cut.tsz --dry-run | awk '/^bytes/ { print $2 }')" = "$bytes" ]
}

@test "a budget in bytes counts the rows that q8_0 does not hold" {
    python3 "$BATS_TEST_DIRNAME/gguf.py" tiny tiny
    python3 "$BATS_TEST_DIRNAME/gguf.py" make tiny m.gguf Q8_0
    seq 1 39 | paste -sd ' ' | tokenize --quiet --ids -o tokens.tsz
    cut="slice-model m.gguf --in-order"
    $cut --bytes 20000 --multiple-of 4 --repair tokens.tsz -o cut.tsz 2> note
    bytes=$(sed -n "s/.*--bytes 20000: \([0-9]*\) bytes.*/\1/p" note)
    [ "$bytes" -le 20000 ]
    [ "$(slice-model cut.tsz --dry-run | awk '/^bytes/ { print $2 }')" = "$bytes" ]
}

@test "budgets that cannot be met are refused, with the smallest model" {
    refused 1 "--parameters 10 cannot be reached: with --axes hidden,ffn in multiples of 12, the" \
        slice-model "$llama" --in-order --parameters 10 --multiple-of 12
    refused 1 "this cut needs --rank FILE" slice-model "$llama" --ratio 0.5 --axes layers
    refused 2 "--ratio and --bytes are both budgets" slice-model "$llama" --ratio 0.5 --bytes 1M
    refused 2 "--axes takes a list of ffn, hidden" slice-model "$llama" --ratio 0.5 --axes width
}

@test "what hf-export or GGUF will refuse is said before the cut" {
    # as in Phi-4-mini: longrope on half of each head
    cp -r "$GOLDEN/longrope" partial
    python3 -c '
import json
c = json.load(open("partial/config.json"))
c["partial_rotary_factor"] = 0.5
for key in "short_factor", "long_factor":
    del c["rope_scaling"][key][1:]
json.dump(c, open("partial/config.json", "w"))'
    refusal="transformers' class for phi3 measures longrope .* with head_dim 4, 16 would"
    slice-model partial --in-order --hidden-size 12 --dry-run 2>&1 > plan |
        grep -q "hf-export will refuse this shape: $refusal"
    slice-model partial --in-order --hidden-size 12 -o partial.tsz 2>&1 |
        grep -q "hf-export will refuse this shape: $refusal"
    run -1 hf-export partial.tsz out
    [[ $output =~ $refusal ]]
    slice-model "$llama" --in-order --hidden-size 32 -o cut.tsz
    slice-model cut.tsz --in-order --hidden-size 30 --dry-run 2> note > plan
    grep -q 'embed_tokens have 30 values, which is not a multiple of 32: no quantised' note
}

# field NAME: of every JSON line
field() { sed "s/.*\"$1\":\"\{0,1\}\([^,\"}]*\).*/\1/"; }

@test "search-arch: the 18 shapes for 4B of the paper's grid, as JSON and as a table" {
    config=$GOLDEN/papers/nemotron-4-15b.json
    grid="--layers 29:32:1 --heads 24,32,48 --hidden 2560:4608:512 --ffn 2.5x,3x,3.5x,4x"
    # shellcheck disable=SC2086
    search-arch "$config" --parameters 4e9 --tolerance 0.05 $grid > shapes
    [ "$(wc -l < shapes)" = 18 ]
    python3 -c '
import json
for line in open("shapes"):
    s = json.loads(line)
    assert 3.8e9 <= s["parameters"] <= 4.2e9 and s["weight_bytes"] == 2 * s["parameters"], s
    assert s["kv_bytes"] == 2 * 2 * 8 * 128 * 4096 * s["num_hidden_layers"], s
    assert s["parameters"] - s["non_embedding_parameters"] == 2 * 256000 * s["hidden_size"], s
    assert "hf_export_refuses" not in s and "predicted" not in s, s'
    # shellcheck disable=SC2086
    search-arch "$config" --parameters 4B $grid --table > table
    [ "$(wc -l < table)" = 19 ]
    [ "$(wc -L < table)" -le 80 ]
    grep -q '^ *32 *3072 *24 *8 *9216 *4.19B *2.62B ' table
}

@test "search-arch: its options make the shape that it describes" {
    search-arch "$llama" --layers 2,3 --kv-heads 1 --ffn 10:40:15 --hidden 24,30 > shapes
    [ "$(wc -l < shapes)" = 12 ]
    head -n 7 shapes | tail -n 1 > one
    rank --magnitude "$llama" -o rank.tsz
    # shellcheck disable=SC2046
    slice-model "$llama" --rank rank.tsz $(field options < one) -o cut.tsz 2> note
    [ "$(slice-model cut.tsz --dry-run | awk '/^parameters/ { print $2 }')" \
        = "$(field parameters < one)" ]
    search-arch cut.tsz | field kv_bytes | cmp - <(field kv_bytes < one)
}

@test "search-arch: predictions, limits, and shapes that cannot be exported" {
    # 2 * 8 * 128 * 2 bytes for each of 32 layers and 1000 positions
    search-arch "$GOLDEN/papers/llama-3.1-8b.json" --context 1000 --bandwidth 1TB --flops 100T > one
    [ "$(field kv_bytes < one)" = 131072000 ]
    # 1e12 / (2 * (8030261248 - 128255 * 4096) + 131072000)
    grep -q '"predicted":{"prefill":6548.05,"decode":66.0461}' one
    search-arch "$llama" --kv-bytes 16384 --context 64 --layers 1:4:1 --cache-dtype f16 > few
    [ "$(wc -l < few)" = 4 ]
    search-arch "$llama" --kv-bytes 16383 --context 64 --layers 1:4:1 --cache-dtype f16 > few
    [ "$(wc -l < few)" = 3 ]
    search-arch "$GOLDEN/families/gpt2" --heads 3 > few
    grep -q '"hf_export_refuses":"config.json for gpt2 has no head_dim' few
    search-arch "$llama" --parameters 1000 2> note > none
    [ ! -s none ]
    grep -q 'no shape of the grid is in the band' note
    refused 2 "give both" search-arch "$llama" --flops 1T
    refused 1 "--hidden must be at most 36, that of the model" search-arch "$llama" --hidden 48
    refused 2 "--tolerance takes a share" search-arch "$llama" --tolerance 2
    refused 2 "--tolerance is for --parameters" search-arch "$llama" --tolerance 2%
    refused 2 "--active is for --parameters" search-arch "$llama" --active
    slice-model "$llama" --drop-attention 0-3 -o mlps.tsz
    refused 1 "--heads must be left out: no layer of the model has any" \
        search-arch mlps.tsz --heads 2,4
    refused 2 "--dtype must be f32" search-arch "$llama" --dtype q4
}

@test "search-arch --measure runs every shape" {
    search-arch "$GOLDEN/families/qwen3/config.json" --context 16 --layers 1,2 --measure \
        --quiet > shapes
    [ "$(grep -c '"measured":{"prefill":[1-9][0-9.e+]*,"decode":[1-9][0-9.e+]*}' shapes)" = 2 ]
    search-arch "$llama" --context 16 --measure --dtype q8_0 --quiet --table |
        grep -q '/s *[0-9.e+]*[KM]*/s$'
    search-arch "$llama" --context 16 --bandwidth 90G --flops 1T --quiet --table > table
    tail -n 1 table | grep -q ' [0-9.]*[KM]/s *[0-9.]*[KM]/s$'
    awk 'length > 80 { bad = 1 } END { exit bad }' table
    echo '{"model_type": "llama", "vocab_size": 10000000, "hidden_size": 1000000,
        "num_attention_heads": 10000, "intermediate_size": 1, "num_hidden_layers": 1}' > huge.json
    refused 1 "of memory: it cannot be measured here" search-arch huge.json --measure \
        --bandwidth 1T --flops 1T
}
