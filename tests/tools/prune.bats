# calib-acts, score-importance, rank, probe-layers, slice-model: golden scores, rankings and cuts;
# shards; proofs; refusals.
bats_require_minimum_version 1.5.0

setup() {
    export PATH=${PARE_BIN:-$PWD/bin}:$PATH GOLDEN=$PWD/tests/golden PYTHONPATH=$PWD/tests/tools \
        PYTHONDONTWRITEBYTECODE=1
    export OMP_NUM_THREADS=1            # the models are tiny
    prune="python3 $PWD/tests/tools/prune.py"
    st="python3 $PWD/tests/hf/st.py"
    cd "$BATS_TEST_TMPDIR"
}

families=$(cd "$PWD/tests/golden/importance" && for f in *.json; do echo "${f%.json}"; done)

# ranked FAMILY: its tokens, acts, scores and rank as FAMILY.*.tsz
ranked() {
    $prune tokens "$1" "$1.tokens.tsz"
    calib-acts --quiet "$GOLDEN/families/$1" "$1.tokens.tsz" -o "$1.acts.tsz"
    score-importance "$1.acts.tsz" -o "$1.scores.tsz"
    rank "$1.scores.tsz" -o "$1.rank.tsz"
}

near() {
    python3 -c "import sys; a, b = map(float, sys.argv[1:]); sys.exit(abs(a - b) > 1e-5)" "$1" "$2"
}

refused() {     # refused STATUS WORDS COMMAND...: one line that says WORDS, no output
    local status_wanted=$1 words=$2; shift 2
    rm -f refused.tsz
    run "-$status_wanted" --separate-stderr "$@" -o refused.tsz
    [ "${#stderr_lines[@]}" = 1 ] || { echo "$stderr"; false; }
    [[ $stderr == *"$words"* ]] || { echo "$stderr"; false; }
    [ ! -e refused.tsz ]
}

@test "scores of every axis in nine aggregations, block importance of every contiguous block" {
    $prune scores $families
}
@test "rankings, from pipes" { $prune ranks $families; }
@test "losses without each layer and each contiguous block" { $prune losses $families; }
@test "golden cuts: tensors byte for byte, logits, proof before writing" { $prune cuts $families; }

@test "joined shards equal one pass; a shard joined twice is refused" {
    $prune tokens llama all.tsz
    model=$GOLDEN/families/llama
    # products of one batch size round in the same way
    shard() { calib-acts --quiet "$model" all.tsz --batch-size 1 "$@"; }
    shard -o one.tsz
    shard --sequences 1 -o a.tsz
    shard --first-sequence 1 --sequences 3 -o b.tsz
    shard --first-sequence 4 -o c.tsz
    ts-cat b.tsz a.tsz c.tsz -o joined.tsz
    $prune close one.tsz joined.tsz 1e-12
    for batch in mean l2 var; do
        score-importance --batch $batch --seq var one.tsz -o x.tsz
        score-importance --batch $batch --seq var joined.tsz -o y.tsz
        $prune close x.tsz y.tsz 1e-12
    done
    refused 1 "each shard counts once" ts-cat joined.tsz b.tsz
    calib-acts --quiet "$model" all.tsz --first-sequence 3 -o overlap.tsz
    refused 1 "each shard counts once" ts-cat b.tsz overlap.tsz
    refused 1 "--block-size" ts-cat a.tsz <(calib-acts --quiet "$model" all.tsz --first-sequence 1 \
        --block-size 2)
    $prune tokens qwen3 other.tsz
    calib-acts --quiet "$GOLDEN/families/qwen3" other.tsz -o other-acts.tsz
    refused 1 "is of model" ts-cat a.tsz other-acts.tsz
}

