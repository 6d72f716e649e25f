# Two hosts: network namespaces that a slow cable joins, which loses packets and may fail.
bats_require_minimum_version 1.5.0

setup() {
    BIN=${PARE_BIN:-$PWD/build/mpi/bin}
    ROOT=$PWD
    MODEL=$PWD/tests/golden/families/llama
    export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
    cd "$BATS_TEST_TMPDIR" || exit
}

# Runs a command on the first of two hosts, or skips where there cannot be two.
hosts() {
    status=0
    timeout 60 "$ROOT/tests/mpi/network" "$@" > out 2> log || status=$?
    [ "$status" != 77 ] || skip "$(tail -n 1 log)"
}

@test "two hosts, joined by a slow network that loses packets, make the same stream" {
    yes "$(seq -s ' ' 30)" | head -n 12 | "$BIN/tokenize" --ids --quiet -o tokens.tsz
    "$BIN/dump-logits" --quiet "$MODEL" tokens.tsz --batch-size 2 --full -o one
    DELAY=0.01 LOSS=0.03 hosts mpirun -n 2 "$BIN/dump-logits" --quiet "$MODEL" tokens.tsz \
        --batch-size 2 --full -o two
    [ "$status" = 0 ] || { cat log; false; }
    cmp two one
}

@test "a network that fails is noticed within --deadline, and which process is awaited is said" {
    yes "$(seq -s ' ' 30)" | head -n 20000 | "$BIN/tokenize" --ids --quiet -o long.tsz
    cat > cut <<'SH'
said() { until grep -q "$1" notes; do kill -0 $! || exit; sleep 0.1; done; }
mpirun -n 2 "$@" 2> notes &
said predicted
kill -USR1 "$CABLE"
said answered
kill -9 $!      # mpirun itself waits for ever for the other host
SH
    hosts sh cut "$BIN/dump-logits" "$MODEL" long.tsz --batch-size 1 --full \
        --deadline 2 -o never
    cat notes
    [ "$(grep -c 'dump-logits: rank 1 on pare1 has not answered for 2 seconds' notes)" = 1 ]
    [ ! -e never ]
}

@test "training on two hosts ends in the bits of two processes of one, also after a resume" {
    yes "$(seq -s ' ' 30)" | head -n 40 | "$BIN/tokenize" --ids --quiet -o tokens.tsz
    train=("$BIN/kd-train" --quiet "$MODEL" --data tokens.tsz --loss ce --batch-size 4
        --learning-rate 1e-2 --schedule constant)
    "$ROOT/tests/mpi/processes" 2 "${train[@]}" --max-steps 3 -o one
    for steps in 2 3; do
        hosts mpirun -n 2 "${train[@]}" --max-steps $steps --output-dir run --resume
        [ "$status" = 0 ] || { cat log; false; }
    done
    [ "$(ls run/checkpoint-*.part-1.tsz)" = "$(printf 'run/checkpoint-%s.part-1.tsz\n' 2 3)" ]
    cmp one run/model.tsz
}
