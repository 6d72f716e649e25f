# Two different results never share an id: every option of every tool that writes a stream, from a
# table that must be complete.
bats_require_minimum_version 1.5.0

names() {
    BIN=${PARE_BIN:-$PWD/bin}
    ROOT=$PWD
    MODEL=$PWD/tests/golden/families/llama
    OTHER=$PWD/tests/golden/families/qwen3
    EXPERTS=$PWD/tests/golden/families/qwen2_moe
    MAMBA=$PWD/tests/golden/families/nemotron_h
    export OMP_WAIT_POLICY=passive
}

setup_file() {  # what the tools read, made once
    names
    cd "$BATS_FILE_TMPDIR" || exit
    for i in 1 2 3 4; do echo "$i 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19"; done > ids.txt
    "$BIN/tokenize" --ids --seq-length 16 ids.txt -o tokens.tsz
    sed "s/ 9 / 20 /" ids.txt | "$BIN/tokenize" --ids --seq-length 16 -o others.tsz
    PYTHONPATH=$ROOT/tests/tools python3 -c '
import stream, sys
head, (ids,) = stream.read(sys.stdin.buffer)
stream.write(sys.stdout.buffer, {k: v for k, v in head.items() if k != "pare"},
             [ids, ("flags", "u8", ids[2], bytes([1] * 8 + [0] * 8) * ids[2][0])])
' < <("$BIN/tokenize" --ids --seq-length 16 ids.txt) > flagged.tsz
    "$BIN/calib-acts" --quiet "$MODEL" tokens.tsz -o acts.tsz
    "$BIN/score-importance" acts.tsz -o scores.tsz
    "$BIN/rank" scores.tsz -o rank.tsz
    "$BIN/rank" --random 1 scores.tsz -o random.tsz
    "$BIN/dump-logits" --quiet "$MODEL" tokens.tsz --top-k 4 -o top.tsz
    "$BIN/dump-logits" --quiet "$MODEL" tokens.tsz --sample 4 -o sample.tsz
    printf '{"text": "a b", "other": "b a"}\n{"text": "c", "other": "d"}\n' > lines
    echo '{"messages": [{"role": "user", "content": "a"}]}' > chats
    "$BIN/train-tokenizer" --vocab-size 258 "$ROOT/README.md" -o words.json
    "$BIN/train-tokenizer" --vocab-size 300 "$ROOT/README.md" -o more.json
    PYTHONPATH=$ROOT/tests/tools python3 "$ROOT/tests/tools/vocab.py" model more.json worded \
        '{"bos_token_id": null}'
    rm worded/generation_config.json
    "$BIN/tokenize" -m worded "$ROOT/README.md" -o words.tsz
    "$BIN/score-vocab" --quiet worded words.tsz | "$BIN/rank" -o worded.rank
    "$BIN/calib-acts" --quiet "$EXPERTS" tokens.tsz -o experts.acts
    "$BIN/rank" --magnitude "$EXPERTS" -o experts.rank
    "$BIN/calib-acts" --quiet "$MAMBA" tokens.tsz -o mamba.acts
    "$BIN/rank" --magnitude "$MAMBA" -o mamba.rank
    cat > options <<END
calib-acts|max-tokens|16|32
calib-acts|first-sequence|0|1
calib-acts|sequences|1|2
calib-acts|seq-length|8|16
calib-acts|block-size|1|2
dump-logits|sample|2|3
dump-logits|top-k|2|3
dump-logits|tail|off|on
dump-logits|temperature|1|2
dump-logits|seed|1|2
dump-logits|seq-length|8|16
dump-logits|first-window|0|1
dump-logits|windows|1|2
dump-logits|max-tokens|16|32
probe-layers|block-size|1|2
probe-layers|by|loss|kl
probe-layers|greedy|1|2
probe-layers|max-tokens|16|32
probe-layers|context|8|24
probe-layers|seq-length|8|16
probe-layers|row-bos|no|yes
rank|random|1|2
score-taylor|max-tokens|16|32
score-taylor|context|8|24
score-taylor|seq-length|8|16
score-taylor|row-bos|no|yes
score-taylor|batch-size|1|2
score-importance|batch|mean|var
score-importance|seq|mean|l2
score-importance|neuron|neuron_in2|neuron_first_gate
score-importance|head|head_channel|head_norm
score-importance|hidden|no_final|with_final
score-importance|experts|reap|frequency
score-importance|mamba|mamba_first_x|mamba_in2
slice-model|hidden-size|16|24
slice-model|intermediate-size|16|0-1:16
slice-model|num-attention-heads|2|4
slice-model|merge-heads|qkv|qkvo
slice-model|dtype|f16|bf16
slice-model|repair-tokens|16|32
slice-model|repair-ridge|0.1|0.2
slice-model|num-key-value-heads|1|2
slice-model|num-hidden-layers|1|2
slice-model|num-experts|3|4
slice-model|moe-intermediate-size|3|4
slice-model|shared-expert-intermediate-size|3|4
slice-model|mamba-num-groups|1|2
slice-model|mamba-num-heads|2|4
slice-model|mamba-head-dim|2|3
slice-model|drop-layers|0|1
slice-model|drop-attention|0|1
slice-model|drop-mlp|0|1
slice-model|sort|off|on
slice-model|vocab-size|280|290
slice-model|drop-added|x|<*
tokenize|seq-length|2|3
tokenize|max-tokens|2|3
tokenize|field|text|other
tokenize|format|text|json
tokenize|chat-template|chatml|llama3
tokenize|doc-sep|a|b
tokenize|bos|auto|a
tokenize|row-bos|no|yes
tokenize|pack|off|on
kd-train|init|keep|random
kd-train|dtype|f16|bf16
kd-train|teacher-rest|renormalise|drop
kd-train|loss|kl|kl+ce
kd-train|loss-on|completion|all
kd-train|temperature|1|2
kd-train|temperature-squared|off|on
kd-train|jsd-beta|0.25|0.5
kd-train|states|block:-1:-1|emb
kd-train|states-loss|cosine|mse
kd-train|states-norm|next|none
kd-train|states-weight|auto|2
kd-train|max-steps|2|3
kd-train|batch-size|1|2
kd-train|gradient-accumulation-steps|1|2
kd-train|seq-length|3|4
kd-train|order|shuffled|sequential
kd-train|seed|1|2
kd-train|schedule|cosine|linear
kd-train|decay-steps|1|2
kd-train|learning-rate|0.1|0.2
kd-train|min-learning-rate|0.001|0.002
kd-train|warmup-steps|1|2
kd-train|weight-decay|0.1|0.2
kd-train|adam-beta1|0.5|0.6
kd-train|adam-beta2|0.5|0.6
kd-train|adam-epsilon|0.1|0.2
kd-train|max-grad-norm|0.1|0.2
kd-train|lora|1|2
kd-train|lora-alpha|1|2
kd-train|lora-targets|q_proj|k_proj
END
    cat > paths <<END
rank|magnitude|$MODEL|$OTHER
slice-model|rank|rank.tsz|random.tsz
slice-model|repair|tokens.tsz|others.tsz
tokenize|model|words.json|more.json
kd-train|teacher|$MODEL|cut.tsz
kd-train|data|tokens.tsz|others.tsz
kd-train|widths|one|two
kd-train|lift|lift-1|lift-2
kd-train|lora-from|peft-1|peft-2
kd-train|teacher-logits|sample.tsz|top.tsz
END
    echo hidden-size=16 > one
    echo hidden-size=24 > two
    for i in 1 2; do
        python3 -c '
import json, struct, sys
values = [int(sys.argv[1]) / 10] * 24 * 36
head = json.dumps({"lift": {"dtype": "F32", "shape": [24, 36],
                            "data_offsets": [0, 4 * len(values)]}}).encode()
sys.stdout.buffer.write(struct.pack("<Q", len(head)) + head +
                        struct.pack("<%df" % len(values), *values))' $i > lift-$i
    done
    cd "$ROOT" || exit
}