@test "the batch size does not change the sums; each document is one sample" {
    model=$GOLDEN/families/gpt2
    $prune tokens gpt2 rows.tsz
    calib-acts --quiet "$model" rows.tsz -o a.tsz
    calib-acts --quiet "$model" rows.tsz --batch-size 1 -o b.tsz
    $prune close a.tsz b.tsz 1e-6
    printf '1 2 3 4 5\n6 7\n8 9 10 11 12\n13\n' | tokenize --quiet --ids -o documents.tsz
    calib-acts "$model" documents.tsz -o d.tsz 2> note
    grep -q '4 samples, 13 positions' note
    calib-acts "$model" documents.tsz --max-tokens 8 -o d.tsz 2> note
    grep -q '2 samples, 7 positions' note
}

@test "keeping everything keeps every byte; layers before a dropped one keep their ranking" {
    for family in $families; do
        slice-model "$GOLDEN/families/$family" -o all.tsz 2> note
        grep -q 'nothing to cut' note
        rm -rf out
        hf-export --quiet all.tsz out
        $prune same "$GOLDEN/families/$family" out
    done
    ranked llama
    slice-model "$GOLDEN/families/llama" --drop-layers 3 -o cut.tsz 2> note
    [ ! -s note ]
    calib-acts --quiet cut.tsz llama.tokens.tsz | score-importance -o cut-scores.tsz
    for axis in intermediate_size.2 num_attention_heads.1 num_key_value_heads.0; do
        ts-dump --values $axis llama.scores.tsz > a
        ts-dump --values $axis cut-scores.tsz > b
        cmp a b
    done
    slice-model "$GOLDEN/families/llama" --drop-layers 0,2-3 --dry-run |
        grep -q '^layers dropped: 0,2-3$'
}

# nll MODEL: of the calibration samples
nll() { eval-ppl --quiet "$1" tokens.tsz | sed 's/.*"nll":\([^,]*\),.*/\1/'; }

@test "a layer without its attention or its MLP equals one whose output projection is zero" {
    for family in llama gpt_neox gemma3 olmo2 gpt2; do
        $prune tokens $family tokens.tsz
        $st edit "$GOLDEN/families/$family" zeroed '
import re
for name, (dtype, shape, data) in T.items():
    if re.search(r"[.]1[.].*(o_proj|attention.dense|attn.c_proj)"
                 r"|[.]0[.].*(down_proj|4h_to_h|mlp.c_proj)", name):
        T[name] = dtype, shape, bytes(len(data))'
        slice-model "$GOLDEN/families/$family" --drop-attention 1 --drop-mlp 0 --verify tokens.tsz \
            -o half.tsz
        near "$(nll half.tsz)" "$(nll zeroed)"
        run -1 near "$(nll half.tsz)" "$(nll "$GOLDEN/families/$family")"
        rm -r zeroed
    done
}

@test "a layer without one half goes through every tool; no directory can hold it" {
    ranked llama
    llama=$GOLDEN/families/llama
    slice-model "$llama" --drop-attention 1-2 --drop-mlp 0 -o half.tsz
    slice-model "$llama" --drop-attention 1-2 --drop-mlp 0 --dry-run > plan
    grep -q '^attention dropped: 1-2$' plan
    grep -q '^MLP dropped: 0$' plan
    calib-acts --quiet half.tsz llama.tokens.tsz | score-importance | rank -o rank.tsz
    slice-model half.tsz --rank rank.tsz --hidden-size 24 --intermediate-size 30 --drop-layers 3 \
        --verify llama.tokens.tsz -o cut.tsz
    kd-train cut.tsz --teacher "$llama" --data llama.tokens.tsz --max-steps 2 --batch-size 2 \
        --recompute --quiet -o trained.tsz
    eval-ppl --quiet trained.tsz llama.tokens.tsz | grep -q '"nll":[0-9]'
    generate trained.tsz --prompt-ids "3 4 5" --max-new-tokens 4 --quiet | grep -q '[0-9]'
    run -1 hf-export --quiet trained.tsz out
    [[ $output == *"cannot express a layer without MLP, as layer 0 is; a model stream"* ]]
    [[ $output == *"nor can another model_type: config.json for nemotron-nas has no head_dim"* ]]
    [[ $output == *"with that many heads" ]]
    refused 1 "leaves nothing of layer 0" slice-model half.tsz --drop-attention 0
    refused 1 "layer 1 has no attention" slice-model half.tsz --drop-attention 1
    refused 1 "layers are 0 to 3" slice-model half.tsz --drop-mlp 4
    refused 2 "takes a list of layers" slice-model half.tsz --drop-mlp ""
    cut() { slice-model --rank llama.rank.tsz --dry-run "$@" > plan; }
    refused 1 "--intermediate-size has size 20 for layer 0, but no mlp stays there" \
        cut "$llama" --drop-mlp 0 --intermediate-size 0:20
    refused 1 "--num-key-value-heads has size 1 for layer 2, but no attention stays there" \
        cut "$llama" --drop-attention 1-2 --num-key-value-heads 0:1,1-2:1
    cut "$llama" --drop-mlp 0 --intermediate-size 0-1:20
    cut "$llama" --drop-layers 0 --intermediate-size 0:20,1:30
}

