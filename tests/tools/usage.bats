# Mistakes of a hurried user: the same stream twice, impossible sizes, NaN weights, limits of the
# system, two runs at once.
bats_require_minimum_version 1.5.0
load refused

setup() {
    BIN=${PARE_BIN:-$PWD/bin}
    G=$PWD/tests/golden
    MODEL=$G/families/llama
    ROOT=$PWD
    export OMP_WAIT_POLICY=passive
    cd "$BATS_TEST_TMPDIR" || exit
    for i in 1 2 3 4; do echo "$i 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19"; done > ids.txt
    "$BIN/tokenize" --ids --seq-length 16 ids.txt -o data.tsz
}

with_nan() {    # with_nan DIR: the model with one weight that is not a number
    cp -r "$MODEL" "$1"
    python3 - "$1/model.safetensors" <<'END'
import json, struct, sys
b = bytearray(open(sys.argv[1], "rb").read())
n = struct.unpack("<Q", b[:8])[0]
t = next(v for k, v in json.loads(b[8:8 + n]).items() if "down_proj" in k)
assert t["dtype"] == "F32"
at = 8 + n + t["data_offsets"][0]
b[at:at + 4] = struct.pack("<f", float("nan"))
open(sys.argv[1], "wb").write(b)
END
}

@test "standard input is read once" {
    "$BIN/hf-import" "$MODEL" -o model.tsz
    refused 2 "read only once" "$BIN/eval-ppl" --quiet - - data.tsz < model.tsz
    refused 2 "read only once" "$BIN/kd-train" - --teacher - --data data.tsz --max-steps 1 \
        < model.tsz
    refused 2 "read only once" "$BIN/slice-model" - --drop-layers 1 --verify - < model.tsz
    refused 2 "read only once" "$BIN/ts-check" - - < model.tsz
    refused 2 "read only once" "$BIN/ts-cat" - - < data.tsz
    refused 2 "read only once" "$BIN/tokenize" --ids - - < ids.txt
    refused 2 "read only once" "$BIN/train-tokenizer" --vocab-size 259 - - < ids.txt
}

@test "refused: a size of 0, an empty list, an unknown choice" {
    refused 2 "--hidden-size must be at least 1, not 0" "$BIN/slice-model" "$MODEL" --hidden-size 0
    refused 2 "--drop-layers takes a list" "$BIN/slice-model" "$MODEL" --drop-layers ""
    refused 2 '--init must be keep or random, not "randm"' "$BIN/kd-train" "$MODEL" \
        --data data.tsz --loss ce --max-steps 1 --init randm
    refused 2 '--teacher-dtype must be keep or f32, not "f64"' "$BIN/kd-train" "$MODEL" \
        --data data.tsz --loss ce --max-steps 1 --teacher-dtype f64
    refused 2 "not 99999999 and 1" "$BIN/kd-train" "$MODEL" --data data.tsz --loss ce \
        --max-steps 1 --batch-size 99999999
    refused 2 "standard output" "$BIN/hf-export" "$MODEL" -
}

@test "lengths are limited to the data's; those beyond memory are refused by name" {
    "$BIN/calib-acts" --quiet "$MODEL" data.tsz --seq-length 99999999999 | "$BIN/ts-check"
    refused 2 "lower --batch-size" "$BIN/calib-acts" "$MODEL" data.tsz --batch-size 999999999
    "$BIN/tokenize" --ids ids.txt -o documents.tsz
    "$BIN/calib-acts" --quiet "$MODEL" documents.tsz --seq-length 99999999999 | "$BIN/ts-check"
}

@test "NaN weights pass no threshold, and every tool refuses them" {
    with_nan nan
    refused 1 "1 of 1 models is not finite" "$BIN/eval-ppl" --quiet nan data.tsz
    refused 1 "activations are not finite" "$BIN/calib-acts" --quiet nan data.tsz
    refused 1 "losses are not finite" "$BIN/probe-layers" --quiet nan data.tsz
    refused 1 "gradients are not finite" "$BIN/score-taylor" --quiet nan data.tsz
    refused 3 "exceeds --max-nll 9 or is not finite" "$BIN/eval-ppl" --quiet nan data.tsz \
        --max-nll 9
    refused 1 "not finite" "$BIN/rank" --magnitude nan
    refused 1 "not finite" "$BIN/generate" nan --prompt-ids 1
}

