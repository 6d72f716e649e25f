# --dtype of slice-model and kd-train, and cuts of q8_0, which is rounded again.
bats_require_minimum_version 1.5.0
load refused

setup() {
    export PATH=${PARE_BIN:-$PWD/bin}:$PATH OMP_WAIT_POLICY=passive
    GOLDEN=$PWD/tests/golden
    GGUF="python3 $BATS_TEST_DIRNAME/gguf.py"
    st="python3 $PWD/tests/hf/st.py"
    cd "$BATS_TEST_TMPDIR" || exit
    $GGUF tiny tiny
    $GGUF make tiny q8.gguf Q8_0
    seq 1 39 | paste -sd ' ' | tokenize --quiet --ids -o tokens.tsz
}

types() {     # how many tensors of each dtype
    ts-dump "$1" | awk '$1 !~ "^file" && $3 ~ /^\[/ { print $2 }' | sort | uniq -c | xargs
}

size() { ts-dump "$1" | sed -n 's/.* \([0-9]*\) bytes$/\1/p'; }

@test "every dtype: tensors, bytes as predicted, history; keep is as if it were not given" {
    cut="slice-model tiny --in-order --intermediate-size 64 --compress none"
    $cut -o keep.tsz
    $cut --dtype keep -o other.tsz
    cmp keep.tsz other.tsz
    for pair in 'f32:20 f32' 'f16:20 f16' 'bf16:20 bf16' 'q8_0:5 f32 15 q8_0'; do
        dtype=${pair%%:*}
        $cut --dtype "$dtype" -o "$dtype.tsz" 2> note
        [ "$(types "$dtype.tsz")" = "${pair#*:}" ]
        $cut --dtype "$dtype" --dry-run 2> note | grep -q "^bytes .* $(size "$dtype.tsz") "
        ts-dump --hist "$dtype.tsz" > again
        sh again remade.tsz 2> note
        cmp <(ts-dump --values norm.weight "$dtype.tsz") <(ts-dump --values norm.weight remade.tsz)
        [ "$($st id < "$dtype.tsz")" = "$(ts-dump remade.tsz | sed -n 's/^id: //p')" ]
    done
    # multiples of 2^-8 up to 8 of them: every type holds them, q8_0 only nearly
    $GGUF near keep.tsz f16.tsz 0
    $GGUF near keep.tsz bf16.tsz 0
    $GGUF near keep.tsz q8_0.tsz 0.004
    hf-export --quiet keep.tsz exported --dtype bf16
    hf-import exported --compress none -o rounded.tsz
    $GGUF near rounded.tsz bf16.tsz 0
}

@test "a cut of q8_0 stays q8_0 and never grows the file, whichever way it is made" {
    whole=$(slice-model q8.gguf --dry-run | awk '/^bytes/ { print $2 }')
    rank --magnitude q8.gguf -o rank.tsz
    for cut in '--hidden-size 32' '--intermediate-size 64' '--num-key-value-heads 1' \
        '--num-attention-heads 2 --merge-heads qkvo' '--sort' \
        '--intermediate-size 64 --repair tokens.tsz'; do
        # shellcheck disable=SC2086
        slice-model q8.gguf --rank rank.tsz $cut --quiet -o cut.tsz
        [ "$(types cut.tsz)" = "5 f32 15 q8_0" ]
        [ "$(size cut.tsz)" -le "$whole" ]
    done
    # layers that a repair does not touch keep their blocks
    slice-model q8.gguf --in-order --intermediate-size 1:64 --repair tokens.tsz --quiet -o cut.tsz
    for w in 0.o_proj 0.down_proj 1.o_proj; do
        cmp <(ts-dump --values "layers.$w.weight" q8.gguf) \
            <(ts-dump --values "layers.$w.weight" cut.tsz)
    done
    # so do whole blocks that were rounded before
    slice-model tiny --dtype q8_0 --quiet -o rounded.tsz
    slice-model rounded.tsz --in-order --hidden-size 32 --quiet -o cut.tsz
    cmp <(ts-dump --values embed_tokens.weight rounded.tsz | cut -d ' ' -f 1-32) \
        <(ts-dump --values embed_tokens.weight cut.tsz)
}

