#!/usr/bin/env bats
# Conversations, and prompts with completions: which template, what counts in a loss, refusals. That
# ids are those of transformers is tested in tests/unit/chat.c and tests/hf/chat.py.
bats_require_minimum_version 1.5.0

setup() {
    PARE_BIN=${PARE_BIN:-$PWD/bin}
    G=$PWD/tests/golden TOOLS=$PWD/tests/tools
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
    for case in '{"messages": "a"}|messages are not a list' '{"messages": []}|an empty one' \
        '{"prompt": "a", "completion": []}|neither two texts nor two lists' \
        '{"prompt": "a"}|no text under "text"' '{"messages": [}|not a JSON object' \
        "{\"messages\": $chat, \"tools\": [{}]}|has tools"; do
        echo "${case%|*}" > "$dir/a.jsonl"
        run tokens "$dir/m" "$dir/a.jsonl"
        [ "$status" = 1 ]
        [[ "$output" == *"a.jsonl: line 1"*"${case#*|}"* ]]
    done
}

@test "members that are null are not there" {
    model "$dir/m" smollm "$chatml" "<|im_end|>"
    echo '{"messages": null, "prompt": null, "completion": null, "text": "the"}' > "$dir/a.jsonl"
    echo '{"text": "the"}' > "$dir/b.jsonl"
    [ "$(tokens "$dir/m" "$dir/a.jsonl")" = "$(tokens "$dir/m" "$dir/b.jsonl")" ]
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

# rows FILE LENGTH FIRST END: rows of the golden tokens, of which those at FIRST to END - 1 do not
# count
rows() {
    python3 "$TOOLS/golden.py" ids "$G/train/data.safetensors" tokens |
        PYTHONPATH=$TOOLS python3 -c '
import stream, struct, sys
length, first, end = map(int, sys.argv[2:])
rows = [list(map(int, line.split()))[:length] for line in sys.stdin]
ids = b"".join(struct.pack("<%dI" % length, *r) for r in rows)
flags = bytes(first <= i < end for i in range(length)) * len(rows)
shape = [len(rows), length]
records = [("ids", "u32", shape, ids)] + [("flags", "u8", shape, flags)] * (first < end)
stream.write(open(sys.argv[1], "wb"), {"kind": "tokens", "id": "%032x" % 1, "hist": []}, records)
' "$@"
}
train() {
    "$PARE_BIN/kd-train" "$G/slice/llama/all" --teacher "$G/families/llama" --loss kl+ce \
        --order sequential --max-steps 3 --batch-size 2 --quiet "$@"
}
losses() { sed 's/.*"loss":\([0-9.]*\).*"grad_norm":\([0-9.]*\).*/\1 \2/' "$1"; }

@test "training counts what is not flagged, and --loss-on all everything" {
    cd "$dir"
    rows plain.tsz 33 0 0
    rows cut.tsz 20 0 0
    rows tail.tsz 33 20 33
    for name in plain cut tail; do train --data $name.tsz --log $name.log -o $name.model; done
    # tokens after the last that counts change nothing: attention is causal
    python3 - << 'P'
import json
read = lambda name: [json.loads(line) for line in open(name + ".log")]
for a, b in zip(read("cut"), read("tail")):
    for key in "loss", "kl", "ce", "grad_norm":
        assert abs(a[key] - b[key]) < 1e-5 * b[key], (key, a, b)
P
    run ! cmp -s <(losses plain.log) <(losses tail.log)
    train --data tail.tsz --loss-on all --log all.log -o all.model
    cmp <(losses all.log) <(losses plain.log)
    run train --data tail.tsz --loss-on some -o x
    [ "$status" = 2 ]
    [[ "$output" == *"--loss-on must be completion or all"* ]]
}

@test "a run is resumed with the same --loss-on, to the same bits" {
    cd "$dir"
    rows data.tsz 33 0 9
    train --data data.tsz --output-dir whole --save-steps 1 --eval-data data.tsz -o whole.tsz
    cp -r whole cut
    rm cut/checkpoint-3.tsz cut/model.tsz 2> /dev/null || true
    run train --data data.tsz --output-dir cut --resume --loss-on all --eval-data data.tsz -o x
    [ "$status" = 1 ]
    [[ "$output" == *"loss-on"* ]]
    train --data data.tsz --output-dir cut --resume --eval-data data.tsz -o cut.tsz
    cmp whole.tsz cut.tsz
}

@test "evaluation scores answers alone: the same as from that position on" {
    cd "$dir"
    rows data.tsz 33 0 12
    rows plain.tsz 33 0 0
    rows none.tsz 33 0 33
    score() {
        "$PARE_BIN/eval-ppl" "$G/slice/llama/all" "$@" --quiet |
            sed 's/.*\("predictions":[0-9]*\).*\("nll":[^,]*\).*/\1 \2/'
    }
    [ "$(score data.tsz)" = "$(score plain.tsz --score-from 12)" ]
    [ "$(score data.tsz --loss-on all)" = "$(score plain.tsz)" ]
    run "$PARE_BIN/eval-ppl" "$G/slice/llama/all" data.tsz
    [[ "$output" == *"504 of 792 tokens count in the loss (--loss-on completion)"* ]]
    run "$PARE_BIN/eval-ppl" "$G/slice/llama/all" none.tsz
    [ "$status" = 1 ]
    [[ "$output" == *"none of its 792 tokens counts in a loss"* ]]
}

# letters_model: a directory m, of a model with ids for lower-case letters and the marks of ChatML
letters_model() {
    cp -r "$G/families/llama" m
    python3 - << 'P'
import json
letters = [chr(i) for i in range(97, 123)] + ["\u010a", "\u0120"]
json.dump({"model": {"type": "BPE", "vocab": {c: i for i, c in enumerate(letters)}, "merges": []},
           "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
           "decoder": {"type": "ByteLevel"},
           "added_tokens": [{"id": 30 + i, "content": "<|im_%s|>" % s, "special": True}
                            for i, s in enumerate(("start", "end"))]},
          open("m/tokenizer.json", "w"))
P
}

@test "generate --chat writes the prompt with the template, and prints the answer alone" {
    cd "$dir"
    letters_model
    say() { "$PARE_BIN/generate" m --max-new-tokens 9 --ignore-eos --quiet --prompt "$@"; }
    whole=$(say $'<|im_start|>user\nthe<|im_end|>\n<|im_start|>assistant\n')
    answer=$(say the --chat --chat-template chatml)
    [ -n "$answer" ]
    [ "$whole" = $'user\nthe\nassistant\n'"$answer" ]
    run say the --chat
    [ "$status" = 1 ]
    [[ "$output" == *"no chat template"* ]]
    run say the --chat --chat-template other
    [ "$status" = 2 ]
    [[ "$output" == *"must be auto, chatml, "* ]]
}

@test "packed conversations are scored as they are by themselves" {
    cd "$dir"
    letters_model
    for i in a ab abc abcd; do echo "{\"messages\": ${chat/word/$i}}"; done > chats.jsonl
    "$PARE_BIN/tokenize" -m m --chat-template chatml --quiet chats.jsonl -o single.tsz
    "$PARE_BIN/tokenize" -m m --chat-template chatml --quiet --pack --seq-length 64 chats.jsonl \
        -o packed.tsz
    "$PARE_BIN/eval-ppl" m single.tsz > single.json 2> single.note
    "$PARE_BIN/eval-ppl" m packed.tsz > packed.json 2> packed.note
    grep -q '14 of 106 tokens count' single.note
    cmp <(grep count single.note) <(grep count packed.note)
    python3 -c '
import json
a, b = (json.load(open(name)) for name in ("single.json", "packed.json"))
assert b["padding"] and a["predictions"] == b["predictions"] == 14, b
assert abs(a["nll"] - b["nll"]) < 1e-6, (a, b)'
}
