# Several processes that compute in bf16: each keeps a part of the f32 weights. PARE_BIN: a build
# with MPI and the CUDA kernels, on the emulator.
bats_require_minimum_version 1.5.0

setup() {
    BIN=${PARE_BIN:-$PWD/build/emulated-mpi/bin}
    ROOT=$PWD
    MODEL=$PWD/tests/golden/families/llama
    cd "$BATS_TEST_TMPDIR" || exit
    for i in $(seq 40); do seq -s ' ' "$i" $((i + 4 + i % 9)); done |
        "$BIN/tokenize" --ids --quiet -o train.tsz
}

# train N OPTION...
train() {
    local n=$1
    shift
    "$ROOT/tests/mpi/processes" "$n" "$BIN/kd-train" "$MODEL" --data train.tsz --loss ce \
        --batch-size 2 --max-steps 3 --learning-rate 3e-3 --schedule constant --device cuda "$@"
}

# values FILE: a matrix, a vector of a layer, and the last vector
values() {
    for name in layers.1.down_proj.weight layers.0.input_layernorm.weight norm.weight; do
        "$BIN/ts-dump" --values $name "$1"
    done
}

# close FILE FILE: to rounding in f32; weights that are rounded to bf16 are not
close() {
    values "$1" > a
    values "$2" > b
    python3 - <<'END'
a, b = ([float(x) for x in open(name).read().split()] for name in "ab")
assert len(a) == len(b) == 36 * 45 + 36 + 36
off = max(abs(x - y) for x, y in zip(a, b))
assert off < 3e-5, off
END
}

@test "the weights are those of processes that each keep all; a checkpoint gives the same bits" {
    echo full > shapes # of --widths: the f32 weights are not divided
    train 2 -o parts.tsz 2> parts
    train 2 -o whole.tsz --widths shapes 2> whole
    grep 'of each of 2 processes .* (weights 0.2,' parts
    grep 'of each of 2 processes .* (weights 0.3,' whole
    values parts.tsz > a
    values whole.tsz > b
    cmp a b
    train 2 --quiet --max-steps 2 --output-dir run
    cp -r run run1
    train 2 --quiet --output-dir run --resume
    cmp parts.tsz run/model.tsz
    train 1 --quiet --output-dir run1 --resume
    close parts.tsz run1/model.tsz
}

@test "low-rank adapters" {
    for n in 1 2; do
        train $n --quiet --lora 4 --max-steps 2 -o of$n.tsz
    done
    close of1.tsz of2.tsz
}
