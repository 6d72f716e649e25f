# Hybrids of Mamba-2 layers and attention: scores of Mamba heads and their channels, and cuts along
# both, against transformers (tests/golden/hybrids); what a directory states; refusals.
bats_require_minimum_version 1.5.0

setup() {
    export PATH=${PARE_BIN:-$PWD/bin}:$PATH GOLDEN=$PWD/tests/golden \
        PYTHONPATH=$PWD/tests/tools:$PWD/tests/hf PYTHONDONTWRITEBYTECODE=1
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
    for family in nemotron_h bamba granitemoehybrid; do
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

@test "every axis is cut; directories state what is left; training resumes to the same bits" {
    ranked nemotron_h
    slice-model --quiet "$GOLDEN/families/nemotron_h" --rank rank.tsz --mamba-num-groups 1 \
        --mamba-head-dim 2 --hidden-size 13 --intermediate-size 11 --num-attention-heads 2 \
        --drop-layers 0 --verify tokens.tsz -o cut.tsz
    hf-export --quiet cut.tsz cut
    python3 - <<'P'
import json
c = json.load(open("cut/config.json"))
assert c["hybrid_override_pattern"] == "-*M" and c["num_hidden_layers"] == 3, c
assert (c["n_groups"], c["mamba_num_heads"], c["mamba_head_dim"]) == (1, 3, 2), c
assert "layers_block_type" not in c and c["ssm_state_size"] == 5, c
P
    hf-import --quiet cut -o back.tsz
    kd() { kd-train --quiet "$1" --teacher "$GOLDEN/families/nemotron_h" --data tokens.tsz \
        --batch-size 2 --learning-rate 1e-3 --max-steps 4 "${@:2}"; }
    kd cut.tsz --save-steps 2 --output-dir steps
    mkdir half
    cp steps/checkpoint-2.tsz half/
    kd cut.tsz --save-steps 2 --output-dir half --resume
    cmp steps/model.tsz half/model.tsz
    kd cut.tsz --recompute -o again.tsz
    python3 "$OLDPWD/tests/tools/prune.py" close steps/model.tsz again.tsz 1e-6
    generate cut.tsz --prompt-ids "1 2 3" --max-new-tokens 4 --temperature 0 --ignore-eos > ids
    [ "$(wc -w < ids)" = 7 ]
}

@test "bamba: a directory has heads as wide as a multiple of the hidden size" {
    ranked bamba
    slice-model --quiet "$GOLDEN/families/bamba" --rank rank.tsz --mamba-num-groups 1 \
        --drop-layers 0 --verify tokens.tsz -o cut.tsz
    hf-export --quiet cut.tsz cut
    python3 - <<'P'
import json
c = json.load(open("cut/config.json"))
assert c["attn_layer_indices"] == [0] and c["num_hidden_layers"] == 2, c
assert (c["mamba_n_groups"], c["mamba_n_heads"], c["mamba_d_head"]) == (1, 3, 4), c
assert c["mamba_expand"] == 1 and c["head_dim"] == 8, c
P
    eval-ppl --quiet cut tokens.tsz > a
    eval-ppl --quiet cut.tsz tokens.tsz > b
    [ "$(grep -o '"nll":[0-9.]*' a)" = "$(grep -o '"nll":[0-9.]*' b)" ]
    slice-model --quiet "$GOLDEN/families/bamba" --rank rank.tsz --mamba-head-dim 3 -o odd.tsz
    run -1 --separate-stderr hf-export odd.tsz odd
    [[ $stderr == *"18 do not suit hidden_size 12, 24 would"* ]] || { echo "$stderr"; false; }
    run -1 --separate-stderr gguf-export cut.tsz x.gguf
    [[ $stderr == *"granitehybrid requires the Mamba heads of a layer to have twice as many"* ]]
    slice-model --quiet "$GOLDEN/families/bamba" --rank rank.tsz --drop-layers 1 -o plain.tsz
    run -1 --separate-stderr gguf-export plain.tsz x.gguf
    [[ $stderr == *"without any attention layer: keep one"* ]] || { echo "$stderr"; false; }
}

@test "a GGUF file holds the same function" {
    for family in nemotron_h granitemoehybrid bamba; do
        ranked $family
        model=$GOLDEN/families/$family
        run --separate-stderr gguf-export "$model" m.gguf --type f32
        if [ $family = nemotron_h ]; then
            [[ $stderr == *"does not keep the time steps of Mamba layers above 0.001"* ]]
        fi
        gguf-import --quiet m.gguf --compress none -o gguf.tsz
        eval-ppl --quiet "$model" tokens.tsz > a
        eval-ppl --quiet gguf.tsz tokens.tsz > b
        python3 - <<'P'
import json
a, b = (json.load(open(f))["nll"] for f in "ab")
assert abs(a - b) < 1e-6, (a, b)
P
    done
    run -1 --separate-stderr gguf-export "$GOLDEN/families/nemotron_h_bias" x.gguf
    [[ $stderr == *"has no bias of out_proj"* ]] || { echo "$stderr"; false; }
    # only half of each head is interleaved for llama.cpp, and it must be told to rotate: Granite
    # does not, unless the file says so
    python3 - "$GOLDEN/families/bamba" <<'P'
import gguf, st, sys
M, T = gguf.read("m.gguf")
data = open("m.gguf", "rb").read()
rows = st.load(sys.argv[1])["model.layers.1.self_attn.k_proj.weight"][2]
at, n = [0, 2, 1, 3, 4, 5, 6, 7], 12 * 4
stored = data[T["blk.1.attn_k.weight"][2]:]
for r in range(16):
    got = stored[(r // 8 * 8 + at[r % 8]) * n:][:n]
    assert got[2::4] == rows[r * 24:][:24:2] and got[3::4] == rows[r * 24:][1:24:2], r
assert M["granitehybrid.rope.scaling.finetuned"] and M["granitehybrid.rope.dimension_count"] == 4
assert M["granitehybrid.attention.head_count_kv"] == [0, 2, 0]
assert M["granitehybrid.feed_forward_length"] == 24
key = b"granitehybrid.rope.scaling.finetuned\7\0\0\0"
open("still.gguf", "wb").write(data.replace(key + b"\1", key + b"\0"))
P
    gguf-import --quiet still.gguf --compress none | ts-dump - | grep -q granitemoehybrid
    gguf-export --quiet "$GOLDEN/families/granitemoehybrid" g.gguf --type f32
    python3 - <<'P'
data, key = open("g.gguf", "rb").read(), b"granitehybrid.rope.scaling.finetuned\7\0\0\0"
open("turns.gguf", "wb").write(data.replace(key + b"\0", key + b"\1"))
P
    gguf-import --quiet turns.gguf --compress none -o turns.tsz
    gguf-export --quiet turns.tsz again.gguf --type f32
    python3 -c "
import gguf
assert gguf.read('again.gguf')[0]['granitehybrid.rope.scaling.finetuned']"
}

@test "granitemoehybrid without Mamba layers: a GGUF file of granite, directories after cuts" {
    model=$GOLDEN/families/granitemoehybrid_rope
    echo "1 5 9 2 7 3 8 4 6 11 30 12" | tokenize --quiet --ids -o tokens.tsz
    run --separate-stderr gguf-export "$model" m.gguf --type f32
    [[ $stderr == *"written as architecture granite, which computes the same"* ]] ||
        { echo "$stderr"; false; }
    gguf-import --quiet m.gguf --compress none -o gguf.tsz
    rank --quiet --magnitude "$model" -o rank.tsz
    for width in 10 8; do       # the class checks the Mamba heads that no layer has
        slice-model --quiet "$model" --rank rank.tsz --hidden-size $width \
            --num-attention-heads 2 -o $width.tsz
        hf-export --quiet $width.tsz $width
    done
    for m in "$model" gguf.tsz 10.tsz 10 8.tsz 8; do
        eval-ppl --quiet "$m" tokens.tsz
    done > losses
    python3 - <<'P'
import gguf, json
M, _ = gguf.read("m.gguf")
assert M["granite.rope.freq_base"] == 500 and not any(".ssm." in key for key in M), M
losses = [json.loads(line)["nll"] for line in open("losses")]
for a, b in zip(losses[::2], losses[1::2]):
    assert abs(a - b) < 1e-6, losses
for width in 10, 8:
    c = json.load(open(f"{width}/config.json"))
    assert c["hidden_size"] == width and c["position_embedding_type"] == "rope", c
    assert c["mamba_n_heads"] * c["mamba_d_head"] == c["mamba_expand"] * width, c
P
}

@test "budgets: every group keeps as many heads; a group that goes takes its heads along" {
    model=$GOLDEN/families/nemotron_h
    chosen() { slice-model "$model" --in-order --dry-run "$@" 2>&1 | sed -n 's/^options: //p'; }
    [ "$(chosen --ratio 0.9 --axes mamba-heads)" = "--mamba-num-heads 4" ]
    [ "$(chosen --ratio 0.9 --axes mamba-heads --mamba-num-groups 1)" = \
        "--mamba-num-groups 1 --mamba-num-heads 3" ]
    [ "$(chosen --ratio 0.8 --axes mamba-groups)" = "--mamba-num-groups 1 --mamba-num-heads 3" ]
    refused 2 "mamba-heads and mamba-groups cannot move together" slice-model "$model" --in-order \
        --ratio 0.9 --axes mamba-heads,mamba-groups
}

@test "refused: heads that groups cannot share, sizes where no Mamba layer stays, repair" {
    ranked nemotron_h
    model=$GOLDEN/families/nemotron_h
    refused 1 "--mamba-num-heads must be a multiple of 2" slice-model "$model" --rank rank.tsz \
        --mamba-num-heads 3
    refused 1 "no mamba stays there" slice-model "$model" --rank rank.tsz --mamba-num-heads 1:4
    refused 1 "--mamba-num-heads must be left out: no layer of the model has any" slice-model \
        "$GOLDEN/families/llama" --in-order --mamba-num-heads 1
    refused 1 "not yet those of Mamba layers" slice-model "$model" --rank rank.tsz \
        --mamba-num-heads 4 --repair tokens.tsz
    refused 2 "--mamba must be mamba_first_x, mamba_first_z or mamba_in2" score-importance \
        --mamba x acts.tsz
}
