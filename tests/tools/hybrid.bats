# Hybrids of Mamba-2 layers and attention: scores of Mamba heads and their channels, and cuts along
# both, against transformers (tests/golden/hybrids); what a directory states; refusals.
bats_require_minimum_version 1.5.0

setup() {
    export PATH=${PARE_BIN:-$PWD/bin}:$PATH GOLDEN=$PWD/tests/golden PYTHONPATH=$PWD/tests/tools \
        PYTHONDONTWRITEBYTECODE=1
    export OMP_NUM_THREADS=1            # the models are tiny
    cd "$BATS_TEST_TMPDIR"
}

refused() {     # refused STATUS WORDS COMMAND...: one line that says WORDS, no output
    run "-$1" --separate-stderr "${@:3}" --quiet -o refused.tsz
    [ "${#stderr_lines[@]}" = 1 ] || { echo "$stderr"; false; }
    [[ $stderr == *"$2"* ]] || { echo "$stderr"; false; }
    [ ! -e refused.tsz ]
}

# ranked FAMILY: its golden tokens, acts, scores and rank, as tokens.tsz and so on
ranked() {
    python3 -c "
import json
for row in json.load(open('$GOLDEN/hybrids/$1.json'))['input_ids']:
    print(*row)" | tokenize --quiet --ids -o tokens.tsz
    calib-acts --quiet "$GOLDEN/families/$1" tokens.tsz -o acts.tsz
    score-importance --compress none acts.tsz -o scores.tsz
    rank scores.tsz -o rank.tsz
}

@test "scores and cuts are those of transformers" {
    for family in nemotron_h; do
        ranked $family
        python3 - "$GOLDEN/hybrids/$family.json" <<'P'
import json, stream, struct, sys
_, records = stream.read(open("scores.tsz", "rb"))
scores = {n: (s, struct.unpack("<%dd" % (len(b) // 8), b)) for n, d, s, b in records}
def near(name, want):
    shape, got = scores[name]
    want = [x for row in want for x in row] if isinstance(want[0], list) else want
    assert len(got) == len(want), (name, got, want)
    assert all(abs(a - b) <= 1e-4 * abs(b) + 1e-7 for a, b in zip(got, want)), (name, got, want)
for l, x in json.load(open(sys.argv[1]))["layers"].items():
    near("mamba_head_dim." + l, x["channels"])
    near("mamba_num_heads." + l, x["heads"])
    near("mamba_num_groups." + l, x["groups"])
    assert list(scores["mamba_head_dim." + l][0]) == [len(x["heads"]), len(x["channels"][0])]
    assert scores["mamba_num_heads." + l][0][0] == len(x["groups"])
P
        slice-model --quiet "$GOLDEN/families/$family" --rank rank.tsz --mamba-num-heads 4 \
            --mamba-head-dim 3 --verify tokens.tsz -o cut.tsz
        eval-ppl --quiet cut.tsz tokens.tsz > ppl
        python3 - "$GOLDEN/hybrids/$family.json" <<'P'
import json, sys
got, want = json.load(open("ppl"))["nll"], json.load(open(sys.argv[1]))["cut_nll"]
assert abs(got - want) < 1e-5, (got, want)
P
    done
}
