# Wrong operands: the message says what they are, what belongs there, and how to make it.
bats_require_minimum_version 1.5.0

setup() {
    BIN=${PARE_BIN:-$PWD/bin}
    G=$PWD/tests/golden
    LLAMA=$G/families/llama
    export OMP_WAIT_POLICY=passive
    cd "$BATS_TEST_TMPDIR" || exit
    echo "1 5 6 7" | "$BIN/tokenize" --ids -o tokens.tsz
    echo "And God said" > text.txt
}

refused() {     # refused WORDS COMMAND...: one line on stderr that ends with the words
    run -1 --separate-stderr "${@:2}"
    [ "${#stderr_lines[@]}" = 1 ] || { echo "$stderr"; false; }
    [[ $stderr == *"$1" ]] || { echo "$stderr"; false; }
}

@test "swapped operands, in every tool that takes a model and tokens" {
    "$BIN/hf-import" "$LLAMA" -o model.tsz
    for tool in calib-acts "dump-logits --full" probe-layers score-taylor; do
        usage="(usage: ${tool%% *} [OPTION]... MODEL TOKENS"
        run -1 "$BIN/"$tool tokens.tsz model.tsz
        [[ $output == *'tokens.tsz is a stream of kind "tokens", not a model: give '*"$usage"* ]]
    done
    refused 'model.tsz is a stream of kind "model", not "tokens"; one is made by tokenize -m '\
'MODEL TEXT (usage: eval-ppl [OPTION]... MODEL... TOKENS)' "$BIN/eval-ppl" tokens.tsz model.tsz
    refused "$LLAMA is the directory of a model, not a stream of kind \"tokens\"; one is made by "\
"tokenize -m MODEL TEXT (usage: eval-ppl [OPTION]... MODEL... TOKENS)" \
        "$BIN/eval-ppl" tokens.tsz "$LLAMA"
}

@test "text, or another stream, where a stream belongs" {
    refused 'text.txt is text, not a stream of kind "tokens"; one is made by tokenize -m MODEL '\
'text.txt' "$BIN/kd-train" "$LLAMA" --data text.txt --loss ce --max-steps 1 -o out.tsz
    refused 'text.txt is text, not a stream of kind "rank"; one is made by rank SCORES' \
        "$BIN/slice-model" "$LLAMA" --rank text.txt --hidden-size 8 -o out.tsz
    refused '"tokens", not "acts"; one is made by calib-acts MODEL TOKENS' \
        "$BIN/score-importance" tokens.tsz
    refused "text.txt is text, not a pare stream" "$BIN/ts-dump" text.txt
    refused "is the directory of a model, not a pare stream" "$BIN/ts-cat" "$LLAMA" tokens.tsz
}

@test "parts of a model where a MODEL belongs" {
    forms="give a directory with config.json and model.safetensors, a .gguf file, or a stream "\
"that hf-import or gguf-import made"
    for part in model.safetensors config.json; do
        refused "not a model: give the directory that it belongs to, $LLAMA" \
            "$BIN/hf-import" "$LLAMA/$part"
    done
    cp "$LLAMA/model.safetensors" alone.safetensors
    refused "alone.safetensors is a safetensors file, not a model: $forms" \
        "$BIN/slice-model" alone.safetensors --hidden-size 8
    refused "text.txt is text, not a model: $forms" "$BIN/tokenize" -m text.txt text.txt
    printf '\012\016\012\005<unk>\025\0\0\0\0\030\002' > tokenizer.model
    refused "tokenizer.model is a SentencePiece model, not a model: load it with AutoTokenizer of "\
"transformers and write tokenizer.json with save_pretrained" "$BIN/tokenize" -m tokenizer.model \
        text.txt
    printf 'PK\003\004 archive/data.pkl' > pytorch_model.bin
    refused "pytorch_model.bin is a ZIP archive, not a model: $forms" \
        "$BIN/generate" pytorch_model.bin --prompt x
}

@test "names of the Hub are not files: the message says how to fetch one" {
    for name in HuggingFaceTB/SmolLM2-135M gpt2; do
        refused "cannot open model '$name': No such file or directory; if it is a name on the "\
"Hugging Face Hub, fetch it with: hf download $name --local-dir ${name#*/}" \
            "$BIN/hf-import" "$name"
    done
    mkdir models
    for path in models/SmolLM2 /nowhere/m.tsz m.tsz ./gpt2 a/b/c; do
        refused "cannot open model '$path': No such file or directory" "$BIN/hf-import" "$path"
    done
}

@test "a missing model is found before work on those before it" {
    echo '{"text": "4 5", "choices": ["6", "7"], "answer": 0}' > items.jsonl
    for command in "eval-ppl $LLAMA m.tsz tokens.tsz" "eval-choice $LLAMA m.tsz items.jsonl" \
        "bench-model $LLAMA m.tsz"; do
        refused "cannot open model 'm.tsz': No such file or directory" $BIN/$command
        [ -z "$output" ]
    done
}