@test "sizes that differ between layers: as a model whose removed units are zero, in every tool" {
    ranked llama
    llama=$GOLDEN/families/llama
    cp llama.tokens.tsz tokens.tsz
    sizes="--intermediate-size 0-1:20,3:31 --num-attention-heads 2-:4 --num-key-value-heads 1:1"
    slice-model "$llama" --rank llama.rank.tsz $sizes --verify tokens.tsz -o uneven.tsz 2> note
    grep -q "hf-export will refuse this shape: num_attention_heads differs between layers" note
    grep -q "between layers (0:6,1:3,2-3:4), but config.json for model_type llama" note
    for axis in intermediate_size num_attention_heads num_key_value_heads; do
        for l in 0 1 2 3; do
            ts-dump --values $axis.$l llama.rank.tsz > $axis.$l
        done
    done
    $st edit "$llama" masked '
import struct
read = lambda axis: [int(x) for l in range(4) for x in open("%s.%d" % (axis, l)).read().split()]
ffn = [read("intermediate_size")[45 * l:45 * (l + 1)] for l in range(4)]
order = read("num_attention_heads")
group = read("num_key_value_heads")[2]  # the better of the two of layer 1
heads = [list(range(6)), list(range(3 * group, 3 * group + 3))]
heads += [sorted(order[6 * l + 3 * g + i] for g in (0, 1) for i in (0, 1)) for l in (2, 3)]
for l, n in enumerate((20, 20, 45, 31)):
    for stem, stays in (("mlp.down_proj", set(ffn[l][:n])),
                        ("self_attn.o_proj", {8 * h + i for h in heads[l] for i in range(8)})):
        name = "model.layers.%d.%s.weight" % (l, stem)
        dtype, (rows, cols), data = T[name]
        x = list(struct.unpack("<%df" % (rows * cols), data))
        x = [v if i % cols in stays else 0 for i, v in enumerate(x)]
        T[name] = dtype, [rows, cols], struct.pack("<%df" % len(x), *x)'
    near "$(nll uneven.tsz)" "$(nll masked)"
    run -1 near "$(nll uneven.tsz)" "$(nll "$llama")"
    slice-model "$llama" --rank llama.rank.tsz $sizes --dry-run 2> /dev/null > plan
    grep -q '^intermediate_size  *45  *0-1:20,2:45,3:31 ' plan
    grep -q '^num_key_value_heads  *2  *0:2,1:1,2-3:2 ' plan
    slice-model "$llama" --rank llama.rank.tsz \
        --intermediate-size "$(awk '/^intermediate_size/ { print $3 }' plan)" \
        --num-attention-heads "$(awk '/^num_attention_heads/ { print $3 }' plan)" \
        --num-key-value-heads "$(awk '/^num_key_value_heads/ { print $3 }' plan)" -o again.tsz
    cmp <(ts-dump --values layers.1.o_proj.weight again.tsz) \
        <(ts-dump --values layers.1.o_proj.weight uneven.tsz)
    ts-dump uneven.tsz | grep -q 'layers.3.up_proj.weight f32 \[31, 36\]'
    kd-train uneven.tsz --teacher "$llama" --data tokens.tsz --max-steps 2 --batch-size 2 \
        --quiet -o trained.tsz
    eval-ppl --quiet trained.tsz tokens.tsz | grep -q '"nll":[0-9]'
    calib-acts --quiet trained.tsz tokens.tsz | score-importance | rank -o rank.tsz
    slice-model trained.tsz --rank rank.tsz --hidden-size 24 --intermediate-size 20 \
        --verify tokens.tsz -o even.tsz
    # the columns of sizes have the width of the widest
    slice-model "$llama" --rank llama.rank.tsz --intermediate-size 0:20,1:25,2:30,3:35 \
        --dry-run 2> /dev/null |
        awk '/%$/ { bad += at && length != at; at = length; rows++ } END { exit bad || rows < 8 }'
    slice-model "$llama" --rank llama.rank.tsz --drop-layers 1 --intermediate-size 2-:20 \
        --dry-run 2> /dev/null | grep -q '^intermediate_size  *45  *0:45,2-3:20 '
    run -1 hf-export --quiet trained.tsz out
    [[ $output == *"config.json for model_type llama has one number for all layers"* ]]
}