@test "exceeding a limit on file size is reported, and nothing is left behind" {
    mkdir out
    refused 1 "File too large" bash -c "ulimit -f 8; '$BIN/hf-export' '$MODEL' out/dir"
    refused 1 "File too large" bash -c "ulimit -f 8; '$BIN/hf-import' '$MODEL' -o out/file"
    [ -z "$(ls -A out)" ]
}

@test "a signal leaves no file or directory, and what was to be replaced stays" {
    "$BIN/hf-import" "$MODEL" --compress none -o model.tsz
    mkdir out
    "$BIN/hf-export" "$MODEL" out/there --quiet
    cp -r out/there there
    mkfifo pipe
    begun() { find out -type f -name '*.part' -o -path 'out/.*/*.safetensors'; }
    # ended SIGNALS STATUS COMMAND...: the command gets half a model and, when it has begun to
    # write, the signals
    ended() {
        exec 9<> pipe
        head -c 50000 model.tsz >&9
        # even if the parent of the test ignores them, as nohup does
        env --default-signal "${@:3}" < pipe 2> note 9>&- &
        for i in $(seq 500); do [ -z "$(begun)" ] || break; sleep 0.02; done
        [ -n "$(begun)" ]
        for s in $1; do kill -"$s" $!; sleep 0.1; done
        status=0
        wait $! || status=$?
        exec 9<&-
        [ $status = "$2" ]
        [ "$(ls -A out)" = there ]
    }
    for signal in TERM:143 HUP:129 PIPE:141; do
        ended ${signal%:*} ${signal#*:} "$BIN/hf-export" - out/new
        ended ${signal%:*} ${signal#*:} "$BIN/hf-export" - out/there --overwrite
        ended ${signal%:*} ${signal#*:} "$BIN/slice-model" - -o out/file
    done
    # the first would save and stop
    ended "TERM TERM" 143 "$BIN/kd-train" "$MODEL" --teacher - --data data.tsz --max-steps 1 \
        -o out/file
    grep -q '^kd-train: stopping after this step; the same signal again ends it at once$' note
    diff -r there out/there
}

@test "with standard descriptors closed no output goes to the wrong file" {
    "$BIN/hf-import" "$MODEL" --compress none -o model.tsz
    "$BIN/hf-import" "$MODEL" --compress none -o closed.tsz 0<&- 1>&- 2>&-
    cmp model.tsz closed.tsz
    refused 1 "Bad file descriptor" bash -c "'$BIN/ts-dump' model.tsz >&-"
    refused 1 "Bad file descriptor" bash -c "'$BIN/ts-check' - <&-"
    run -1 bash -c "'$BIN/ts-check' none.tsz 2>&-"
    # it has notes
    "$BIN/kd-train" - --loss ce --data data.tsz --max-steps 1 -o trained.tsz < model.tsz 2>&-
    "$BIN/ts-check" trained.tsz
}

@test "too low a limit on address space is reported: no abort, nothing left behind" {
    [ -z "${PARE_SANITIZED:-}" ] || skip "address space is the sanitizer's own"
    mkdir wide out
    sed -e 's/"hidden_size": [0-9]*/"hidden_size": 384/' \
        -e 's/"intermediate_size": [0-9]*/"intermediate_size": 1024/' \
        "$MODEL/config.json" > wide/config.json
    for i in $(seq 16); do seq -s ' ' $i $((i + 63)); done | "$BIN/tokenize" --ids -o long.tsz
    "$BIN/kd-train" wide --init random --loss ce --data data.tsz --max-steps 1 --quiet -o wide.tsz
    within() {  # within KB COMMAND...: done or refused
        status=0
        (ulimit -c 0; ulimit -v "$1"; exec "${@:2}" --threads 2 > /dev/null 2> note) || status=$?
        echo "$status" >> statuses
        if [ $status = 0 ]; then
            rm -f out/x.tsz
        elif [ $status != 1 ] || [ "$(wc -l < note)" != 1 ]; then
            echo "$*: $status"
            cat note
            false
        fi
        [ -z "$(ls -A out)" ]
    }
    for kb in $(seq 60000 4000 160000); do
        within $kb "$BIN/eval-ppl" --quiet wide.tsz long.tsz
    done
    for kb in $(seq 132000 12000 324000); do
        within $kb "$BIN/kd-train" --quiet wide.tsz --loss ce --data long.tsz --max-steps 1 \
            --batch-size 8 -o out/x.tsz
    done
    [ "$(sort -u statuses | tr '\n' ' ')" = "0 1 " ]
}

@test "two runs do not share an output directory" {
    mkdir run
    exec 9< run
    flock 9
    refused 1 "run is the output directory of another run" "$BIN/kd-train" "$MODEL" --loss ce \
        --data data.tsz --max-steps 1 --batch-size 2 --output-dir run
    exec 9<&-
    "$BIN/kd-train" "$MODEL" --loss ce --data data.tsz --max-steps 1 --batch-size 2 \
        --output-dir run --quiet
}

@test "the dispatcher works through a link, and prints its release" {
    mkdir inst
    cp "$ROOT/pipelines/pare" "$BIN/ts-check" inst
    ln -s inst/pare p
    ./p ts-check data.tsz
    [[ $(./p --version) =~ ^pare\ [0-9.]+$ ]]
    [[ $(inst/ts-check --version) == *" ${BASH_REMATCH[0]#pare }" ]]
}

@test "help is at most 80 columns wide, and every tool has an example that names it" {
    for source in "$ROOT"/bin/*.c; do
        tool=$(basename "$source" .c)
        "$BIN/$tool" --help > help
        awk 'length > 80 { print; bad = 1 } END { exit bad }' help
        sed -n '/^Example:/,/^$/p' help | grep -q "^  .*$tool"
    done
}

@test "help that says what 0 does also says what the default is" {
    for source in "$ROOT"/bin/*.c; do
        "$BIN/$(basename "$source" .c)" --help > help
        python3 - <<'END'
import re
options = re.split(r"\n  (?=-)", open("help").read().split("\nOptions:")[1])
for text in (" ".join(option.split()) for option in options):
    assert " 0: " not in text or "default" in text or "not given" in text, text
END
    done
    "$BIN/generate" --help | grep -A 1 -e --temperature | grep -q '(default 0)$'
}

@test "hf-export does not replace the directory that holds its operand" {
    "$BIN/hf-export" "$MODEL" dir 2> /dev/null
    "$BIN/hf-import" dir -o dir/model.tsz
    refused 2 "is inside" "$BIN/hf-export" dir/model.tsz dir --overwrite
    [ -e dir/model.tsz ]
}

@test "a directory with only a SentencePiece model: the message says how to get a tokenizer.json" {
    mkdir spm
    cp "$MODEL/config.json" "$MODEL/model.safetensors" spm
    echo x > spm/tokenizer.model
    refused 1 save_pretrained "$BIN/tokenize" -m spm ids.txt
}

@test "with fewer threads than requested, every tool gives the bytes of that many" {
    computing() {   # computing TOOL OUT OPTION...: a small run of every tool that has --threads
        case $1 in
        calib-acts | dump-logits | probe-layers | score-taylor) set -- "$@" "$MODEL" data.tsz ;;
        kd-train) set -- "$@" "$MODEL" --teacher "$MODEL" --data data.tsz --loss kl+0.5ce \
            --max-steps 2 --batch-size 4 --seed 3 ;;
        eval-ppl) set -- "$@" "$MODEL" data.tsz --batch-size 2 ;;
        bench-model) set -- "$@" "$MODEL" --context 4 --seconds 1e-6 ;;
        eval-choice) set -- "$@" "$ROOT/pipelines/teacher" choices.jsonl ;;
        generate) set -- "$@" "$MODEL" --prompt-ids 5,6,7 --max-new-tokens 8 ;;
        search-arch) set -- "$@" "$MODEL" --layers 1,2 --context 16 ;;
        slice-model) set -- "$@" "$MODEL" --in-order --intermediate-size 20 --repair data.tsz ;;
        *) echo "$1: no run of it here"; false ;;
        esac
        [ "$1" != dump-logits ] || set -- "$@" --full
        "$BIN/$1" --quiet "${@:3}" > "$2.raw"
        sed -E 's/"(seconds|tokens_per_second|peak_rss)":[0-9.e-]*//g
            s/"(memory|prefill|decode|device_flops|device_bytes)":[0-9.e+-]*//g' "$2.raw" > "$2"
    }
    echo '{"ctx": "And God", "choices": [" said,", " saw the light."], "gold": 0}' > choices.jsonl
    for tool in "$BIN"/*; do
        tool=${tool##*/}
        [ -x "$BIN/$tool" ] && "$BIN/$tool" --help | grep -q -e "^  --threads " || continue
        for n in 1 2 3; do computing "$tool" $n --threads $n; done
        for limit in OMP_THREAD_LIMIT=1:1 OMP_MAX_ACTIVE_LEVELS=0:1 OMP_THREAD_LIMIT=2:2 \
            OMP_DYNAMIC=true:3 OMP_NUM_THREADS=1:3 OMP_NESTED=true:3; do
            export "${limit%:*}"
            computing "$tool" limited --threads 3
            unset "${limit%%=*}"
            cmp limited "${limit#*:}" || { echo "$tool, $limit"; false; }
        done
        for n in 1 3; do
            OMP_NUM_THREADS=$n computing "$tool" asked
            cmp asked $n || { echo "$tool, OMP_NUM_THREADS=$n"; false; }
        done
    done
}

@test "too small a thread stack is reported, not overrun" {
    refused 2 "--threads must be from 0 to 1024, not 1025" "$BIN/eval-ppl" --threads 1025 "$MODEL" \
        data.tsz
    refused 1 "a stack of 16 KB" env OMP_STACKSIZE=16K "$BIN/eval-ppl" --threads 2 "$MODEL" data.tsz
}

@test "a FIFO in place of a file is refused at once" {
    cp -r "$MODEL" m
    for file in config.json model.safetensors; do
        mv m/$file kept
        mkfifo m/$file
        refused 1 "not a regular file" timeout 20 "$BIN/hf-import" m -o m.tsz
        rm m/$file
        mv kept m/$file
    done
}

@test "fewer threads than requested are noted, and the actual number is recorded" {
    export OMP_THREAD_LIMIT=2
    "$BIN/calib-acts" "$MODEL" data.tsz --threads 3 -o acts.tsz 2> note
    grep -q -e '--threads 3: the environment allows only 2' note
    "$BIN/ts-dump" --hist acts.tsz | grep -q -e '--threads 2'
    [[ $("$BIN/eval-ppl" --quiet "$MODEL" data.tsz --threads 3) == *'"threads":2'* ]]
}

@test "a computing tool restarts itself with tuned settings, unless PARE_RESTART=0" {
    for restart in 1 0; do
        mkfifo pipe
        PARE_RESTART=$restart "$BIN/eval-ppl" --quiet "$MODEL" pipe &
        exec {writer}> pipe         # returns when the tool reads
        [ "$(cat /proc/$!/comm)" = eval-ppl ]
        tuned=$(tr '\0' '\n' < /proc/$!/environ |
            grep -c '^GLIBC_TUNABLES=.*glibc.malloc.tcache_count=0' || true)
        [ "$tuned" = "$restart" ]
        exec {writer}>&-
        wait $! || true
        rm pipe
    done
}

@test "gguf-import's help lists every architecture that a family reads" {
    "$BIN/gguf-import" --help > help
    for arch in \
        $(sed -n 's/^GGUF(.arch = "\([a-z0-9]*\)".*/\1/p' "$ROOT"/lib/model/families/*.def); do
        grep -qw "$arch" help || { echo "no $arch"; false; }
    done
}

@test "pare names the tool that a mistyped one is nearest to" {
    for pair in slice-modle:slice-model ts_dump:ts-dump eval-pl:eval-ppl rnak:rank; do
        run -2 "$BIN/pare" "${pair%:*}"
        [ "$output" = "pare: no tool \"${pair%:*}\"; did you mean ${pair#*:}? run pare alone for a \
list" ]
    done
    run -2 "$BIN/pare" something
    [ "$output" = 'pare: no tool "something"; run pare alone for a list' ]
}

@test "make names the headers that are missing, and what installs them" {
    run make -C "$BATS_TEST_DIRNAME/../.." BUILD="$PWD/none" BINDIR="$PWD/none/bin" \
        CC='gcc -nostdinc' "$PWD/none/bin/rank"
    [ "$status" = 2 ]
    [[ $output == *"does not find: msgpack.h"*"jansson.h"*"apt install"*"dnf install"*"brew"* ]]
    [[ $output != *"CC  "* ]]
}

@test "pare lists every tool, and its man page is made from that" {
    for source in "$ROOT"/bin/*.c; do
        "$BIN/pare" --help | grep -q "^  $(basename "$source" .c) "
    done
    [ "$("$BIN/pare" | awk '{ if (length > n) n = length } END { print n }')" -le 80 ]
    sh "$ROOT/pipelines/man" "$BIN/pare" > pare.1
    grep -q '^pare \\- make compact language models' pare.1
    grep -q '^ *kd\\-train  *Train a model' pare.1
    grep -q '^.SH TOOLS' pare.1
}

@test "a whole number that must not be negative is refused with its option and value" {
    refused 2 "--max-tokens must be at least 0, not -1" "$BIN/calib-acts" m d --max-tokens -1
    refused 2 "--seq-length must be at least 0, not -2" "$BIN/tokenize" --seq-length -2
    refused 2 "--random must be at least 0, not -1" "$BIN/rank" --random -1
    refused 2 "--batch-size must be at least 0, not -3" "$BIN/eval-ppl" m d --batch-size -3
    refused 2 "--top-p must be above 0 and at most 1, not 2" "$BIN/generate" m --prompt a --top-p 2
    refused 2 "--max-steps must be at least 1, not 0" "$BIN/kd-train" m --max-steps 0
}

@test "further lines of a list item are indented, and a man page ends the list where help does" {
    "$BIN/tokenize" --help > help
    grep -qx '  prompt' help
    sh "$ROOT/pipelines/man" "$BIN/kd-train" > kd-train.1
    [ "$(grep -B 1 '^If the models differ' kd-train.1 | head -n 1)" = .PP ]
}

@test "completion for bash: tools, options, choices, in both ways to call a tool" {
    sed 's/@TOOLS@/kd-train/' "$ROOT/pipelines/completion/bash" > completion
    cp "$ROOT/bin/pare" "$BIN/kd-train" "$BIN/ts-check" .
    # shellcheck disable=SC1091
    . ./completion
    PATH=$PWD:$PATH
    completes() {   # completes WORDS WORD...: the last WORD may become one of WORDS
        COMP_WORDS=("${@:2}") COMP_CWORD=$(($# - 2))
        _pare || true
        [ "${COMPREPLY[*]}" = "$1" ] || { echo "${*:2}: ${COMPREPLY[*]}"; false; }
    }
    completes "help kd-train ts-check" pare ""
    completes kd-train pare help kd
    completes "--teacher --teacher-logits --teacher-rest --teacher-dtype" kd-train --tea
    completes "--teacher --teacher-logits --teacher-rest --teacher-dtype" pare kd-train --tea
    completes "cpu cuda" kd-train --device ""
    completes linear pare kd-train --schedule = li
    completes "" kd-train --max-steps ""
    completes "" kd-train model
}

@test "mistaken options: the right one is named; the last value counts, and that is said" {
    refused 2 "did you mean --learning-rate?" "$BIN/kd-train" --lr 3 "$MODEL"
    refused 2 "did you mean --num-hidden-layers?" "$BIN/slice-model" --layers 3 "$MODEL"
    "$BIN/eval-ppl" --max-tokens 16 --max_tokens 32 "$MODEL" data.tsz 2> notes |
        grep -q '"max_tokens":32'
    grep -q "^eval-ppl: --max-tokens 32 replaces --max-tokens 16$" notes
    "$BIN/ts-check" -h | grep -q '^Usage: ts-check'
    "$BIN/eval-ppl" --seq_len 8 --quiet "$MODEL" data.tsz | grep -q '"seq_length":8'
}

@test "install: a path with blanks, only the dispatcher among commands; uninstall leaves nothing" {
    [ -z "${PARE_SANITIZED:-}" ] || skip "the same files"
    make -s -C "$ROOT" install PREFIX="$PWD/a b" LIBEXEC=1 > /dev/null
    [ "$(ls "a b/bin")" = pare ]
    "a b/bin/pare" help rank | grep -q '^Usage: rank'
    "a b/bin/pare" ts-check data.tsz
    make -s -C "$ROOT" uninstall PREFIX="$PWD/a b" LIBEXEC=1
    [ -z "$(find "a b" -type f)" ]
}

@test "more memory than is left is refused before it is taken, with what helps" {
    [ -z "${PARE_SANITIZED:-}" ] || skip "a sanitizer takes memory of its own"
    calibrate() { "$BIN/calib-acts" "$MODEL" data.tsz --batch-size "$1" "${@:2}" > acts; }
    calibrate 100000 2> note
    per=$(sed -n 's/.*activations and sums \([0-9]*\).*/\1/p' note)
    # nearly all that the machine has, so more than is left; the kernel lends that much unasked
    batch=$(awk -v per="$per" '/MemTotal/ { print int($2 * 1.024 / 1000 * 0.99 / per * 100000) }' \
        /proc/meminfo)
    run --separate-stderr -1 calibrate "$batch"
    [[ $stderr == *"memory are left: lower --batch-size or --seq-length; --force starts anyway"* ||
        $stderr == *"cannot reserve"* ]]
}
