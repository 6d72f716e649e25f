# Data of training and calibration: streams read by position, several sources, damage.
bats_require_minimum_version 1.5.0
load refused

setup() {
    BIN=${PARE_BIN:-$PWD/bin}
    G=$PWD/tests/golden STUDENT=$G/slice/llama/all
    export TOOLS=$PWD/tests/tools PYTHONPATH=$PWD/tests/tools
    export OMP_WAIT_POLICY=passive OMP_NUM_THREADS=1
    cd "$BATS_TEST_TMPDIR" || exit
}

# rows NAME SEED N [LENGTH]: a plain stream of N random rows; documents if LENGTH is 0
rows() {
    python3 - "$2" "$3" "${4:-8}" <<'P' | "$BIN/tokenize" --ids --seq-length "${4:-8}" \
        --compress none --quiet -o "$1"
import random, sys
seed, n, length = map(int, sys.argv[1:])
random.seed(seed)
for i in range(n):
    print(*[random.randrange(64) for _ in range(length or random.randrange(1, 12))])
P
}
train() {
    "$BIN/kd-train" "$STUDENT" --loss ce --batch-size 4 --learning-rate 1e-3 --quiet "$@"
}
# the records of streams, without their headers
same_records() {
    python3 - "$@" <<'P'
import stream, sys
first, *others = [stream.read(open(name, "rb"))[1] for name in sys.argv[1:]]
assert first and all(o == first for o in others)
P
}
without_speed() { sed 's/,"tokens_per_second":[0-9]*,"peak_rss":[0-9]*//' "$1"; }

@test "plain, compressed or through a pipe, rows or documents: the same model" {
    for length in 8 0; do
        rows plain.tsz 1 40 $length
        zstd -qf plain.tsz -o packed.tsz
        train --data plain.tsz --max-steps 15 --compress none -o plain
        train --data packed.tsz --max-steps 15 --compress none -o packed
        cat packed.tsz | train --data - --max-steps 15 --compress none -o pipe
        train --data - --max-steps 15 --compress none -o file < plain.tsz
        # frames of chunks that are longer than need be
        python3 - <<'P'
import stream
stream.write(open("long.tsz", "wb"), *stream.read(open("plain.tsz", "rb")))
P
        run ! cmp -s plain.tsz long.tsz
        train --data long.tsz --max-steps 15 --compress none -o long
        same_records plain packed pipe file long
    done
}