@test "a sorted model is the same function; its first units are the best, in all families" {
    # but falcon_rw, whose ALiBi gives each place among the heads a meaning
    for family in $(cd "$GOLDEN/slice" && ls -d -- */all | cut -d/ -f1 | grep -v falcon_rw); do
        ranked "$family"
        model=$GOLDEN/families/$family rank=$family.rank.tsz
        sizes=$($prune target "$family" all | tr ' ' '\n' | grep -v layers)
        cp "$family.tokens.tsz" tokens.tsz
        slice-model --quiet "$model" --rank "$rank" --sort --verify tokens.tsz -o sorted.tsz
        slice-model --quiet sorted.tsz --in-order $sizes --verify tokens.tsz -o prefix.tsz
        slice-model --quiet "$model" --rank "$rank" --sort $sizes -o at-once.tsz
        slice-model --quiet "$model" --rank "$rank" $sizes -o cut.tsz
        $prune close prefix.tsz at-once.tsz 0
        near "$(nll sorted.tsz)" "$(nll "$model")"
        near "$(nll prefix.tsz)" "$(nll cut.tsz)"
        run -1 near "$(nll cut.tsz)" "$(nll "$model")"
    done
}

@test "sorting keeps layers in their places, and what it cannot do is refused" {
    ranked llama
    llama=$GOLDEN/families/llama
    slice-model "$llama" --rank llama.rank.tsz --sort -o sorted.tsz 2> note
    [ ! -s note ]
    slice-model "$llama" --rank llama.rank.tsz --sort --num-hidden-layers 3 -o three.tsz
    slice-model sorted.tsz --in-order --drop-layers "$(slice-model "$llama" --rank llama.rank.tsz \
        --num-hidden-layers 3 --dry-run | sed -n 's/^layers dropped: //p')" -o dropped.tsz
    hf-export --quiet three.tsz x
    hf-export --quiet dropped.tsz y
    $prune same x y
    slice-model "$llama" --drop-attention 1 --drop-mlp 2 -o half.tsz
    calib-acts --quiet half.tsz llama.tokens.tsz | score-importance | rank -o half.rank.tsz
    slice-model half.tsz --rank half.rank.tsz --sort --verify llama.tokens.tsz -o half-sorted.tsz
    probe-layers --quiet "$llama" llama.tokens.tsz | rank -o layers.tsz
    refused 1 "layers.tsz has no order of hidden_size" slice-model "$llama" --rank layers.tsz --sort
    refused 2 "--sort needs --rank" slice-model "$llama" --sort
    refused 2 "give one" slice-model "$llama" --rank llama.rank.tsz --in-order --hidden-size 20
    refused 1 "choose those to remove with --drop-layers" slice-model sorted.tsz --in-order \
        --num-hidden-layers 3
    ts-dump --hist sorted.tsz | grep -q -- '--sort'
}