setup() {
    names
    cp -r "$BATS_FILE_TMPDIR/." "$BATS_TEST_TMPDIR"
    cd "$BATS_TEST_TMPDIR" || exit
    # options that change a result by rounding at most, or only permit it; those of slice-model's
    # budgets, which stand for the sizes that they choose (tests/tools/shape.bats); tokenize --ids,
    # dump-logits --full and --vocab-of, probe-layers --variants and --choices, score-importance
    # --score and slice-model --in-order are runs of another kind
    silent="calib-acts any-tokenizer batch-size
        dump-logits any-tokenizer batch-size full vocab-of
        probe-layers any-tokenizer batch-size table variants rank resume choices limit
        score-importance score model
        score-taylor any-tokenizer
        score-vocab any-tokenizer
        slice-model any-model any-tokenizer dry-run in-order verify verify-tokens
        slice-model parameters ratio bytes axes multiple-of
        tokenize ids
        ts-cat any-model
        kd-train any-tokenizer teacher-dtype recompute eval-data eval-steps log output-dir
        kd-train save-steps resume overwrite logging-steps adapter"
    common=" output compress threads device compute algorithms force stream-layers deadline"
    common+=" ignore-key quiet help version "
}

base() {        # base TOOL OPTION OPERAND: how the tool is run, but for that option
    case $1 in
    calib-acts | dump-logits | probe-layers | score-taylor)
        echo "$MODEL ${3:-tokens.tsz}"
        [ "$1" != dump-logits ] || case $2 in
            sample | top-k) ;;
            tail) echo --top-k=4 ;;
            temperature | seed) echo --sample=4 ;;
            *) echo --full ;;
        esac
        [ "$2" != row-bos ] || echo --context=8 ;;
    rank) [ "$2" = magnitude ] || echo "${3:-scores.tsz}" ;;
    score-importance)
        [ "$2" = experts ] && set -- "$1" "$2" "${3:-experts.acts}"
        [ "$2" = mamba ] && set -- "$1" "$2" "${3:-mamba.acts}"
        echo "${3:-acts.tsz}" ;;
    slice-model)
        case $2 in vocab-size | drop-added)
            echo worded --rank "${3:-worded.rank}"
            [ "$2" = vocab-size ] || echo --vocab-size 290
            return ;;
        esac
        case $2 in *expert* | moe-*)
            echo "$EXPERTS" --rank "${3:-experts.rank}"
            return ;;
        mamba-*)
            echo "$MAMBA" --rank "${3:-mamba.rank}"
            return ;;
        esac
        echo "$MODEL"
        [ "$2" = rank ] || echo --rank "${3:-rank.tsz}"
        case $2 in
        rank | repair*) echo --intermediate-size 16 ;;
        merge-heads) echo --num-attention-heads 4 ;;
        esac
        [[ $2 != repair-* ]] || echo --repair=tokens.tsz ;;
    tokenize)
        if [ "$2" = chat-template ]; then
            echo "${3:-chats} --field messages --model $ROOT/tests/golden/chat/smollm.json"
            return
        fi
        echo "${3:-lines}"
        [ "$2" = model ] || echo --model words.json
        [ "$2" != pack ] || echo --seq-length 3
        [ "$2" != row-bos ] || echo --bos a --seq-length 3 ;;
    kd-train)
        case $2 in
        teacher-logits | teacher-rest)
            [ "$2" = teacher-logits ] || echo --teacher-logits=top.tsz
            echo --data="${3:-tokens.tsz}" --max-steps=3 --batch-size=2 "$MODEL"
            return ;;
        esac
        data=tokens.tsz teacher=cut.tsz
        [ "$2" != loss-on ] || data=flagged.tsz
        [ "$2" != lift ] || teacher=$ROOT/tests/golden/slice/llama/all
        [[ $2 != states-* && $2 != lift ]] || echo --states=block:-1:-1
        [[ $2 != lora-[at]* ]] || echo --lora=2
        for row in teacher="$teacher" data="${3:-$data}" loss=kl+0.5ce+jsd temperature=3 \
            max-steps=3 batch-size=2 learning-rate=0.01; do
            [ "${row%%=*}" = "$2" ] || echo "--$row"
        done
        echo "$MODEL" ;;
    esac
}

