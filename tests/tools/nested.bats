# Nested students: slice-model --sort, kd-train --widths, slice-model --in-order.
bats_require_minimum_version 1.5.0
load refused

setup() {
    export PATH=${PARE_BIN:-$PWD/bin}:$PATH GOLDEN=$PWD/tests/golden PYTHONPATH=$PWD/tests/tools \
        PYTHONDONTWRITEBYTECODE=1
    export OMP_NUM_THREADS=1            # the models are tiny
    prune="python3 $PWD/tests/tools/prune.py"
    teacher=$GOLDEN/families/llama
    cd "$BATS_TEST_TMPDIR"
    $prune tokens llama tokens.tsz
    rank --magnitude "$teacher" -o rank.tsz
    slice-model "$teacher" --rank rank.tsz --sort -o sorted.tsz
}

# train WIDTHS NAME OPTION...: NAME.tsz and NAME.log; WIDTHS may be "", for none
train() {
    local widths=${1:+--widths=$1} name=$2; shift 2
    kd-train sorted.tsz $widths --teacher "$teacher" --data tokens.tsz --batch-size 2 \
        --learning-rate 1e-3 --quiet --log "$name.log" -o "$name.tsz" "$@"
}

@test "the whole model as the only shape: the bits of a run without --widths" {
    echo full > full
    train full whole --max-steps 5 --gradient-accumulation-steps 2 --eval-data tokens.tsz
    train '' plain --max-steps 5 --gradient-accumulation-steps 2 --eval-data tokens.tsz
    $prune close whole.tsz plain.tsz 0
    same='s/"shape":"full",//; s/{"full":\([^}]*\)}/\1/g; s/,"tokens_per.*"peak_rss":[0-9]*//'
    cmp <(sed "$same" whole.log) <(sed "$same" plain.log)
}

@test "a nested model is trained as the cut one is; what lies outside it gets no gradient" {
    sizes="hidden-size=20 intermediate-size=21 num-attention-heads=4"
    for more in "" " num-key-value-heads=1 num-attention-heads=2" " drop-layers=2 drop-mlp=0"; do
        shape=${sizes% num*}$more
        [ -n "$more" ] || shape=$sizes
        options=$(for word in $shape; do echo "--$word"; done)
        echo "$shape" > one
        train one nested --max-steps 4 --gradient-accumulation-steps 2 --weight-decay 0 --recompute
        slice-model --quiet nested.tsz --in-order $options -o nested-cut.tsz
        slice-model --quiet sorted.tsz --in-order $options -o cut.tsz
        kd-train cut.tsz --teacher "$teacher" --data tokens.tsz --batch-size 2 --max-steps 4 \
            --gradient-accumulation-steps 2 --learning-rate 1e-3 --weight-decay 0 --quiet \
            --log alone.log -o alone.tsz
        # AdamW may round another way where it works on four or eight values at once
        $prune close nested-cut.tsz alone.tsz 1e-6
        python3 - "$shape" <<'P'
import json, sys
nested, alone = ([json.loads(l) for l in open(f)] for f in ("nested.log", "alone.log"))
for a, b in zip(nested, alone, strict=True):
    assert a["shape"] == sys.argv[1]
    for key in "loss", "grad_norm", "tokens":
        assert abs(a[key] - b[key]) <= 1e-5 * b[key], (a, b)
assert nested[0]["loss"] == alone[0]["loss"]
P
    done
    cmp <(ts-dump --values layers.2.up_proj.weight nested.tsz) \
        <(ts-dump --values layers.2.up_proj.weight sorted.tsz)
    run -1 cmp -s <(ts-dump --values layers.1.up_proj.weight nested.tsz) \
        <(ts-dump --values layers.1.up_proj.weight sorted.tsz)
}

@test "three shapes in one run: drawn by weight, each evaluated, cut out afterwards, resumed" {
    cat > three <<'W'
# the model itself, and two smaller ones
full weight=0.5

hidden-size=24   intermediate-size=30 weight=2     # drawn most
num-key-value-heads=1	drop-layers=1
W
    train three whole --max-steps 42 --eval-data tokens.tsz --eval-steps 21 --output-dir a
    train three parts --max-steps 42 --eval-data tokens.tsz --eval-steps 21 --output-dir b \
        --save-steps 25
    rm parts.tsz b/checkpoint-42.tsz
    train three parts --max-steps 42 --eval-data tokens.tsz --eval-steps 21 --output-dir b --resume
    cmp whole.tsz parts.tsz
    $prune close whole.tsz parts.tsz 0
    i=0
    for options in '' '--hidden-size 24 --intermediate-size 30' \
        '--num-key-value-heads 1 --drop-layers 1'; do
        slice-model --quiet whole.tsz --in-order $options -o $i.tsz
        eval-ppl --quiet $((i++)).tsz tokens.tsz --against "$teacher" >> cut-out
    done
    python3 - <<'P'
import collections, json
log = [json.loads(l) for l in open("whole.log")]
names = ["full", "hidden-size=24 intermediate-size=30", "num-key-value-heads=1 drop-layers=1"]
drawn = collections.Counter(l["shape"] for l in log)
want = {n: 42 * w / 3.5 for n, w in zip(names, (0.5, 2, 1))}
assert set(drawn) == set(names) and all(abs(drawn[n] - want[n]) < 10 for n in names), drawn
assert drawn[names[1]] > drawn[names[2]] > drawn[names[0]], drawn
assert [l["step"] for l in log if "eval_nll" in l] == [21, 42]
assert list(log[41]["eval_nll"]) == names
for n, cut in zip(names, map(json.loads, open("cut-out"))):
    for key, want in [("eval_nll", cut["nll"]), ("eval_kl", cut["against"]["kl"]),
                      ("eval_top1", cut["against"]["same_top1"])]:
        assert abs(log[41][key][n] - want) < 1e-9 * want, (n, key, log[41], want)
    assert log[41]["eval_nll"][n] < log[20]["eval_nll"][n] or n == "full"
P
    sed 's/weight=2/weight=3/' three > four
    refused 1 'was written with widths [["full", 0.5], ["hidden-size=24 intermediate-size=30", 2' \
        train four parts --max-steps 42 --output-dir b --resume
    train three short --max-steps 3 --eval-data tokens.tsz
    ts-dump --hist short.tsz > script
    grep -q -e '--widths three' script
    sh script again.tsz
    cmp short.tsz again.tsz
}