@test "a probe replaces the order of layers, and its best block is dropped" {
    ranked llama
    probe-layers --quiet "$GOLDEN/families/llama" llama.tokens.tsz --block-size 2 \
        --table -o probe.tsz 2> table
    block=$(sed -n 3p table | cut -d' ' -f1)
    rank llama.scores.tsz probe.tsz -o both.tsz
    slice-model "$GOLDEN/families/llama" --rank both.tsz --num-hidden-layers 2 -o by-rank.tsz
    slice-model "$GOLDEN/families/llama" --drop-layers "$block" -o by-name.tsz
    hf-export --quiet by-rank.tsz x
    hf-export --quiet by-name.tsz y
    $prune same x y
    cmp <(ts-dump --values hidden_size both.tsz) <(ts-dump --values hidden_size llama.rank.tsz)
    run -1 cmp -s <(ts-dump --values num_hidden_layers both.tsz) \
        <(ts-dump --values num_hidden_layers llama.rank.tsz)
    refused 1 "has no order of hidden_size" slice-model "$GOLDEN/families/llama" \
        --rank <(rank probe.tsz) --hidden-size 20
}

@test "baselines: random orders by seed, magnitude of weights" {
    ranked llama
    rank --random 1 llama.scores.tsz -o a.tsz
    rank --random 1 < llama.rank.tsz > b.tsz
    rank --random 2 llama.scores.tsz -o c.tsz
    [ "$($prune orders a.tsz)" = "$($prune orders b.tsz)" ]
    [ "$($prune orders a.tsz)" != "$($prune orders c.tsz)" ]
    rank --magnitude "$GOLDEN/families/llama" -o m.tsz
    $prune orders m.tsz
    $prune magnitude "$GOLDEN/families/llama" m.tsz
    for r in a m; do
        slice-model --quiet "$GOLDEN/families/llama" --rank $r.tsz --hidden-size 20 \
            --intermediate-size 11 --num-attention-heads 2 --num-hidden-layers 2 \
            --verify llama.tokens.tsz -o $r.slice.tsz
    done
    refused 2 "two baselines" rank --random 1 --magnitude m.tsz
}

@test "a rank of another model is refused; the same model renamed or as a stream is not" {
    ranked llama
    cp -r "$GOLDEN/families/llama" renamed
    hf-import renamed -o llama.tsz
    for model in renamed llama.tsz; do
        slice-model $model --rank llama.rank.tsz --hidden-size 24 -o $(basename $model .tsz)-cut.tsz
    done
    cmp renamed-cut.tsz llama-cut.tsz ||
        cmp <(ts-dump --values layers.0.q_proj.weight renamed-cut.tsz) \
            <(ts-dump --values layers.0.q_proj.weight llama-cut.tsz)
    hf-import renamed | slice-model - --rank llama.rank.tsz --hidden-size 24 > /dev/null
    cp -r renamed other
    $prune other other
    refused 1 "another model" slice-model other --rank llama.rank.tsz --hidden-size 24
    slice-model other --rank llama.rank.tsz --hidden-size 24 --any-model -o any.tsz
    refused 1 "of a model with num_hidden_layers 4, but" slice-model "$GOLDEN/families/qwen3" \
        --rank llama.rank.tsz --hidden-size 24 --any-model
}

