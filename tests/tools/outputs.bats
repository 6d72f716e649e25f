# Outputs of tools appear whole or not at all, replace nothing but their target, and are not lost
# after hours of work.
bats_require_minimum_version 1.5.0
load refused

setup() {
    BIN=${PARE_BIN:-$PWD/bin}
    G=$PWD/tests/golden
    MODEL=$G/families/llama
    export OMP_WAIT_POLICY=passive
    cd "$BATS_TEST_TMPDIR" || exit
    for i in 1 2 3 4; do
        echo "$i 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19"
    done > ids.txt
    "$BIN/tokenize" --ids --seq-length 16 ids.txt -o data.tsz
    printf 'the cat sat on the mat, the cat sat on the hat\n' > text
    mkdir out
}

learn() { "$BIN/train-tokenizer" --vocab-size 259 text "$@"; }
tokens() { "$BIN/tokenize" --ids ids.txt "$@"; }
train() { "$BIN/kd-train" "$MODEL" --loss ce --data data.tsz --max-steps 2 --batch-size 2 "$@"; }

same_model() {      # same_model A B: directories, but for what names them
    diff -r -x README.md -x history.json "$1" "$2"
}

without_layer() {   # without_layer N FILE: the whole model but that layer
    "$BIN/ts-check" "$2"
    "$BIN/slice-model" model.tsz --drop-layers "$1" -o expected.tsz
    "$BIN/hf-export" --quiet --overwrite expected.tsz expected
    "$BIN/hf-export" --quiet --overwrite "$2" got
    same_model expected got
}

until_there() {     # until_there PATTERN: a regular file of that path in out
    for i in $(seq 500); do
        [ -z "$(find out -type f -path "$1")" ] || return 0
        sleep 0.02
    done
    false
}

@test "pipes and devices are written in place, also through links" {
    learn > plain.json
    mkfifo pipe
    ln -s pipe link
    for name in pipe link; do
        cat $name > got.json &
        learn -o $name
        wait $!
        cmp plain.json got.json
    done
    [ -p pipe ]
    [ -L link ]
    ln -s /dev/full full
    refused 1 "cannot write full: No space left on device" learn -o full
    refused 1 "cannot write full: No space left on device" tokens -o full
    [ -L full ]
    learn -o - | cmp plain.json
}

@test "/dev/stdout is standard output, also when that is a file" {
    learn > plain.json
    { echo before; learn -o /dev/stdout; echo after; } > all
    echo before >> more
    learn -o /dev/stdout >> more
    echo after >> more
    { echo before; cat plain.json; echo after; } | tee expected | cmp - all
    cmp expected more
    [ "$(learn -o /dev/stdout | cksum)" = "$(cksum < plain.json)" ]
}

@test "a link is kept, and the file it names is replaced or created" {
    learn > plain.json
    mkdir there
    echo old > there/file
    ln there/file hard
    ln -s there/file one
    ln -s one two
    learn -o two
    cmp there/file plain.json
    [ "$(cat hard)" = old ]
    ln -s new there/dangling
    learn -o there/dangling
    cmp there/new plain.json
    tokens -o two
    "$BIN/ts-check" there/file
    [ -L there/dangling ]
    [ -L one ]
    [ -L two ]
    [ "$(ls -A there | tr '\n' ' ')" = "dangling file new " ]
    ln -s round round
    refused 1 "Too many levels of symbolic links" learn -o round
}

@test "outputs get permissions according to umask" {
    (umask 027 && tokens -o a && learn -o b && "$BIN/hf-export" --quiet "$MODEL" c)
    [ "$(stat -c %a a b c c/config.json | tr '\n' ' ')" = "640 640 750 640 " ]
}

@test "an output that cannot be written is reported before the work" {
    mkfifo never
    refused 1 "no/such: No such file or directory" learn never -o no/such
    refused 1 "out: Is a directory" learn never -o out
    refused 1 "cannot write out/: " learn never -o out/
    refused 1 "cannot write : " learn never -o ''
    mkdir empty
    for here in . .. empty/. ../; do
        (cd empty && refused 1 "by name: give its name, not '$here'" \
            "$BIN/hf-export" "$MODEL" "$here")
    done
}