@test "a file of shapes is refused in one sentence that names the line" {
    bad() {     # bad WORDS LINE...
        printf '%s\n' "${@:2}" > bad.txt
        refused 1 "bad.txt$1" train bad.txt x --max-steps 1
        [ ! -e x.tsz ]
    }
    bad " lists no shape" ""
    bad " lists no shape" "# full"
    bad ', line 2: "hidden=20" is neither full' full hidden=20
    bad ', line 1: "20" is neither full' 20
    bad ', line 1: "vocab_size=20" is neither' vocab_size=20
    bad ", line 1: --hidden-size must be at most 36, not 37" hidden-size=37
    bad ", line 1: --hidden-size takes a whole number" hidden-size=wide
    bad ", line 3: the same shape as an earlier line, \"full\"" full hidden-size=20 hidden-size=36
    bad ", line 2: the same shape as an earlier line" "hidden-size=20 drop-mlp=1" \
        "drop-mlp=1 hidden-size=20 weight=3"
    bad ", line 1: layer 0: with num_key_value_heads 2, --num-attention-heads must be a multiple" \
        num-attention-heads=3
    bad ", line 1: hidden-size is given twice" "hidden-size=20 hidden-size=21"
    bad ", line 1: weight is given twice" "hidden-size=20 weight=1 weight=1"
    bad ", line 1: weight must be from 1e-6 to 1e6, not \"0\"" "full weight=0"
    bad ", line 1: a weight without a shape" weight=2
    bad ", line 1: full is the model itself and takes no sizes" "full hidden-size=20"
    bad ", line 1: the layers of a sorted model keep their places" num-hidden-layers=3
    bad ", line 1: --drop-layers names layer 4" drop-layers=4
    refused 1 "cannot open" train missing.txt x --max-steps 1
    echo hidden-size=20 > good
    kd-train "$teacher" --widths good --loss ce --data tokens.tsz --max-steps 1 -o x.tsz 2> notes
    grep -q "no step in the history of .* is slice-model --sort" notes
    kd-train sorted.tsz --widths good --loss ce --data tokens.tsz --max-steps 1 -o x.tsz 2> notes
    run -1 grep -q "slice-model --sort" notes
}

@test "memory is that of the largest nested model, predicted within 5 %" {
    python3 -c "
import random
random.seed(1)
for i in range(16): print(*[random.randrange(83) for _ in range(257)])" > long.ids
    tokenize --ids long.ids -o long.tsz
    mkdir wide
    sed -e 's/"hidden_size": [0-9]*/"hidden_size": 384/' \
        -e 's/"intermediate_size": [0-9]*/"intermediate_size": 1024/' \
        -e 's/"max_position_embeddings": [0-9]*/"max_position_embeddings": 256/' \
        "$teacher/config.json" > wide/config.json
    printf '%s\n' hidden-size=300 hidden-size=320 intermediate-size=900 intermediate-size=960 > four
    for n in 1 4; do
        tail -n $n four > shapes
        kd-train wide --init random --loss ce --data long.tsz --widths shapes --max-steps 8 \
            --batch-size 4 --log $n.log -o wide.tsz 2> $n.note
    done
    [ "$(sed -n 's/.*"shape":"\([^"]*\)".*/\1/p' 4.log | sort -u | wc -l)" = 4 ]
    [ -n "$PARE_SANITIZED" ] && skip "a sanitizer takes memory of its own"
    python3 - <<'P'
import json, re
predicted, used = [], []
for n in "14":
    predicted.append(float(re.search(r"memory ([0-9.]+) MB", open(n + ".note").read())[1]))
    used.append(json.loads(open(n + ".log").readlines()[-1])["peak_rss"] / 1e6)
print(predicted, used)
assert all(abs(p / u - 1) < 0.05 for p, u in zip(predicted, used))
assert predicted[1] < 1.02 * predicted[0] and used[1] < 1.05 * used[0]
P
}