@test "a model with the same id and another value is another model wherever values are read" {
    ranked llama
    model=$GOLDEN/families/llama
    cp -r "$model" other
    $prune other other model.embed_tokens.weight
    calib-acts --quiet "$model" llama.tokens.tsz --sequences 1 -o a.tsz
    calib-acts --quiet other llama.tokens.tsz --first-sequence 1 -o b.tsz
    [ "$(ts-dump a.tsz | grep -c ^model_digest:)" = 1 ]
    [ "$(ts-dump a.tsz | grep ^model:)" = "$(ts-dump b.tsz | grep ^model:)" ]
    refused 1 "but with other values" ts-cat a.tsz b.tsz
    refused 1 "but with other values" rank llama.scores.tsz <(score-importance b.tsz)
    refused 1 "but with other values" rank llama.scores.tsz <(probe-layers --quiet other \
        llama.tokens.tsz)
    rank --magnitude "$model" -o magnitude.tsz
    for rank in llama.rank magnitude; do
        cut="--rank $rank.tsz --hidden-size 24"
        refused 1 "both have id" slice-model other $cut
        refused 1 "both have id" slice-model other $cut --verify llama.tokens.tsz
        slice-model other $cut --any-model -o any.tsz
        for same in "$model" <(hf-import "$model"); do
            slice-model "$same" $cut --verify llama.tokens.tsz --quiet -o same.tsz
        done
    done
    # a stream of an earlier release has no digest
    rank llama.scores.tsz | python3 -c '
import stream, sys
header, records = stream.read(sys.stdin.buffer)
del header["model_digest"]
stream.write(sys.stdout.buffer, header, records)' > old.tsz
    slice-model other --rank old.tsz --hidden-size 24 -o old-cut.tsz
}

@test "refused: unreachable targets, malformed lists, wrong streams" {
    ranked llama
    cut="slice-model $GOLDEN/families/llama --rank llama.rank.tsz"
    refused 1 "--hidden-size must be at most 36, not 37" $cut --hidden-size 37
    refused 1 "--intermediate-size must be at most 45 in layer 0, not 46" $cut \
        --intermediate-size 46
    refused 1 \
        "with num_key_value_heads 2, --num-attention-heads must be a multiple of 2 up to 6, not 3" \
        $cut --num-attention-heads 3
    refused 1 \
        "with num_key_value_heads 1, --num-attention-heads must be a multiple of 1 up to 3, not 4" \
        $cut --num-key-value-heads 1 --num-attention-heads 4
    refused 1 "--num-key-value-heads must be at most 2 in layer 0, not 3" $cut \
        --num-key-value-heads 3
    refused 1 "--num-attention-heads must be at most 6 in layer 0, not 7" $cut \
        --num-attention-heads 7
    refused 2 "--num-key-value-heads must be at least 1, not 0" $cut --num-key-value-heads 0
    refused 1 "--num-hidden-layers must be at most 4, not 5" $cut --num-hidden-layers 5
    refused 1 "layers are 0 to 3" $cut --drop-layers 1,4
    refused 1 "layers are 0 to 3" $cut --drop-layers 9999999999999999999
    refused 2 "takes a list of layers" $cut --drop-layers 1,,2
    refused 2 "takes a list of layers" $cut --drop-layers x
    refused 2 "the range 2-1 is reversed" $cut --drop-layers 2-1
    refused 2 "takes a whole number" $cut --hidden-size 0-1:20
    refused 2 "takes a number, or LAYERS:SIZE" $cut --intermediate-size 0-1
    refused 2 "names layer 1 twice" $cut --intermediate-size 0-1:20,1-:30
    refused 2 "the range 3-1 is reversed" $cut --intermediate-size 3-1:20
    refused 1 "names layer 4; the model's layers are 0 to 3" $cut --intermediate-size 3-4:20
    refused 1 "--intermediate-size must be at most 45 in layer 2, not 46" $cut \
        --intermediate-size 0:20,2-:46
    refused 1 "layer 3: with num_key_value_heads 2, --num-attention-heads must be a multiple of 2" \
        $cut --num-attention-heads 3:5
    refused 1 "leaves no layer" $cut --drop-layers 0-3
    refused 2 "give one" $cut --drop-layers 1 --num-hidden-layers 3
    refused 2 "takes a whole number" $cut --hidden-size -3
    refused 1 "needs --rank FILE, which gives the order of hidden_size" slice-model \
        "$GOLDEN/families/llama" --hidden-size 24
    refused 1 '"scores"' slice-model "$GOLDEN/families/llama" --rank llama.scores.tsz \
        --hidden-size 24
    refused 1 'not "tokens"' $cut --hidden-size 24 --verify llama.scores.tsz
    refused 1 'not "acts"' score-importance llama.scores.tsz
    refused 2 "mean, l2 or var" score-importance --batch max llama.acts.tsz
    refused 1 "neuron_first.0" score-importance --neuron neuron_first llama.acts.tsz
    refused 1 "exceeds the model's 4" calib-acts "$GOLDEN/families/llama" llama.tokens.tsz \
        --block-size 5
    refused 1 "leaves none" probe-layers "$GOLDEN/families/llama" llama.tokens.tsz --block-size 4
    head -c 700 llama.acts.tsz > short.tsz
    refused 1 "" score-importance short.tsz
    printf '1 2 99999\n' | tokenize --quiet --ids -o beyond.tsz
    refused 1 "99999, but the model" calib-acts --quiet "$GOLDEN/families/llama" beyond.tsz
    refused 1 "99999, but the model" $cut --hidden-size 24 --verify beyond.tsz
}