@test "remnants of SIGKILL go when the name is written again; files being written stay" {
    "$BIN/hf-import" "$MODEL" --compress none -o model.tsz
    begin() {   # begin COMMAND...: as far as its output has a name, its input open on descriptor 9
        mkfifo pipe
        exec 9<> pipe
        head -c 50000 model.tsz >&9
        "$@" < pipe 9>&- &
        # a directory is made once before, to see whether it can be: wait for a file
        until_there 'out/*.part*'
    }
    killed() {
        begin "$@"
        kill -KILL $!
        wait $! || true
        exec 9<&-
        rm pipe
        [ "$(find out -maxdepth 1 -name '*.part' | wc -l)" = 1 ]
        touch out/.other.0123456789abcdef.part out/.x.zzzz.part out/x.part
        "${@:1:1}" model.tsz "${@:3}"
        [ "$(find out -maxdepth 1 -name '*.part' -printf '%f\n' | sort | tr '\n' ' ')" \
            = ".other.0123456789abcdef.part .x.zzzz.part x.part " ]
        rm -r out
        mkdir out
    }
    killed "$BIN/slice-model" - --drop-layers 1 -o out/x
    killed "$BIN/hf-export" - out/x --quiet
    begin "$BIN/slice-model" - --drop-layers 1 -o out/x
    # the first has the name still, and is not done
    "$BIN/slice-model" model.tsz --drop-layers 0 -o out/x
    tail -c +50001 model.tsz >&9
    exec 9<&-
    wait $!
    without_layer 1 out/x
    [ "$(ls -A out)" = x ]
}

@test "two processes with the same process id write the same name, each completely" {
    unshare -prf --kill-child true 2> /dev/null || skip "no process namespaces here"
    "$BIN/hf-import" "$MODEL" --compress none -o model.tsz
    for n in 1 2; do
        mkfifo pipe$n
        unshare -prf --kill-child "$BIN/slice-model" - --drop-layers $((n - 1)) -o out/x < pipe$n &
    done
    exec 7> pipe1 8> pipe2
    head -c 50000 model.tsz >&7
    head -c 50000 model.tsz >&8
    for i in $(seq 500); do
        [ "$(find out -name '*.part' | wc -l)" = 2 ] && break
        sleep 0.02
    done
    tail -c +50001 model.tsz >&7
    exec 7>&-
    for i in $(seq 500); do
        [ -e out/x ] && break
        sleep 0.02
    done
    without_layer 0 out/x
    tail -c +50001 model.tsz >&8
    exec 8>&-
    wait
    without_layer 1 out/x
    [ "$(ls -A out)" = x ]
}

@test "a model that cannot be written in the end is in a checkpoint, and --resume writes it" {
    mkfifo log
    # spoil COMMAND: between the first step and the last, whose line does not fit into the pipe
    # before
    spoil() {
        {
            read -r line
            eval "$1"
            cat > /dev/null
        } < log
    }
    long() { train --quiet --max-steps 1000 "$@"; }
    long -o whole.tsz
    spoil 'mkdir out/x' &
    refused 1 "cannot write out/x: Is a directory; step 1000 is saved in run: continue" long \
        --log log --output-dir run -o out/x
    rmdir out/x
    long --output-dir run -o out/x --resume
    "$BIN/hf-export" --quiet whole.tsz whole
    "$BIN/hf-export" --quiet out/x resumed
    same_model whole resumed
    rm out/x
    spoil 'mkdir out/x; rm -r lost' &
    refused 1 \
        "cannot write out/x: Is a directory; nor can a checkpoint be saved: cannot write lost" \
        long --log log --output-dir lost -o out/x
    rmdir out/x
    spoil 'mkdir out/x' &
    refused 1 "cannot write out/x: Is a directory" long --log log -o out/x
}

@test "a reader that leaves ends the training with a checkpoint, long before the model" {
    long() { train --max-steps 100000 --quiet "$@"; }
    "$BIN/hf-export" --quiet "$MODEL" full
    mkfifo pipe
    exec 9<> pipe
    # into which nothing was written yet
    refused 1 "not empty" timeout 60 "$BIN/hf-export" - full < pipe
    exec 9<&-
    long -o - 2> note | true || true
    grep -q "cannot write standard output: Broken pipe" note
    long --log out/log --output-dir run -o - 2> note | until_there out/log || true
    grep -q "cannot write standard output: Broken pipe; step [0-9]* is saved in run" note
    [ -n "$(ls run/checkpoint-*)" ]
}

