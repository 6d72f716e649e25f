#!/usr/bin/env bats
# Conversations, and prompts with completions: which template, what counts in a loss, refusals. That
# ids are those of transformers is tested in tests/unit/chat.c and tests/hf/chat.py.

setup() {
    PARE_BIN=${PARE_BIN:-$PWD/bin}
    dir=$BATS_TEST_TMPDIR
    chat="[{\"role\": \"user\", \"content\": \"the\"},
        {\"role\": \"assistant\", \"content\": \"word\"}]"
    chat=$(echo "$chat" | tr -d '\n')
}

# model DIR TOKENIZER TEMPLATE EOS: a directory with a template in chat_template.jinja, or without
model() {
    mkdir -p "$1"
    cp tests/golden/families/llama/config.json tests/golden/families/llama/model.safetensors "$1"
    cp "tests/golden/chat/$2.json" "$1/tokenizer.json"
    [ -z "$3" ] || printf '%s' "$3" > "$1/chat_template.jinja"
    # the length that transformers writes for tokenizers without a limit
    printf '{"eos_token": "%s", "model_max_length": 1000000000000000019884624838656}' "$4" \
        > "$1/tokenizer_config.json"
}

chatml="{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + \
message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}\
{{ '<|im_start|>assistant\n' }}{% endif %}"

# tokens DIR FILE [OPTION]...: the stream as lines "RECORD: values"
tokens() {
    "$PARE_BIN/tokenize" -m "$@" --quiet -o "$dir/tokens.tsz" || return
    records=$("$PARE_BIN/ts-dump" "$dir/tokens.tsz" | sed -n 's/^\([a-z.0-9]*\) u[38].*/\1/p')
    for record in $records; do
        echo "$record: $("$PARE_BIN/ts-dump" --values "$record" "$dir/tokens.tsz" | tr '\n' ' ')"
    done
}

@test "a model's template is known by its text, wherever it stands, and counts the answers alone" {
    model "$dir/m" smollm "$chatml" "<|im_end|>"
    echo "{\"messages\": $chat}" > "$dir/a.jsonl"
    run tokens "$dir/m" "$dir/a.jsonl"
    [ "$status" = 0 ]
    flags=$(echo "$output" | sed -n 's/^flags.0: //p')
    want=$output
    # ... assistant \n | word <|im_end|> | \n
    [[ "$flags" == "1 1 "*" 1 0 "*" 0 1 " ]]
    [ "$("$PARE_BIN/ts-dump" "$dir/tokens.tsz" | grep -c 'chat_template: chatml')" = 1 ]
    rm "$dir/m/chat_template.jinja"
    CHAT=$chatml python3 -c 'import json, os, sys
json.dump({"eos_token": {"content": "<|im_end|>"}, "chat_template": [
    {"name": "tool_use", "template": "x"}, {"name": "default", "template": os.environ["CHAT"]}]},
    open(sys.argv[1], "w"))' "$dir/m/tokenizer_config.json"
    run tokens "$dir/m" "$dir/a.jsonl"
    [ "$output" = "$want" ]
    run tokens "$dir/m" "$dir/a.jsonl" --chat-template chatml
    [ "$output" = "$want" ]
    run tokens "$dir/m" - --field messages < "$dir/a.jsonl"
    [ "$output" = "$want" ]
}

@test "a template that is merely similar is refused, with what to do" {
    model "$dir/m" smollm "${chatml/<|im_end|>/<|im_end|> }" "<|im_end|>"
    echo "{\"messages\": $chat}" > "$dir/a.jsonl"
    run tokens "$dir/m" "$dir/a.jsonl"
    [ "$status" = 1 ]
    [[ "$output" == *"a.jsonl: line 1: "*"not one of those known"*"--chat-template chatml" ]]
    echo "{\"text\": \"the\"}" > "$dir/b.jsonl"     # needs none
    run tokens "$dir/m" "$dir/b.jsonl"
    [ "$status" = 0 ]
    rm "$dir/m/chat_template.jinja"
    run tokens "$dir/m" "$dir/a.jsonl"
    [ "$status" = 1 ]
    [[ "$output" == *"no chat template"* ]]
    run tokens "$dir/m" "$dir/a.jsonl" --chat-template chat
    [ "$status" = 2 ]
    [[ "$output" == *"must be auto, chatml, smollm2, "* ]]
    run tokens tests/golden/tokenizers_small/gpt2.json "$dir/a.jsonl" --chat-template llama3
    [ "$status" = 1 ]
    [[ "$output" == *'no token "<|begin_of_text|>"'* ]]
}

@test "prompt and completion: texts as they are, or messages; a text counts as a whole" {
    model "$dir/m" spm "" "</s>"
    printf '%s\n' '{"prompt": "the word", "completion": " the"}' '{"text": "the"}' > "$dir/a.jsonl"
    run tokens "$dir/m" "$dir/a.jsonl"
    [ "$status" = 0 ]
    [[ "$output" == *"ids.0: 1 "*" 2 "*"flags.0: 1 1"*" 0 0 "* ]]   # <s> ... </s>
    want=$output
    sed 's/prompt/q/; s/completion/a/' "$dir/a.jsonl" | head -n 1 > "$dir/b.jsonl"
    run tokens "$dir/m" - --field q+a < "$dir/b.jsonl"
    [ "$output" = "$(echo "$want" | sed '/\.1: /d')" ]
    # two lists are one conversation, in which only the completion counts
    echo "{\"prompt\": $chat, \"completion\": $chat}" > "$dir/c.jsonl"
    run tokens "$dir/m" "$dir/c.jsonl" --chat-template mistral
    [ "$status" = 0 ]
    [ "$(echo "$output" | sed -n 's/^flags.0: //p' | tr ' ' '\n' | uniq | tr -d '\n')" = 10 ]
}

@test "flags go along when documents are cut into rows" {
    model "$dir/m" spm "" "</s>"
    echo '{"prompt": "the word", "completion": " the"}' > "$dir/a.jsonl"
    run tokens "$dir/m" "$dir/a.jsonl"
    ids=$(echo "$output" | sed -n 's/^ids.0: //p')
    flags=$(echo "$output" | sed -n 's/^flags.0: //p')
    n=$(echo "$ids" | wc -w)
    run tokens "$dir/m" "$dir/a.jsonl" --seq-length "$n"
    [ "$(echo "$output" | sed -n 's/^ids: //p')" = "$ids" ]
    [ "$(echo "$output" | sed -n 's/^flags: //p')" = "$flags" ]
}

@test "conversations are refused by file, line and message" {
    model "$dir/m" smollm "$chatml" "<|im_end|>"
    printf '\n%s\n' '{"messages": [{"role": "user", "content": "a"}, {"content": "b"}]}' \
        > "$dir/a.jsonl"
    run tokens "$dir/m" "$dir/a.jsonl"
    [ "$status" = 1 ]
    [[ "$output" == *'a.jsonl: line 2: message 2 has no "role", a text' ]]
    for case in '{"messages": "a"}|messages are no list' '{"messages": []}|an empty one' \
        '{"prompt": "a", "completion": []}|neither two texts nor two lists' \
        '{"prompt": "a"}|no text under "text"' '{"messages": [}|not a JSON object' \
        "{\"messages\": $chat, \"tools\": [{}]}|has tools"; do
        echo "${case%|*}" > "$dir/a.jsonl"
        run tokens "$dir/m" "$dir/a.jsonl"
        [ "$status" = 1 ]
        [[ "$output" == *"a.jsonl: line 1"*"${case#*|}"* ]]
    done
}

@test "a conversation without an answer is noted; the template and its tokens are part of the id" {
    model "$dir/m" smollm "$chatml" "<|im_end|>"
    echo '{"messages": [{"role": "user", "content": "the"}]}' > "$dir/a.jsonl"
    run "$PARE_BIN/tokenize" -m "$dir/m" "$dir/a.jsonl" -o "$dir/a.tsz"
    [ "$status" = 0 ]
    [[ "$output" == *"1 of the 1 conversations have no answer"* ]]
    id() { "$PARE_BIN/ts-dump" "$1" | sed -n 's/^id: //p'; }
    rm "$dir/m/chat_template.jinja"
    "$PARE_BIN/tokenize" -m "$dir/m" "$dir/a.jsonl" --chat-template plain --quiet -o "$dir/b.tsz"
    "$PARE_BIN/tokenize" -m "$dir/m" "$dir/a.jsonl" --chat-template chatml --quiet -o "$dir/c.tsz"
    sed -i 's/<|im_end|>/<|eot_id|>/' "$dir/m/tokenizer_config.json"
    "$PARE_BIN/tokenize" -m "$dir/m" "$dir/a.jsonl" --chat-template plain --quiet -o "$dir/d.tsz"
    [ "$(for i in a b c d; do id "$dir/$i.tsz"; done | sort -u | wc -l)" = 4 ]
}