# made FILE TOOL OPTION VALUE [OPERAND], VALUE on or off for one that takes none
made() {
    case $4 in
    off) set -- "$1" "$2" "$3" "" "${5:-}" ;;
    on) set -- "$1" "$2" "$3" "--$3" "${5:-}" ;;
    *) set -- "$1" "$2" "$3" "--$3=$4" "${5:-}" ;;
    esac
    # shellcheck disable=SC2046,SC2086
    "$BIN/$2" --quiet --compress none $4 $(base "$2" "$3" "${5:-}") > "$1"
}

# facts FILE...: of each a line, the id of what is made, and a digest of all else in it
facts() {
    PYTHONPATH=$ROOT/tests/tools python3 -c '
import hashlib, json, stream, sys
for path in sys.argv[1:]:
    head, records = stream.read(open(path, "rb"))
    made = head.pop("id")
    text = json.dumps({**head, "hist": 0}, sort_keys=True) + repr(records)
    print(made, hashlib.sha256(text.encode()).hexdigest())' "$@"
}

# differ TOOL OPTION A B: the two make different things of different ids, also where an operand is
# named as they are
differ() {
    made first.made "$1" "$2" "$3"
    made second.made "$1" "$2" "$4"
    both=$(facts first.made second.made)
    first=${both%$'\n'*} second=${both#*$'\n'}
    [ "${first#* }" != "${second#* }" ] || { echo "$*: the same is made"; false; }
    [ "${first% *}" != "${second% *}" ] || { echo "$*: one id for two results"; false; }
}

@test "the table has exactly the options of the tools that write streams" {
    for tool in "$BIN"/*; do
        tool=${tool##*/}
        [ -x "$BIN/$tool" ] && "$BIN/$tool" --help | grep -q -e '^  -o, --output' &&
            [[ $tool != train-tokenizer && $tool != generate ]] || continue
        for option in $("$BIN/$tool" --help | sed -nE 's/^  (-., )?--([a-z0-9-]+).*/\2/p'); do
            [[ $common == *" $option "* ]] && continue
            echo "$tool|$option"
        done
    done | sort > all
    {
        cat options paths | cut -d '|' -f 1,2
        echo "$silent" | while read -r tool names; do
            for name in $names; do echo "$tool|$name"; done
        done
    } | sort > known
    diff all known
}