@test "a target that is full is known before the training" {
    refused 1 "cannot write /dev/full: No space left on device" train --quiet --max-steps 1000000 \
        -o /dev/full
}

@test "a log that cannot be written stops no training; what is written of it is whole lines" {
    run -1 --separate-stderr train --log /dev/full -o x.tsz
    full="cannot write /dev/full: No space left on device"
    [ "$(grep -c "$full; the training goes on" <<< "$stderr")" = 1 ]
    [[ ${stderr_lines[-1]} == *"$full; the model is complete, the log is not" ]]
    "$BIN/ts-check" x.tsz
    status=0
    (ulimit -f 1; train --max-steps 12 --log x.log --quiet -o - 2> note) > >(cat > y.tsz) ||
        status=$?
    [ $status = 1 ]
    grep -q "cannot write x.log: File too large; the model is complete, the log is not" note
    [ "$(tail -c 1 x.log | od -An -tx1)" = " 0a" ]
    [ "$(wc -l < x.log)" -ge 2 ]
    [ "$(wc -l < x.log)" -lt 12 ]
    train --max-steps 30 --log - --quiet -o z.tsz 2> note | head -1 || true
    "$BIN/ts-check" z.tsz
}

@test "--log cuts nothing but a log" {
    cp -r "$MODEL" model
    "$BIN/hf-import" model -o model.tsz
    find model data.tsz model.tsz text -type f -exec sha256sum {} + > before
    for name in model/config.json model/model.safetensors model.tsz data.tsz text; do
        refused 1 "--log $name: this file is not the log of a training run" "$BIN/kd-train" \
            model.tsz --loss ce --data data.tsz --max-steps 1 --log $name -o x.tsz
    done
    sha256sum --quiet -c before
    train --quiet --log x.log -o x.tsz
    cp x.log y.log
    refused 1 "--log x.log and the model are the same file" train --quiet --log x.log \
        -o "$PWD/x.log"
    cmp x.log y.log
    refused 1 "are the same file" train --quiet --log out/new -o out/new
    refused 1 "are the same file" train --quiet --log out/new -o out/../out/new
    printf '{"st' > x.log
    train --quiet --log x.log -o x.tsz
    [ "$(wc -l < x.log)" = 2 ]
}

@test "weights that the last update made infinite are neither written nor saved" {
    hot() {
        train --quiet --max-steps 1 --learning-rate 3e38 --weight-decay 1e38 --max-grad-norm 0 "$@"
    }
    refused 1 "after step 1 the weights are not finite" hot -o x.tsz
    refused 1 "after step 1 the weights are not finite" hot --output-dir run --save-steps 1
    [ ! -e x.tsz ]
    [ "$(ls -A run)" = log.jsonl ]
}

@test "options are checked in the type that they are used in" {
    refused 2 "--learning-rate must be above 0, not 1e+39 (inf in f32)" train --learning-rate 1e39
    refused 2 "--adam-beta2 must be at least 0 and below 1, not 0.99999999999 (1 in f32)" train \
        --adam-beta2 0.99999999999
    refused 2 "--adam-beta1 must be at least 0 and below 1, not 1" train --adam-beta1 1
    refused 2 "--adam-epsilon must be above 0, not 1e-60 (0 in f32)" train --adam-epsilon 1e-60
    refused 2 "--weight-decay must be 0 or above, not 1e+39 (inf in f32)" train --weight-decay 1e39
    refused 2 "--max-grad-norm must be 0 or above, not 1e-60 (0 in f32)" train --max-grad-norm 1e-60
    refused 2 "--min-learning-rate must be -1, 0 or above, not -0.5" train --min-learning-rate -0.5
}

@test "--resume with another number of threads is told" {
    train --threads 1 --save-steps 1 --output-dir run --quiet
    train --threads 1 --output-dir run --resume 2> note
    run ! grep "may differ" note
    train --threads 2 --output-dir run --resume 2> note
    grep -q "threads is now 2, was 1: the result may differ slightly" note
}