@test "memory does not grow with the data" {
    python3 - <<'P'
import os, stream
block = bytes(b % 64 if i % 4 == 0 else 0 for i, b in enumerate(os.urandom(1 << 16)))
for name, blocks in ("small", 8), ("large", 1000):
    data = block * blocks
    stream.write(open(name + ".tsz", "wb"),
                 {"kind": "tokens", "id": stream.digest(data), "hist": []},
                 [("ids", "u32", [len(data) // 256, 64], data)])
P
    zstd -q large.tsz -o packed.tsz
    for name in small large packed; do
        train --data $name.tsz --max-steps 8 --log $name.log -o x.tsz
    done
    python3 - <<'P'
import json
peak = {n: json.loads(open(n + ".log").readlines()[-1])["peak_rss"]
        for n in ("small", "large", "packed")}
assert max(peak["large"], peak["packed"]) < peak["small"] + 8e6, peak    # of 65 MB
P
}

@test "several sources by weight: log, history, ids; resumed in any step to the same bits" {
    rows a.tsz 1 17
    rows b.tsz 2 5
    rows c:2.tsz 3 9 0
    mix() {
        train --data a.tsz:3 --data c:2.tsz:0.5 --data b.tsz --max-steps 14 --compress none "$@"
    }
    mix --log whole.log -o whole.tsz
    python3 - <<'P'
import json, stream
log = [json.loads(line)["sequences"] for line in open("whole.log")]
assert all(sum(n.values()) == 4 * (i + 1) for i, n in enumerate(log))
assert all(abs(n["a.tsz"] - 3 * n["b.tsz"]) <= 3 for n in log)
assert log[-1] == {"a.tsz": 37, "c:2.tsz": 6, "b.tsz": 13}, log[-1]
header, _ = stream.read(open("whole.tsz", "rb"))
step = header["hist"][-1]
assert step["sequences"] == log[-1]
assert [i["path"] for i in step["inputs"]][1:] == ["a.tsz", "c:2.tsz", "b.tsz"]
P
    for step in 8 10; do
        rm -rf run
        train --data a.tsz:3 --data c:2.tsz:0.5 --data b.tsz --max-steps 14 --output-dir run \
            --save-steps $step --log cut.log -o x.tsz
        find run -name 'checkpoint-1[0-4].tsz' ! -name "checkpoint-$step.tsz" -delete
        mix --log cut.log --output-dir run --resume -o cut.tsz
        cmp cut.tsz whole.tsz
        cmp <(without_speed cut.log) <(without_speed whole.log)
    done
    refused 1 'written with data' train --data a.tsz:2 --data c:2.tsz:0.5 --data b.tsz \
        --max-steps 14 --output-dir run --resume -o x.tsz
    train --data a.tsz:6 --data c:2.tsz:1 --data b.tsz:2 --max-steps 14 --compress none -o y.tsz
    same_records whole.tsz y.tsz
    python3 -c 'import stream
assert len({stream.read(open(n, "rb"))[0]["id"] for n in ("whole.tsz", "y.tsz")}) == 2'
    "$BIN/ts-dump" --hist whole.tsz > again
    PATH=$BIN:$PATH sh again again.tsz
    cmp <(zstd -dcf again.tsz) whole.tsz
}

@test "shards are one source: the same model as from their joined text" {
    mkdir shards
    rows shards/1.tsz 1 6
    rows shards/10.tsz 2 1
    rows shards/2.tsz 3 5
    "$BIN/ts-cat" shards/1.tsz shards/10.tsz shards/2.tsz -o joined.tsz
    for order in shuffled sequential; do
        train --data 'shards/*.tsz' --order $order --max-steps 8 --compress none -o shards.tsz
        train --data joined.tsz --order $order --max-steps 8 --compress none -o whole.tsz
        same_records shards.tsz whole.tsz
    done
    "$BIN/ts-dump" --hist shards.tsz | grep -q "data 'shards/\*.tsz'"
    mv shards/2.tsz shards/0.tsz
    train --data 'shards/*.tsz' --order sequential --max-steps 8 --compress none -o moved.tsz
    if same_records shards.tsz moved.tsz; then false; fi
}

@test "what names no data is refused" {
    rows a.tsz 1 4
    rows b.tsz 2 4
    refused 2 '--data none*.tsz: no file' train --data 'none*.tsz' --max-steps 1
    refused 2 '--data a.tsz is given twice' train --data a.tsz --data a.tsz:2 --max-steps 1
    refused 2 "is in --data a.tsz and again in --data [a]*" train --data a.tsz --data '[a]*.tsz' \
        --max-steps 1
    refused 2 'from 0.000001 to 1000000' train --data a.tsz:0 --max-steps 1
    refused 1 'cannot open c.tsz' train --data a.tsz --data c.tsz:2 --max-steps 1
    "$BIN/tokenize" --ids <<< "1 2 300" > wide.tsz
    refused 1 'wide.tsz has token id 300' train --data a.tsz --data wide.tsz --max-steps 1
    "$BIN/tokenize" --ids <<< "1" > single.tsz
    refused 1 'single.tsz: its 1 tokens have no window' train --data a.tsz --data single.tsz \
        --max-steps 1
    refused 2 'can be read only once' train --data -:2 --eval-data - --max-steps 1 \
        < a.tsz
}

@test "every kind of damage to a stream is refused before the first step" {
    rows rows.tsz 1 40
    rows documents.tsz 2 40 0
    for name in rows documents; do
        train --data $name.tsz --max-steps 1 -o x.tsz
    done
    python3 - "$BIN/kd-train" "$STUDENT" <<'P'
import os, random, subprocess, sys
random.seed(4)
def refused(what):
    r = subprocess.run([sys.argv[1], sys.argv[2], "--loss", "ce", "--quiet", "--data", "bad.tsz",
                        "--max-steps", "1", "-o", "model.tsz"], capture_output=True, text=True)
    assert r.returncode == 1 and r.stderr.count("\n") == 1 and "bad.tsz" in r.stderr, (what, r)
    assert not os.path.exists("model.tsz")
def try_one(data, what):
    open("bad.tsz", "wb").write(data)
    refused(what)
for name in "rows", "documents":
    whole = open(name + ".tsz", "rb").read()
    packed = subprocess.run(["zstd", "-qc", name + ".tsz"], capture_output=True).stdout
    for form in whole, packed:
        for n in [0, 3, len(form) - 1] + random.sample(range(len(form)), 5):
            try_one(form[:n], ("cut to", n))
        for n in random.sample(range(len(form)), 12):
            bad = bytearray(form)
            bad[n] ^= 1 << random.randrange(8)
            try_one(bytes(bad), ("flipped at", n))
        try_one(form + b"x", "longer")
P
}

@test "a file that changes, shrinks or grows while it is read ends the run with one sentence" {
    for how in shrinks changes grows; do
        rows data.tsz 1 40
        mkfifo log
        train --data data.tsz --max-steps 20000 --log log -o x.tsz 2> err &
        exec 5< log
        read -r line <&5
        case $how in
        shrinks) : > data.tsz ;;
        changes) tr '!' '"' < data.tsz > other; cat other > data.tsz ;;     # 33 to 34
        grows) echo >> data.tsz ;;
        esac
        cat <&5 > /dev/null
        status=0
        wait $! || status=$?
        exec 5<&-
        rm log
        [ $status = 1 ]
        [ "$(cat err)" = "kd-train: data.tsz has changed while it was read" ]
        [ ! -e x.tsz ]
    done
}

@test "a copy that cannot be made: which directory, and what to do" {
    rows plain.tsz 1 5000
    zstd -q plain.tsz -o packed.tsz
    TMPDIR=$PWD/none refused 1 "nor copied to $PWD/none: cannot create" \
        train --data packed.tsz --max-steps 1 -o x.tsz
    TMPDIR=$PWD/none train --data plain.tsz --max-steps 1 -o x.tsz
    mkdir copies
    export TMPDIR=$PWD/copies
    limited() { (trap '' XFSZ; ulimit -f 100; train --data packed.tsz --max-steps 1 -o x.tsz); }
    refused 1 "--compress none" limited
    [ -z "$(ls "$TMPDIR")" ]
}

@test "calib-acts: N sequences of each of several texts, as of their joined text" {
    rows a.tsz 1 9
    rows b.tsz 2 7
    rows a5.tsz 1 5
    rows b3.tsz 2 3
    "$BIN/ts-cat" a5.tsz b3.tsz -o joined.tsz
    calib() { "$BIN/calib-acts" "$STUDENT" --compress none "$@"; }
    calib a.tsz:5 b.tsz:3 -o mix.tsz 2> notes
    calib joined.tsz -o whole.tsz
    same_records mix.tsz whole.tsz
    grep -q '8 samples, 64 positions' notes
    calib a.tsz b.tsz:8 -o all.tsz 2> notes
    grep -q '16 samples' notes
    grep -q 'b.tsz has only 7 of 8 sequences' notes
    calib a.tsz:4 b.tsz:3 -o other.tsz
    python3 - <<'P'
import stream
mix, other = (stream.read(open(n, "rb"))[0] for n in ("mix.tsz", "other.tsz"))
assert mix["id"] != other["id"] and mix["samples"] == 8
assert [s[1:] for s in mix["shards"]] == [[0, 5], [0, 3]], mix["shards"]
P
    calib b.tsz:3 -o b.acts
    refused 1 "shard" "$BIN/ts-cat" mix.tsz b.acts
    refused 1 "same stream" calib a.tsz:2 a.tsz --quiet
    refused 2 "whole number from 1" calib a.tsz:0 --quiet
    refused 2 "give one" calib --sequences 3 a.tsz:2 --quiet
    refused 2 "single TOKENS" calib --max-tokens 30 a.tsz b.tsz --quiet
}
