# Choosing a shape: budgets of slice-model, and what it says about shapes before they are trained.
bats_require_minimum_version 1.5.0

setup() {
    export PATH=${PARE_BIN:-$PWD/bin}:$PATH OMP_WAIT_POLICY=passive
    GOLDEN=$PWD/tests/golden
    llama=$GOLDEN/families/llama
    cd "$BATS_TEST_TMPDIR" || exit
}

refused() {     # refused STATUS WORDS COMMAND...: one line on stderr that has the words
    run --separate-stderr "-$1" "${@:3}"
    [ "${#stderr_lines[@]}" = 1 ] || { echo "$stderr"; false; }
    [[ $stderr == *"$2"* ]] || { echo "$stderr"; false; }
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
    bytes=$(sed 's/.*--bytes 100K: \([0-9]*\) bytes.*/\1/' note)
    [ "$bytes" -le 100000 ]
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
