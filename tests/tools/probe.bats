# probe-layers beyond the loss without layers, which prune.bats has golden numbers of: divergence,
# each smaller variant of a layer in place of the layer; scores of layers side by side.
bats_require_minimum_version 1.5.0
load refused

setup() {
    export PATH=${PARE_BIN:-$PWD/bin}:$PATH GOLDEN=$PWD/tests/golden PYTHONPATH=$PWD/tests/tools \
        PYTHONDONTWRITEBYTECODE=1
    export OMP_NUM_THREADS=1            # the models are tiny
    prune="python3 $PWD/tests/tools/prune.py" probe="python3 $PWD/tests/tools/probe.py"
    ROOT=$PWD
    cd "$BATS_TEST_TMPDIR"
}

# ranked FAMILY: its model, tokens and rank as model, tokens.tsz, rank.tsz
ranked() {
    ln -sfn "$GOLDEN/families/$1" model
    $prune tokens "$1" tokens.tsz
    calib-acts --quiet model tokens.tsz | score-importance | rank -o rank.tsz
}

# variants OUT WORDS OPTION...
variants() {
    probe-layers --quiet model tokens.tsz --rank rank.tsz -o "$1" --variants "$2" "${@:3}"
}

@test "a variant's loss is that of slice-model's cut" {
    # a norm over all heads; biases and transposed matrices
    for family in olmo2 gpt2; do
        ranked $family
        variants $family.jsonl "drop-mlp num-key-value-heads=1 intermediate-size=7"
        $probe cuts $family.jsonl model tokens.tsz rank.tsz
    done
    ranked llama
    variants table.jsonl "drop-attention drop-layers num-attention-heads=2"
    $probe cuts table.jsonl model tokens.tsz rank.tsz
}

