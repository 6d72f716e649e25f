# Mixtures of experts: scores of experts and of their neurons, and cuts along both, against
# transformers (tests/golden/experts); layers with and without experts; refusals.
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
for row in json.load(open('$GOLDEN/experts/$1.json'))['input_ids']:
    print(*row)" | tokenize --quiet --ids -o tokens.tsz
    calib-acts --quiet "$GOLDEN/families/$1" tokens.tsz -o acts.tsz
    score-importance --compress none acts.tsz -o scores.tsz
    rank scores.tsz -o rank.tsz
}

@test "more experts than a model can have are refused before their tensors are listed" {
    mkdir many
    python3 - "$GOLDEN/families/mixtral/config.json" <<'P'
import json, sys
c = json.load(open(sys.argv[1]))
c.update(num_hidden_layers=4096, num_local_experts=65536)
json.dump(c, open("many/config.json", "w"))
P
    refused 1 "layers 0 to 4 have 327680 experts; at most 262144 are allowed in all" hf-import many
}

@test "scores and cuts are those of transformers" {
    for family in mixtral qwen2_moe qwen3_moe olmoe granitemoe; do
        ranked $family
        score-importance --compress none --experts frequency acts.tsz -o shares.tsz
        python3 - "$GOLDEN/experts/$family.json" <<'P'
import json, stream, struct, sys
def read(path):
    _, records = stream.read(open(path, "rb"))
    return {n: struct.unpack("<%dd" % (len(b) // 8), b) for n, d, s, b in records}
scores, shares, want = read("scores.tsz"), read("shares.tsz"), json.load(open(sys.argv[1]))
def near(got, want):
    want = [x for row in want for x in row] if isinstance(want[0], list) else want
    assert len(got) == len(want)
    assert all(abs(a - b) <= 1e-4 * abs(b) + 1e-7 for a, b in zip(got, want)), (got, want)
layers = want["layers"]
assert {n for n in scores if n.startswith("num_experts")} == {"num_experts." + l for l in layers}
for l, x in layers.items():
    near(scores["num_experts." + l], x["reap"])
    near(shares["num_experts." + l], x["frequency"])
    near(scores["moe_intermediate_size." + l], x["neurons"])
    near(shares["moe_intermediate_size." + l], x["neurons"])
P
        slice-model --quiet "$GOLDEN/families/$family" --rank rank.tsz --num-experts 3 \
            --moe-intermediate-size 5 --verify tokens.tsz -o cut.tsz
        eval-ppl --quiet cut.tsz tokens.tsz > ppl
        python3 - "$GOLDEN/experts/$family.json" <<'P'
import json, sys
got, want = json.load(open("ppl"))["nll"], json.load(open(sys.argv[1]))["cut_nll"]
assert abs(got - want) < 1e-5, (got, want)
P
    done
}

@test "weighted scores and magnitudes have every axis; each document counts once" {
    ranked qwen2_moe
    score-importance --score weighted --compress none \
        --model "$GOLDEN/families/qwen2_moe" acts.tsz -o w.tsz
    rank --compress none --magnitude "$GOLDEN/families/qwen2_moe" -o magnitude.tsz
    score-taylor --quiet --compress none "$GOLDEN/families/qwen2_moe" tokens.tsz -o taylor.tsz
    for f in w magnitude taylor; do
        python3 - $f.tsz <<'P'
import stream, sys
_, records = stream.read(open(sys.argv[1], "rb"))
have = {n for n, *_ in records}
want = {"num_experts.1", "moe_intermediate_size.1", "shared_expert_intermediate_size.1",
        "intermediate_size.0", "intermediate_size.3"}
assert want <= have and not {"intermediate_size.1", "num_experts.0"} & have, have
P
    done
    calib-acts --quiet "$GOLDEN/families/qwen2_moe" tokens.tsz --batch-size 1 -o one.tsz
    python3 "$OLDPWD/tests/tools/prune.py" close acts.tsz one.tsz 1e-6
}

@test "layers keep what they are: experts, or an MLP, when others go" {
    ranked qwen3_moe
    slice-model --quiet "$GOLDEN/families/qwen3_moe" --drop-layers 1 --intermediate-size 9 \
        --rank rank.tsz --verify tokens.tsz -o cut.tsz
    hf-export --quiet cut.tsz cut
    python3 - <<'P'
import json
c = json.load(open("cut/config.json"))
assert c["mlp_only_layers"] == [0] and c["num_hidden_layers"] == 2, c
assert c["intermediate_size"] == 9 and c["moe_intermediate_size"] == 10, c
P
    ranked qwen2_moe
    slice-model --quiet "$GOLDEN/families/qwen2_moe" --drop-layers 0 --verify tokens.tsz -o cut.tsz
    rm -rf cut
    hf-export --quiet cut.tsz cut
    python3 - <<'P'
import json
c = json.load(open("cut/config.json"))
assert c["mlp_only_layers"] == [1, 2] and c["decoder_sparse_step"] == 1, c
P
}

@test "training and generation run, resumed to the same bits" {
    ranked mixtral
    slice-model --quiet "$GOLDEN/families/mixtral" --rank rank.tsz --num-experts 3 -o student.tsz
    kd() { kd-train --quiet student.tsz --teacher "$GOLDEN/families/mixtral" --data tokens.tsz \
        --batch-size 2 --learning-rate 1e-3 "$@"; }
    kd --max-steps 4 -o whole.tsz
    kd --max-steps 4 --recompute -o again.tsz
    cmp whole.tsz again.tsz || python3 "$OLDPWD/tests/tools/prune.py" close whole.tsz again.tsz 1e-6
    kd --max-steps 4 --save-steps 2 --output-dir steps
    mkdir half
    cp steps/checkpoint-2.tsz half/
    kd --max-steps 4 --save-steps 2 --output-dir half --resume
    cmp steps/model.tsz half/model.tsz
    generate whole.tsz --prompt-ids "1 2 3" --max-new-tokens 4 --temperature 0 --ignore-eos > ids
    [ "$(wc -w < ids)" = 7 ]
}

@test "a budget moves experts and their neurons, never below those that work for a token" {
    ranked mixtral
    slice-model "$GOLDEN/families/mixtral" --rank rank.tsz --parameters 24K --multiple-of 1 \
        --axes expert-ffn --dry-run > table
    grep -q '^options: --moe-intermediate-size 7$' table        # 1080 parameters a neuron
    slice-model "$GOLDEN/families/mixtral" --rank rank.tsz --parameters 24K --axes experts \
        --dry-run > table
    grep -q '^options: --num-experts 3$' table
    run -1 --separate-stderr slice-model "$GOLDEN/families/mixtral" --rank rank.tsz \
        --parameters 10K --axes experts --dry-run
    [[ $stderr == *"with --axes experts, the smallest model has 20268 parameters"* ]] ||
        { echo "$stderr"; false; }
}

@test "search-arch: experts and their neurons; its options make the shape that it describes" {
    ranked qwen2_moe
    model=$GOLDEN/families/qwen2_moe
    search-arch "$model" --experts 1:5:1 --expert-ffn 4,9 --shared-ffn 6 --ffn 8 > shapes
    [ "$(wc -l < shapes)" = 8 ]         # two experts work for a token
    grep -q '"num_experts":3,"moe_intermediate_size":4,' shapes
    search-arch "$model" --experts 3 --expert-ffn 4 --shared-ffn 6 --ffn 8 --table > table
    grep -q 'ffn experts each-ffn shared ' table
    grep -q '^ *4 *36 *6 *2 *8 *3 *4 *6 ' table
    options=$(sed -n '3s/.*"options":"\([^"]*\)".*/\1/p' shapes)
    [ "$options" = "--intermediate-size 8 --num-experts 3 --moe-intermediate-size 4 \
--shared-expert-intermediate-size 6" ]
    # shellcheck disable=SC2086
    slice-model "$model" --rank rank.tsz $options -o cut.tsz --quiet
    parameters() { grep -o '"parameters":[0-9]*'; }
    [ "$(eval-ppl --quiet cut.tsz tokens.tsz | parameters)" = "$(sed -n 3p shapes | parameters)" ]
}

@test "refused: too few experts, experts where there are none" {
    ranked qwen2_moe
    model=$GOLDEN/families/qwen2_moe
    refused 1 "--num-experts must be at least 2, the number of experts that work for each token" \
        slice-model "$model" --rank rank.tsz --num-experts 1
    refused 1 "no mixture of experts stays there" slice-model "$model" --rank rank.tsz \
        --num-experts 0:3
    refused 1 "no mlp stays there" slice-model "$model" --rank rank.tsz --intermediate-size 1:3
    refused 1 "--num-experts must be at most 5" slice-model "$model" --rank rank.tsz --num-experts 6
}
