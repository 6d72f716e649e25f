# slice-model --repair: exact where the kept units span the removed ones, otherwise nearer to the
# uncut model; ids, histories, refusals.
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
    if re.search(r"(gate_proj|up_proj|lin_up)[.](weight|bias)", name):
        T[name] = dtype, shape, copied(data, (shape[0] + 1) // 2, row)
    if re.search(r"[qkv]_proj[.](weight|bias)", name) and C["num_key_value_heads"] == 2:
        T[name] = dtype, shape, copied(data, shape[0] // 2, row)'
}

@test "kept units that span the removed ones give the uncut model's output" {
    for family in llama gemma2 llama_bias olmo2; do
        $prune tokens $family tokens.tsz
        twins $family
        groups=
        [ $family = llama_bias ] || [ $family = olmo2 ] || groups='--num-key-value-heads 1'
        slice-model twins --in-order --intermediate-size 23 $groups -o cut.tsz
        slice-model --quiet twins --in-order --intermediate-size 23 $groups --repair tokens.tsz \
            --repair-ridge 0 -o repaired.tsz
        echo "# $family: $(nll twins) $(nll cut.tsz) $(nll repaired.tsz)" >&3
        holds "abs($(nll twins) - $(nll repaired.tsz)) < 1e-5"
        holds "abs($(nll twins) - $(nll cut.tsz)) > 1e-3"
    done
}

@test "a repaired cut is nearer to the model than one that is not" {
    for family in llama gpt2 granite gemma2 gpt_neox; do
        $prune tokens $family tokens.tsz
        for cut in '--intermediate-size 30' '--drop-layers 1' '--drop-attention 1' '--drop-mlp 0'; do
            slice-model "$GOLDEN/families/$family" --in-order $cut -o cut.tsz
            slice-model "$GOLDEN/families/$family" --in-order $cut --repair tokens.tsz -o repaired.tsz
            echo "# $family $cut: $(nll "$GOLDEN/families/$family") $(nll cut.tsz) $(nll repaired.tsz)" >&3
        done
    done
}