@test "tensors are cut in the type they have; what remains of the columns of q8_0 is not rounded" {
    hf-export --quiet --dtype f16 "$GOLDEN/families/llama" half
    python3 "$ROOT/tests/tools/gguf.py" tiny tiny
    python3 "$ROOT/tests/tools/gguf.py" make tiny m.gguf Q8_0
    seq 1 39 | paste -sd ' ' | tokenize --quiet --ids -o tokens.tsz
    for pair in half:keep m.gguf:f32; do
        model=${pair%:*}
        calib-acts --quiet $model tokens.tsz | score-importance | rank -o rank.tsz
        probe-layers --quiet $model tokens.tsz --rank rank.tsz -o table.jsonl --variants \
            "drop-attention num-key-value-heads=1 intermediate-size=21"
        $probe cuts table.jsonl $model tokens.tsz rank.tsz ${pair#*:}
    done
}

@test "divergence and agreement are those of the full logits" {
    ranked llama
    variants table.jsonl "num-key-value-heads=1 drop-mlp"
    dump-logits --quiet --full model tokens.tsz --compress none -o a.tsz
    slice-model --quiet model --rank rank.tsz --num-key-value-heads 1:1 | dump-logits --quiet \
        --full - tokens.tsz --compress none -o b.tsz
    $probe divergence table.jsonl 3 a.tsz b.tsz
}

@test "the table that readers are tested with is what comes out" {
    ranked llama
    variants table.jsonl "drop-attention drop-mlp drop-layers intermediate-size=10,20 \
        num-key-value-heads=1"
    $probe close table.jsonl "$GOLDEN/variants/llama.jsonl"
}

id() { head -n 1 "$1" | grep -o '"id":"[^"]*"' | head -n 1; }

@test "a sorted model needs no rank; words and rank are in the id, the batch size is not" {
    ranked llama
    variants table.jsonl "intermediate-size=10,20 num-key-value-heads=1"
    slice-model --quiet model --rank rank.tsz --sort -o sorted.tsz
    probe-layers --quiet sorted.tsz tokens.tsz --variants "intermediate-size=10,20 \
        num-key-value-heads=1" --batch-size 1 -o sorted.jsonl
    $probe close table.jsonl sorted.jsonl
    variants same.jsonl "intermediate-size=10,20 num-key-value-heads=1" --batch-size 1
    variants words.jsonl "num-key-value-heads=1"
    rank --random 1 rank.tsz -o random.tsz
    probe-layers --quiet model tokens.tsz --rank random.tsz --variants "num-key-value-heads=1" \
        -o random.jsonl
    [ "$(id table.jsonl)" = "$(id same.jsonl)" ]
    [ "$(for f in table words random; do id $f.jsonl; done | sort -u | wc -l)" = 3 ]
}

@test "a killed run continues to the same bytes" {
    ranked llama
    words="drop-layers intermediate-size=20"
    variants whole.jsonl "$words" --batch-size 2
    variants part.jsonl "$words" --batch-size 2 --max-tokens 132
    $probe partial whole.jsonl part.jsonl resumed.jsonl.partial
    variants resumed.jsonl "$words" --batch-size 2 --resume
    cmp resumed.jsonl whole.jsonl
    [ ! -e resumed.jsonl.partial ]
    [ "$(head -n 1 whole.jsonl)" != "$(head -n 1 part.jsonl)" ]
    cp part.jsonl resumed.jsonl.partial
    refused 1 "resumed.jsonl.partial is not from a run with these" \
        variants resumed.jsonl "$words" --resume
    $probe partial whole.jsonl part.jsonl resumed.jsonl.partial
    # more windows than the text has: nothing would be left to measure
    sed -i '1s/"windows":[0-9]*/"windows":1000/' resumed.jsonl.partial
    refused 1 "resumed.jsonl.partial is not from a run with these" \
        variants resumed.jsonl "$words" --resume
    $probe partial whole.jsonl part.jsonl resumed.jsonl.partial
    sed -i '$d' resumed.jsonl.partial
    refused 1 "resumed.jsonl.partial has 7 variants, not 8" \
        variants resumed.jsonl "$words" --resume
}

@test "an output that is no file has no .partial beside it" {
    ranked llama
    ln -s /dev/full full
    refused 1 "No space left" variants full drop-mlp
    [ ! -e full.partial ]
    refused 2 "--resume needs -o FILE" variants full drop-mlp --resume
}

@test "refused: words that mean nothing, sizes that no layer exceeds, ranks of other models" {
    ranked llama
    refused 1 '"width=3" is neither' variants x.jsonl "drop-mlp width=3"
    refused 1 "no layer is larger than intermediate-size=45" variants x.jsonl intermediate-size=45
    refused 1 'not "1x"' variants x.jsonl intermediate-size=1x
    refused 1 "num-attention-heads must be a multiple" variants x.jsonl num-attention-heads=3
    refused 1 "named twice" variants x.jsonl "drop-mlp drop-mlp"
    refused 1 "no variants" variants x.jsonl " "
    refused 2 "--rank is for --variants" probe-layers model tokens.tsz --rank rank.tsz
    refused 2 "--resume needs -o" probe-layers model tokens.tsz --variants drop-mlp --resume
    refused 2 "--variants goes with none of" variants x.jsonl drop-mlp --table
    refused 1 "is of model" probe-layers "$GOLDEN/families/qwen3" tokens.tsz --rank rank.tsz \
        --variants drop-mlp --any-tokenizer
    slice-model --quiet model --drop-mlp 0-3 -o attention.tsz
    refused 1 "drop-mlp: no layer has both" probe-layers attention.tsz tokens.tsz \
        --variants drop-mlp
    [ ! -e x.jsonl ]
}

@test "layers by divergence: that of the variants without them; scores side by side" {
    ranked llama
    variants table.jsonl drop-layers
    probe-layers --quiet model tokens.tsz --by kl -o kl.tsz
    probe-layers --quiet model tokens.tsz -o loss.tsz
    calib-acts --quiet model tokens.tsz | score-importance -o bi.tsz
    ts-dump --table bi.tsz loss.tsz kl.tsz > side
    awk 'NR == FNR { if (split($0, a, /"kl":|,/) && /"drop"/) kl[n++] = a[4]; next }
        FNR > 2 && NF == 7 { if (($6 - kl[$1]) ^ 2 > 1e-6) exit 1; found++ }
        END { if (found != 4) exit 1 }' table.jsonl side
    # from the lowest: loss 1 2 3 0, divergence 3 2 1 0; three of six pairs in opposite order
    [ "$(awk 'NF == 7 && FNR > 2 { print $5, $7 }' side | tr -d '()' | tr '\n' ',')" \
        = "4 4,1 3,2 2,3 1," ]
    grep -qF "loss.tsz and kl.tsz: Spearman's rho 0.20, Kendall's tau 0.00" side
    rank bi.tsz kl.tsz | slice-model model --rank - --num-hidden-layers 3 -o cut.tsz
    ts-dump --hist cut.tsz | grep -q -- '--by kl'
    refused 2 "--by must be auto, loss, kl" probe-layers model tokens.tsz --by size
    refused 1 "has no scores of layers" ts-dump --table bi.tsz <(python3 -c '
import stream, sys
header, records = stream.read(sys.stdin.buffer)
stream.write(sys.stdout.buffer, header, [r for r in records if r[0] != "num_hidden_layers"])
' < <(score-importance <(calib-acts --quiet model tokens.tsz)))
    refused 2 "several files need --table" ts-dump bi.tsz kl.tsz
}

@test "greedy: the least harmful layer of what is left, ranked last in the order of removal" {
    ranked llama
    probe() { probe-layers --quiet --table "$@" tokens.tsz 2>&1 > probe.tsz; }
    probe model --greedy 2 -o greedy.tsz > rounds
    first=$(probe model | awk 'NR == 3 { print $1, $2 }')
    slice-model --quiet model --drop-layers "${first% *}" -o less.tsz
    second=$(probe less.tsz | awk 'NR == 3 { print $1, $2 }')
    # layers behind the first one have moved up
    layer=$((${second% *} + (${second% *} >= ${first% *})))
    [ "$(awk 'NR > 2 { print $(NF - 2), $(NF - 1) }' rounds | tr '\n' ,)" \
        = "$first,$layer ${second#* }," ]
    [ "$(ts-dump --values removed greedy.tsz | tr '\n' ' ')" = "${first% *} $layer " ]
    rank greedy.tsz -o greedy.rank.tsz
    [ "$(ts-dump --values num_hidden_layers greedy.rank.tsz | cut -d ' ' -f 3-)" \
        = "$layer ${first% *}" ]
    # divergence is from the whole model: here 3, then 2, then 1 go, as if in blocks
    probe model --by kl --block-size all > blocks
    probe model --by kl --greedy 3 > rounds
    for block in 3 2-3 1-3; do awk -v b=$block '$1 == b { print $2 }' blocks; done > expected
    awk 'NR > 2 { print $(NF - 1) }' rounds | diff - expected
    probe model --greedy 1 --block-size 2 > rounds
    probe model --block-size 2 > blocks
    [ "$(awk 'NR == 3 { print $1 "-" $2, $3 }' rounds)" \
        = "$(awk 'NR == 3 { print $1, $2 }' blocks)" ]
    refused 1 "--greedy 2 removes 4 layers in all, and the model has 4" \
        probe-layers model tokens.tsz --greedy 2 --block-size 2
    refused 1 "removes 18446744073709551616 layers" \
        probe-layers model tokens.tsz --greedy 9223372036854775807 --block-size 2
    refused 2 "blocks of one length" probe-layers model tokens.tsz --greedy 1 --block-size all
}

@test "layers by accuracy: that of eval-choice without them, also of blocks and greedily" {
    cp -rL "$GOLDEN/families/llama" model
    $probe letters model/tokenizer.json
    $probe items items.jsonl
    acc() { eval-choice --quiet "$1" items.jsonl | grep -o '"acc":[0-9.]*' | cut -d : -f 2; }
    probe-layers --quiet model --choices items.jsonl --block-size all --compress none -o acc.tsz
    for n in 1 2; do
        for l in $(seq 0 $((4 - n))); do
            slice-model --quiet model --drop-layers "$l-$((l + n - 1))" -o cut.tsz
            acc cut.tsz
        done
    done > expected
    $probe accuracies acc.tsz $(cat expected)
    # the layer that costs least goes first; the one of highest accuracy is not the worst
    probe-layers --quiet model --choices items.jsonl --greedy 1 --table 2>&1 > greedy.tsz |
        tail -n 1 > round
    probe-layers --quiet model --choices items.jsonl --table 2>&1 > one.tsz | sed -n 3p > least
    [ "$(awk '{ print $2 }' round)" = "$(awk '{ print $2 }' least)" ]
    ts-dump --table one.tsz greedy.tsz | grep -q 'accuracy *accuracy$'
    probe-layers --quiet model --choices items.jsonl --limit 3 -o three.tsz
    [ "$(for f in one three greedy; do ts-dump --head $f.tsz | grep '^  "id"'; done |
        sort -u | wc -l)" = 3 ]
    refused 2 "takes the place of TOKENS" probe-layers model one.tsz --choices items.jsonl
    refused 2 "TOKENS is missing" probe-layers model
    refused 2 "not on --choices" probe-layers model --choices items.jsonl --by kl
    refused 2 "give --choices FILE" probe-layers model one.tsz --by accuracy
}