@test "rows that are no whole blocks become f16; the nearest widths are named" {
    cut="slice-model q8.gguf --in-order"
    refused 0 "embed_tokens have 40 values, which is not a multiple of 32, so q8_0 cannot hold \
them: 11 matrices are written as f16; --hidden-size 64 or 32 would fit" \
        $cut --hidden-size 40 -o cut.tsz
    [ "$(types cut.tsz)" = "11 f16 5 f32 4 q8_0" ]
    refused 0 "o_proj have 16 values" $cut --num-attention-heads 1 --num-key-value-heads 1 -o a.tsz
    [[ $stderr == *"2 matrices are written as f16; a width of 32 would fit" ]]
    refused 0 "36 values" slice-model "$GOLDEN/families/llama" --dtype q8_0 -o golden.tsz
    [[ $stderr == *"30 matrices are written as f16; --hidden-size 32 would fit" ]]
}

@test "--verify proves the slice before it is rounded" {
    for cut in 'q8.gguf --hidden-size 32' 'q8.gguf --num-attention-heads 2 --merge-heads qkvo' \
        'tiny --intermediate-size 64 --dtype f16' 'tiny --hidden-size 48 --dtype q8_0'; do
        # shellcheck disable=SC2086
        slice-model $cut --in-order --verify tokens.tsz -o a.tsz 2> note
        grep -q "equal the masked model's .*; what is written is this slice, rounded" note
        # shellcheck disable=SC2086
        slice-model $cut --in-order --quiet -o b.tsz
        cmp a.tsz b.tsz
    done
    slice-model tiny --in-order --hidden-size 48 --verify tokens.tsz -o a.tsz 2> note
    run ! grep rounded note
    repair='q8.gguf --in-order --intermediate-size 64 --repair tokens.tsz'
    # shellcheck disable=SC2086
    slice-model $repair --verify tokens.tsz --quiet -o a.tsz
    # shellcheck disable=SC2086
    slice-model $repair --quiet -o b.tsz
    cmp a.tsz b.tsz
}

@test "kd-train rounds what it has trained" {
    train="kd-train q8.gguf --teacher q8.gguf --data tokens.tsz --max-steps 2 --quiet"
    $train -o f32.tsz
    $train --dtype f32 -o other.tsz
    cmp f32.tsz other.tsz
    for pair in 'f16:20 f16' 'bf16:20 bf16' 'q8_0:5 f32 15 q8_0' 'keep:5 f32 15 q8_0'; do
        dtype=${pair%%:*}
        $train --dtype "$dtype" -o trained.tsz
        [ "$(types trained.tsz)" = "${pair#*:}" ]
        slice-model f32.tsz --dtype "${dtype/keep/q8_0}" --quiet -o rounded.tsz
        for name in norm.weight layers.1.down_proj.weight; do
            cmp <(ts-dump --values $name trained.tsz) <(ts-dump --values $name rounded.tsz)
        done
    done
}

@test "refused: other words, values that f16 cannot hold" {
    words="--dtype must be keep, f32, f16, bf16 or q8_0, not \"q4_0\""
    refused 2 "$words" slice-model tiny --dtype q4_0
    refused 2 "$words" kd-train tiny --data tokens.tsz --max-steps 1 --dtype q4_0
    $st edit tiny large 'n = "model.layers.1.mlp.up_proj.weight"
d, s, b = T[n]
T[n] = d, s, struct.pack("<f", 7e4) + b[4:]'
    refused 1 "layers.1.up_proj.weight has the value 70000, which f16 cannot represent" \
        slice-model large --dtype f16 -o large.tsz
    [ ! -e large.tsz ]
}
