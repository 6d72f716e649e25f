# Scores of units beyond those of the papers: activations times weights, weights times gradients.
bats_require_minimum_version 1.5.0
load refused

setup() {
    export PATH=${PARE_BIN:-$PWD/bin}:$PATH GOLDEN=$PWD/tests/golden PYTHONPATH=$PWD/tests/tools \
        PYTHONDONTWRITEBYTECODE=1
    export OMP_NUM_THREADS=1            # the models are tiny
    prune="python3 $PWD/tests/tools/prune.py" scores="python3 $PWD/tests/tools/scores.py"
    cd "$BATS_TEST_TMPDIR"
}

# calibrated FAMILY: model.tsz, tokens.tsz, acts.tsz
calibrated() {
    $prune tokens "$1" tokens.tsz
    hf-import --quiet "$GOLDEN/families/$1" | hf-export --quiet --dtype f32 - model
    hf-import --quiet model -o model.tsz
    calib-acts --quiet model.tsz tokens.tsz -o acts.tsz
    rm -r model
}

@test "weighted: activations times the absolute weights that read them" {
    for family in llama olmo2 qwen3; do
        calibrated $family
        score-importance --score weighted --model model.tsz acts.tsz -o scores.tsz
        $scores weighted model.tsz acts.tsz scores.tsz
        score-importance --score weighted --model model.tsz acts.tsz --hidden with_final \
            -o scores.tsz
        $scores weighted model.tsz acts.tsz scores.tsz
    done
    score-importance --score weighted -m model.tsz acts.tsz --seq l2 -o wanda.tsz
    score-importance acts.tsz --seq l2 -o plain.tsz
    run -1 cmp -s <(ts-dump --head wanda.tsz | grep '^  "id"') \
        <(ts-dump --head plain.tsz | grep '^  "id"')
    $scores weighted model.tsz acts.tsz wanda.tsz l2
    rank wanda.tsz -o rank.tsz
    slice-model --quiet model.tsz --rank rank.tsz --intermediate-size 20 -o cut.tsz
    ts-dump --hist cut.tsz | grep -q -- '--score weighted'
}

@test "weighted: of a layer without MLP; refusals" {
    calibrated llama
    slice-model --quiet model.tsz --drop-mlp 1 -o half.tsz
    calib-acts --quiet half.tsz tokens.tsz |
        score-importance --score weighted -m half.tsz -o scores.tsz
    [ "$(ts-dump --values intermediate_size.1 scores.tsz | tr -d '0 \n')" = "" ]
    refused 2 "go together" score-importance --score weighted acts.tsz
    refused 2 "go together" score-importance -m model.tsz acts.tsz
    refused 2 "--neuron neuron_in2" score-importance --score weighted -m model.tsz --head \
        head_norm acts.tsz
    refused 1 "is of model" score-importance --score weighted -m half.tsz acts.tsz
}

@test "taylor: weights times torch's gradients, of a batch; of samples, the sizes are added up" {
    for family in llama llama_bias; do
        $scores ids $family tokens.tsz
        hf-import --quiet "$GOLDEN/families/$family" | hf-export --quiet --dtype f32 - $family
        hf-import --quiet $family -o model.tsz
        score-taylor --quiet model.tsz tokens.tsz --batch-size 2 -o scores.tsz
        $scores taylor $family model.tsz scores.tsz
    done
    # of two samples: never less than of both as one, and their mean
    score-taylor --quiet model.tsz tokens.tsz -o each.tsz
    for half in 0 1; do
        PYTHONPATH=$PYTHONPATH python3 -c '
import stream, sys
head, ((name, dtype, (n, length), data), *_) = stream.read(open("tokens.tsz", "rb"))
at, head["id"] = 4 * length * int(sys.argv[1]), stream.digest(sys.argv[1].encode())
stream.write(sys.stdout.buffer, head, [(name, dtype, [1, length], data[at:at + 4 * length])])
' $half > row.tsz
        score-taylor --quiet model.tsz row.tsz -o "row$half.tsz"
    done
    for axis in hidden_size num_key_value_heads.1 num_hidden_layers; do
        paste -d ' ' <(ts-dump --values $axis row0.tsz | tr ' ' '\n') \
            <(ts-dump --values $axis row1.tsz | tr ' ' '\n') \
            <(ts-dump --values $axis each.tsz | tr ' ' '\n') \
            <(ts-dump --values $axis scores.tsz | tr ' ' '\n') |
            awk '($1 + $2) / 2 - $3 > 1e-6 || $3 - ($1 + $2) / 2 > 1e-6 || $4 > $3 + 1e-6 { exit 1 }
                END { if (NR < 2) exit 1 }'
    done
    rank scores.tsz | slice-model --quiet model.tsz --rank - --hidden-size 20 -o cut.tsz
    ts-dump --hist cut.tsz | grep -q 'score-taylor .*--batch-size 2'
}