@test "dry-run counts what the slice will have, and writes nothing" {
    ranked llama
    # shellcheck disable=SC2046
    slice-model "$GOLDEN/families/llama" --rank llama.rank.tsz $($prune target llama all) \
        --dry-run -o none.tsz > plan
    [ ! -e none.tsz ]
    [ "$(awk '/^parameters/ { print $3 }' plan)" = "$($prune expect llama all parameters.total)" ]
    [ "$(awk '/^non-embedding/ { print $4 }' plan)" \
        = "$($prune expect llama all parameters.non_embedding)" ]
    # shellcheck disable=SC2046
    slice-model "$GOLDEN/families/llama" --rank llama.rank.tsz $($prune target llama all) \
        -o slice.tsz
    slice-model slice.tsz --dry-run | awk '/^parameters/ { exit $2 != $3 }'
}

# again WORDS...: the options that --dry-run prints for a cut with these ask for the same cut
again() {
    slice-model "$GOLDEN/families/llama" --rank llama.rank.tsz "$@" --dry-run > once
    # shellcheck disable=SC2046
    slice-model "$GOLDEN/families/llama" --rank llama.rank.tsz $(sed -n 's/^options: //p' once) \
        --dry-run > twice
    diff once twice
}

@test "the options that dry-run prints ask for the same shape" {
    ranked llama
    again --hidden-size 24 --intermediate-size 20 --num-hidden-layers 3
    again --num-attention-heads 0-1:2,3:2 --intermediate-size 0:20,2-:30 --drop-layers 1
    again --num-key-value-heads 1 --drop-mlp 0,3 --drop-attention 1-2 --intermediate-size 20
    grep -q '^options: .* --drop-attention 1-2 --drop-mlp 0,3$' once
    slice-model "$GOLDEN/families/llama" --dry-run | grep -q '^options: none$'
}

@test "a tensor of over 2 GB in less than 1 GB of memory" {
    [ -z "${PARE_SANITIZED:-}" ] || skip "address space is the sanitizer's own"
    $prune big big
    (
        ulimit -v 1000000
        rank --magnitude big -o rank.tsz
        slice-model big --rank rank.tsz --hidden-size 16 -o slice.tsz
    )
    rm -rf big
    ts-dump slice.tsz | grep -q 'embed_tokens.weight bf16 \[1100000, 16\]'
}