@test "option values that change the output change the id" {
    "$BIN/slice-model" "$MODEL" --intermediate-size 16 --rank rank.tsz -o cut.tsz
    while IFS='|' read -r tool option a b; do
        differ "$tool" "$option" "$a" "$b"
        [[ $a$b == *[!0-9.]* ]] || continue
        case $tool in
        score-importance)
            case $option in
            experts | mamba) operand=$option.acts ;;
            *) operand=acts.tsz ;;
            esac ;;
        rank) operand=scores.tsz ;;
        slice-model)
            case $option in
            drop-added) operand=worded.rank ;;
            *expert* | moe-*) operand=experts.rank ;;
            mamba-*) operand=mamba.rank ;;
            *) operand=rank.tsz ;;
            esac ;;
        tokenize) [ "$option" = chat-template ] && operand=chats || operand=lines ;;
        kd-train) [ "$option" = loss-on ] && operand=flagged.tsz || operand=tokens.tsz ;;
        *) operand=tokens.tsz ;;
        esac
        cp "$operand" "./$a"
        cp "$operand" "./$b"
        made third.made "$tool" "$option" "$a" "$a"
        made fourth.made "$tool" "$option" "$b" "$b"
        [ "$(facts third.made fourth.made)" = "$both" ] ||
            { echo "$tool --$option: the name of its operand counts"; false; }
    done < options
}

@test "an option that names a file contributes the file's contents to the id" {
    "$BIN/slice-model" "$MODEL" --intermediate-size 16 --rank rank.tsz -o cut.tsz
    for i in 1 2; do
        "$BIN/kd-train" --quiet "$MODEL" --loss ce --data tokens.tsz --max-steps 1 --lora $i \
            --adapter peft-$i -o trained.tsz
    done
    while IFS='|' read -r tool option a b; do
        differ "$tool" "$option" "$a" "$b"
        renamed=renamed${a##*/*}
        cp -r "$a" "$renamed"
        made renamed.made "$tool" "$option" "$renamed"
        [ "$(facts renamed.made)" = "$first" ] ||
            { echo "$tool --$option: the name of its file counts"; false; }
        rm -r "$renamed"
    done < paths
}

@test "tokenize: every file of a model that shapes its tokens is in the id" {
    id_of() { "$BIN/tokenize" -m model lines "$@" | "$BIN/ts-dump" - | grep ^id: >> ids; }
    cp -r "$MODEL" model
    cp words.json model/tokenizer.json
    for bos in a b; do
        echo "{\"bos_token\": \"$bos\"}" > model/tokenizer_config.json
        id_of --bos yes
    done
    id_of
    cp more.json model/tokenizer.json
    id_of
    [ "$(sort -u ids | wc -l)" = 4 ]
    cp -r model copy
    rm -r model
    mv copy model
    id_of
    [ "$(sort -u ids | wc -l)" = 4 ]
}

@test "the same bytes as text and, by the file's name, as JSON lines have different ids" {
    cp lines text.jsonl
    made first.made tokenize doc-sep '}' lines
    made second.made tokenize doc-sep '}' text.jsonl
    read -r first _ <<< "$(facts first.made)"
    read -r second _ <<< "$(facts second.made)"
    [ -n "$first" ]
    [ -n "$second" ]
    [ "$first" != "$second" ]
}
