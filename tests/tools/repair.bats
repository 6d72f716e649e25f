# slice-model --repair: exact where the kept units span the removed ones, otherwise nearer to the
# uncut model; mixtures of experts; ids, histories, refusals.
bats_require_minimum_version 1.5.0

setup() {
    export PATH=${PARE_BIN:-$PWD/bin}:$PATH GOLDEN=$PWD/tests/golden PYTHONPATH=$PWD/tests/tools \
        PYTHONDONTWRITEBYTECODE=1
    export OMP_NUM_THREADS=1            # the models are tiny
    prune="python3 $PWD/tests/tools/prune.py"
    st="python3 $PWD/tests/hf/st.py"
    cd "$BATS_TEST_TMPDIR"
}

# nll MODEL: of the calibration samples
nll() { eval-ppl --quiet "$1" tokens.tsz | sed 's/.*"nll":\([^,]*\),.*/\1/'; }

# holds EXPRESSION: of python
holds() { python3 -c "import sys; sys.exit(not ($1))" || { echo "not so: $1"; false; }; }

# twins FAMILY: the directory `twins`, in which the second half of the neurons reads what the first
# half does, and, where there are several, the second KV group what the first does
twins() {
    rm -rf twins
    $st edit "$GOLDEN/families/$1" twins '
import re
def copied(data, to, n):
    return data[:to * n] + data[:n * (len(data) // n - to)] if to * n < len(data) else data
for name, (dtype, shape, data) in T.items():
    row = len(data) // shape[0]
    if re.search(r"(gate_proj|up_proj|lin_up|w1|w3)[.](weight|bias)", name):
        T[name] = dtype, shape, copied(data, (shape[0] + 1) // 2, row)
    if re.search(r"[qkv]_proj[.](weight|bias)", name) and C["num_key_value_heads"] == 2:
        T[name] = dtype, shape, copied(data, shape[0] // 2, row)'
}

@test "kept units that span the removed ones give the uncut model's output" {
    for family in llama gemma2 llama_bias; do
        $prune tokens $family tokens.tsz
        twins $family
        groups=
        [ $family = llama_bias ] || groups='--num-key-value-heads 1'
        slice-model --quiet twins --in-order --intermediate-size 23 $groups -o cut.tsz
        slice-model --quiet twins --in-order --intermediate-size 23 $groups --repair tokens.tsz \
            --repair-ridge 0 -o repaired.tsz
        whole=$(nll twins) cut=$(nll cut.tsz) repaired=$(nll repaired.tsz)
        echo "$family: $whole $cut $repaired"
        holds "abs($whole - $repaired) < 1e-5 and abs($whole - $cut) > 1e-3"
    done
}

# kl MODEL: from the uncut model, on the calibration samples
kl() {
    eval-ppl --quiet "$1" tokens.tsz --against "$model" | sed 's/.*"kl":\([^,]*\),.*/\1/'
}

# nearer OPTION...: the cut of $model is nearer to it when it is repaired on tokens.tsz
nearer() {
    slice-model --quiet "$model" --in-order "$@" -o cut.tsz
    slice-model --quiet "$model" --in-order "$@" --repair tokens.tsz -o repaired.tsz
    before=$(kl cut.tsz) after=$(kl repaired.tsz)
    echo "$model $*: $before $after"
    holds "$after < $before"
}

@test "a repaired cut is nearer to the model on the text it was fitted to" {
    for family in llama gpt2 granite; do
        model=$GOLDEN/families/$family
        $prune tokens $family tokens.tsz
        for cut in '--intermediate-size 30' '--drop-layers 1' '--drop-attention 1' \
            '--drop-mlp 0'; do
            nearer $cut
        done
    done
}

# experts_tokens FAMILY: its golden samples
experts_tokens() {
    python3 -c "
import json
for row in json.load(open('$GOLDEN/experts/$1.json'))['input_ids']:
    print(*row)" | tokenize --quiet --ids -o tokens.tsz
}

@test "experts whose kept neurons span the removed ones give the uncut model's output" {
    experts_tokens mixtral
    twins mixtral
    sed -i 's/"num_experts_per_tok": 2/"num_experts_per_tok": 1/' twins/config.json
    cut='--in-order --moe-intermediate-size 6 --dtype f32'
    slice-model --quiet twins $cut -o cut.tsz
    slice-model --quiet twins $cut --repair tokens.tsz --repair-ridge 0 -o repaired.tsz
    whole=$(nll twins) cut=$(nll cut.tsz) repaired=$(nll repaired.tsz)
    echo "$whole $cut $repaired"
    holds "abs($whole - $repaired) < 1e-5 and abs($whole - $cut) > 1e-3"
}

@test "a repaired mixture of experts is nearer to the model, whichever of its units are cut" {
    for family in mixtral qwen2_moe; do
        model=$GOLDEN/families/$family
        experts_tokens $family
        for cut in '--num-experts 3' '--moe-intermediate-size 5' '--drop-layers 1' '--drop-mlp 1' \
            '--shared-expert-intermediate-size 3'; do
            [[ $family$cut != mixtral--shared* ]] || continue
            nearer $cut
        done
    done
}

@test "only what the cut touched is refitted, and only the outputs of branches" {
    model=$GOLDEN/families/llama
    $prune tokens llama tokens.tsz
    cut='--in-order --intermediate-size 1:30 --num-key-value-heads 2:1'
    slice-model "$model" $cut -o cut.tsz
    slice-model "$model" $cut --repair tokens.tsz -o repaired.tsz 2> note
    grep -q 'refitted 2 matrices' note
    ts-dump --stats cut.tsz | grep -v '^id\|^made' > a
    ts-dump --stats repaired.tsz | grep -v '^id\|^made' > b
    diff a b | grep '^>' | cut -d ' ' -f 2 > changed
    printf 'layers.%s.weight\n' 1.down_proj 2.o_proj | diff - changed
}

# fits WORDS OPTION...: what a repair of that cut says that it refits
fits() {
    slice-model "$model" --repair tokens.tsz "${@:2}" -o fits.tsz 2> note
    grep -q "$1" note || { cat note; false; }
}

@test "units that only move, and norms behind the matrices, are nothing to refit" {
    for family in llama gemma2; do
        model=$GOLDEN/families/$family
        $prune tokens $family tokens.tsz
        rank --magnitude "$model" -o rank.tsz
        fits 'nothing was refitted' --rank rank.tsz --sort
        fits 'refitted 1 matrix' --rank rank.tsz --sort --num-key-value-heads 1:1
    done
    fits 'nothing was refitted' --rank rank.tsz --sort --drop-layers 1 --drop-mlp 2
    python3 "$BATS_TEST_DIRNAME/gguf.py" tiny tiny
    python3 "$BATS_TEST_DIRNAME/gguf.py" make tiny m.gguf Q8_0
    model=m.gguf
    seq 1 39 | paste -sd ' ' | tokenize --quiet --ids -o tokens.tsz
    fits 'refitted 1 matrix' --in-order --intermediate-size 1:64
}

@test "--verify proves the cut, then says how far the repaired model is from the uncut one" {
    model=$GOLDEN/families/llama
    $prune tokens llama tokens.tsz
    cut='--in-order --intermediate-size 30 --drop-layers 1'
    slice-model --quiet "$model" $cut --repair tokens.tsz -o a.tsz
    slice-model "$model" $cut --repair tokens.tsz --verify tokens.tsz -o b.tsz 2> note
    cmp a.tsz b.tsz
    grep -q "equal the masked model's" note
    grep 'before the repair' note > distances
    holds "$(sed 's/.*: \([0-9.]*\) from.*repair, \([0-9.]*\) after.*/\2 < \1/' distances)"
}

@test "provenance: tokens and options of a repair are part of the id, threads are not" {
    model=$GOLDEN/families/llama
    $prune tokens llama tokens.tsz
    $prune tokens llama others.tsz 1 4
    id() { slice-model --quiet "$model" --in-order --intermediate-size 30 "$@" | $st id; }
    id > ids
    id --repair tokens.tsz >> ids
    id --repair others.tsz >> ids
    id --repair tokens.tsz --repair-tokens 99 >> ids
    id --repair tokens.tsz --repair-ridge 0.1 >> ids
    [ "$(sort -u ids | wc -l)" = 5 ]
    [ "$(id --repair tokens.tsz --threads 2)" = "$(sed -n 2p ids)" ]
    slice-model --quiet "$model" --in-order --intermediate-size 30 --repair tokens.tsz -o r.tsz
    ts-dump --hist r.tsz > again.sh
    sh again.sh s.tsz
    cmp r.tsz s.tsz
}

@test "merged heads: one that equals the head it takes up stays as it is; refusals; repair" {
    model=$GOLDEN/families/llama
    $prune tokens llama tokens.tsz
    cut() { slice-model "$1" --in-order --num-attention-heads 4 "${@:2}"; }
    # of three heads in a group the second takes up the third
    $st edit "$model" same '
import re
for name, (dtype, shape, data) in T.items():
    if re.search("q_proj", name):
        n = len(data) // 6
        heads = [data[i * n:(i + 1) * n] for i in (0, 1, 1, 3, 4, 4)]
        T[name] = dtype, shape, b"".join(heads)'
    cut same --quiet -o a.tsz
    cut same --quiet --merge-heads qkv -o b.tsz
    ts-dump --stats a.tsz | grep q_proj > a
    ts-dump --stats b.tsz | grep q_proj | cmp - a
    cut "$model" --merge-heads qkvo --verify tokens.tsz --repair tokens.tsz -o c.tsz 2> note
    grep -q "equal the masked model's" note
    grep -q 'refitted 4 matrices' note
    ts-dump --hist c.tsz > again.sh
    grep -q -- '--merge-heads qkvo' again.sh
    run -2 --separate-stderr cut "$model" --merge-heads o
    [[ $stderr == *"must be qkv or qkvo"* ]]
    run -1 --separate-stderr slice-model "$model" --in-order --num-attention-heads 2 \
        --merge-heads qkv
    [[ $stderr == *"cannot keep only 1 of 3"* ]]
    run -1 --separate-stderr slice-model "$model" --in-order --intermediate-size 30 \
        --merge-heads qkv
    [[ $stderr == *"nothing to merge"* ]]
}

@test "refusals before the first step" {
    model=$GOLDEN/families/llama
    $prune tokens llama tokens.tsz
    refused() {
        run "-$1" --separate-stderr slice-model --in-order --intermediate-size 30 "${@:3}" -o no.tsz
        [[ $stderr == *"$2"* ]] || { echo "$stderr"; false; }
        [ ! -e no.tsz ]
    }
    refused 2 "--repair-ridge must be from 0" "$model" --repair tokens.tsz --repair-ridge -1
    refused 2 "go with --repair TOKENS" "$model" --repair-ridge 0.5
    refused 1 "no sequence that fits" "$model" --repair tokens.tsz --repair-tokens 3
    printf '1 2 3000\n' | tokenize --quiet --ids -o large.tsz
    refused 1 "vocabulary has only" "$model" --repair large.tsz
    printf '1 2 3 4 5\n' | tokenize --quiet --ids -o few.tsz
    refused 1 "linearly dependent" "$model" --repair few.tsz --repair-ridge 0
}
