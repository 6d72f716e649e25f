# generate: cached keys and values against the logits of whole sequences, sampling, stopping, text.
bats_require_minimum_version 1.5.0

setup() {
    BIN=${PARE_BIN:-$PWD/bin}
    G=$PWD/tests/golden
    GOLDEN="python3 $PWD/tests/tools/golden.py"
    export OMP_WAIT_POLICY=passive              # short runs of many threads: do not spin
    cd "$BATS_TEST_TMPDIR" || exit
}

ids() { "$BIN/generate" --quiet "$1" --prompt-ids "$2" "${@:3}"; }

# named FAMILY DIR: the family with a tokenizer of single letters: id 0 is "!", 82 a space, and 80
# and 81 are the tokens of ChatML
named() {
    cp -r "$G/families/$1" "$2"
    echo '{"eos_token": "<|im_end|>"}' > "$2/tokenizer_config.json"
    python3 - "$2/tokenizer.json" <<'P'
import json, sys
vocab = {chr(i): i - 0x21 for i in range(0x21, 0x71)} | {"Ġ": 82}
added = [dict(id=80 + i, content=t, single_word=False, lstrip=False, rstrip=False,
              normalized=False, special=True) for i, t in enumerate(("<|im_start|>", "<|im_end|>"))]
bytes_ = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
bpe = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
       "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
       "ignore_merges": False, "vocab": vocab, "merges": []}
json.dump({"version": "1.0", "added_tokens": added, "normalizer": None,
           "pre_tokenizer": {**bytes_, "add_prefix_space": False}, "post_processor": None,
           "decoder": {**bytes_, "add_prefix_space": True}, "model": bpe}, open(sys.argv[1], "w"))
P
}
answers() { "$BIN/generate" --quiet "$1" --data prompts.jsonl "${@:2}"; }

@test "greedy continuation of every family is the argmax of the logits, step by step" {
    for dir in "$G"/families/*/; do
        out=$(ids "$dir" "5 6 7 8 9 10 11" --max-new-tokens 9 --ignore-eos)
        [ "$(wc -w <<< "$out")" = 16 ]
        "$BIN/tokenize" --ids -o t.tsz <<< "$out"
        "$BIN/dump-logits" --quiet "$dir" t.tsz --full --compress none -o l.tsz
        $GOLDEN greedy l.tsz 7 <<< "$out"
    done
}

@test "a prompt longer than one piece, and exactly one" {
    for n in 63 64 65 150; do
        prompt=$(seq 1 $n | awk '{ printf "%d ", ($1 * 7) % 83 }')
        out=$(ids "$G/families/llama" "$prompt" --max-new-tokens 12 --ignore-eos)
        "$BIN/tokenize" --ids -o t.tsz <<< "$out"
        "$BIN/dump-logits" --quiet "$G/families/llama" t.tsz --full --seq-length 200 \
            --compress none -o l.tsz
        $GOLDEN greedy l.tsz $n <<< "$out"
    done
}

@test "draws: the same seed the same ids, another seed others; top-k 1 is greedy" {
    a=$(ids "$G/families/llama" "5 6" --temperature 1 --seed 1 --max-new-tokens 20 --ignore-eos)
    [ "$a" = \
        "$(ids "$G/families/llama" "5 6" --temperature 1 --seed 1 --max-new-tokens 20 \
        --ignore-eos)" ]
    [ "$a" != \
        "$(ids "$G/families/llama" "5 6" --temperature 1 --seed 2 --max-new-tokens 20 \
        --ignore-eos)" ]
    [ "$(ids "$G/families/llama" "5 6" --temperature 2 --top-k 1)" \
        = "$(ids "$G/families/llama" "5 6")" ]
    [ "$(ids "$G/families/llama" "5 6" --temperature 2 --top-p 0.001)" \
        = "$(ids "$G/families/llama" "5 6")" ]
}

@test "stops at end-of-sequence ids and at the last learned position; no tokens requested" {
    out=$(ids "$G/families/llama" "5 6 7" --max-new-tokens 8 --ignore-eos)
    fifth=$(cut -d ' ' -f 5 <<< "$out")
    cp -r "$G/families/llama" ended
    echo "{\"eos_token_id\": [3, $fifth]}" > ended/generation_config.json
    upto=$(ids ended "5 6 7" --max-new-tokens 8)
    [[ "$out " == "$upto $fifth "* ]]
    [[ " $(cut -d ' ' -f 4- <<< "$upto") " != *" $fifth "* ]]
    positions=$(sed -n 's/.*"n_positions": \([0-9]*\).*/\1/p' "$G/families/gpt2/config.json")
    [ "$(ids "$G/families/gpt2" "5 6 7" --max-new-tokens 100 --ignore-eos | wc -w)" = "$positions" ]
    [ "$(ids "$G/families/llama" "5 6 7" --max-new-tokens 0)" = "5 6 7" ]
}

@test "text: prompt and continuation, by the model's tokenizer" {
    named llama named
    text=$("$BIN/generate" --quiet named --prompt "A b" --max-new-tokens 6 --ignore-eos)
    want=$(ids named "32 82 65" --max-new-tokens 6 --ignore-eos | tr ' ' '\n' |
        awk '{ printf "%s", $1 == 82 ? " " : ($1 < 80 ? sprintf("%c", $1 + 33) : "") }')
    [ "$text" = "$want" ]
}

@test "many prompts: each answer is the one it has alone, whatever the batch" {
    same_in_batches() {
        for how in "--max-new-tokens 20" "--max-new-tokens 9 --temperature 1.5 --seed 4"; do
            answers $1 $how --batch-size 1 > alone.jsonl
            [ "$(wc -l < alone.jsonl)" = "$(wc -l < prompts.jsonl)" ]
            for n in 2 3 100; do
                answers $1 $how --batch-size $n > batch.jsonl
                cmp alone.jsonl batch.jsonl
            done
        done
    }
    # the third prompt of gpt2 runs into the last position; gemma has windows, and soft caps or two
    # rope tables
    printf '{"prompt": "%s", "n": %d}\n' A 1 "BCD EF" 2 \
        "a bc d e f g h i j k l m n o p a b c d e f g h i j k" 3 "Go on, and on" 4 kkk 5 \
        > prompts.jsonl
    for model in llama gpt2 gemma2 gemma3; do
        named $model $model
        same_in_batches $model
    done
    text=$("$BIN/generate" --quiet llama --prompt A --max-new-tokens 9 --temperature 1.5 --seed 4)
    answers llama --max-new-tokens 9 --temperature 1.5 --seed 4 > batch.jsonl
    python3 - "$text" <<'P'
import json, sys
lines = [json.loads(l) for l in open("batch.jsonl")]
assert "A" + lines[0]["completion"] == sys.argv[1], lines[0]
assert [l["n"] for l in lines] == [1, 2, 3, 4, 5] and list(lines[0])[:2] == ["prompt", "n"]
assert all(l["finish_reason"] in ("stop", "length") for l in lines)
P
    # the second text, and with 20 tokens all of them, pass the length where rope tables change
    cp -r "$G/longrope" longrope
    cp llama/tokenizer*.json longrope
    printf '{"prompt": "%s"}\n' ABC BCDEFGHIJKLMNO C DEFG > prompts.jsonl
    same_in_batches longrope
}

@test "many prompts: an answer ends at an end-of-sequence token, the others go on" {
    printf '{"prompt": "%s"}\n' A "B C" "DEF" > prompts.jsonl
    named llama ended
    answers ended --max-new-tokens 8 --ignore-eos > whole.jsonl
    third=$(python3 -c '
import json
print(ord(json.loads(open("whole.jsonl").readline())["completion"][2]) - 33)')
    echo "{\"eos_token_id\": $third}" > ended/generation_config.json
    answers ended --max-new-tokens 8 > cut.jsonl
    python3 - <<'P'
import json
whole, cut = ([json.loads(l) for l in open(f)] for f in ("whole.jsonl", "cut.jsonl"))
stop = whole[0]["completion"][2]
for w, c in zip(whole, cut):
    text, end, _ = w["completion"].partition(stop)
    assert (c["completion"], c["finish_reason"]) == (text, "stop" if end else "length"), (w, c)
assert cut[0]["finish_reason"] == "stop" and cut[0]["completion"] == whole[0]["completion"][:2]
P
}

@test "many prompts: messages are written with the chat template, the answer is one more" {
    named llama model
    echo '{"messages": [{"role": "user", "content": "Hi"}], "id": 7}' > prompts.jsonl
    answers model --chat-template chatml --max-new-tokens 6 > answers.jsonl
    # the vocabulary has no newline
    prompt='<|im_start|>userHi<|im_end|><|im_start|>assistant'
    python3 - "$("$BIN/generate" --quiet model --prompt "$prompt" --max-new-tokens 6)" <<'P'
import json, sys
line = json.loads(open("answers.jsonl").read())
assert line["id"] == 7 and len(line["messages"]) == 2
answer = line["messages"][1]
assert answer["role"] == "assistant" and sys.argv[1].endswith(answer["content"])
assert len(answer["content"]) > 2
P
    answers model --chat-template chatml --max-new-tokens 3 |
        grep -q '"finish_reason":"length"'
    run -1 --separate-stderr answers model
    [[ $stderr == *"template"* ]]
}

@test "many prompts: --resume goes on after the last whole line, and takes no other answers" {
    named llama model
    printf '{"prompt": "%s"}\n' A "B C" "DEF" G H I J > prompts.jsonl
    answers model --temperature 1 -o whole.jsonl --max-new-tokens 5
    head -c $(($(head -n 4 whole.jsonl | wc -c) + 9)) whole.jsonl > part.jsonl
    run -1 --separate-stderr answers model --temperature 1 -o part.jsonl --max-new-tokens 5
    [[ $stderr == *"is not empty"* ]]
    answers model --temperature 1 -o part.jsonl --resume --batch-size 2 --max-new-tokens 5
    cmp whole.jsonl part.jsonl
    answers model --temperature 1 -o part.jsonl --resume --max-new-tokens 5
    cmp whole.jsonl part.jsonl
    sed -i 's/B C/B D/' part.jsonl
    cp part.jsonl other.jsonl
    run -1 --separate-stderr answers model -o part.jsonl --resume
    [[ $stderr == *"part.jsonl: line 2 is not the answer to prompt 2"* ]]
    cmp part.jsonl other.jsonl
    cp prompts.jsonl part.jsonl
    run -1 --separate-stderr answers model -o part.jsonl --resume
    [[ $stderr == *"part.jsonl: line 1 is not the answer to prompt 1"* ]]
    cmp part.jsonl prompts.jsonl
}

@test "many prompts: a member that is null is absent" {
    named llama model
    printf '%s\n' '{"prompt":"A","messages":null}' \
        '{"prompt":null,"messages":[{"role":"user","content":"B"}]}' > prompts.jsonl
    answers model --chat-template chatml --max-new-tokens 3 -o whole.jsonl
    head -n 1 whole.jsonl > part.jsonl
    answers model --chat-template chatml --max-new-tokens 3 -o part.jsonl --resume
    cmp whole.jsonl part.jsonl
    grep -q '"role":"assistant"' whole.jsonl
    answers model --chat-template chatml --max-new-tokens 3 -o part.jsonl --resume
    cmp whole.jsonl part.jsonl
}

@test "refused: no prompt, two prompts, no tokenizer, ids or numbers out of range" {
    run -2 "$BIN/generate" "$G/families/llama"
    run -2 "$BIN/generate" "$G/families/llama" --prompt a --prompt-ids 1
    run -2 "$BIN/generate" "$G/families/llama" --prompt-ids 1,x
    run -2 "$BIN/generate" "$G/families/llama" --prompt-ids 1 --top-p 0
    run -1 --separate-stderr "$BIN/generate" "$G/families/llama" --prompt a
    [[ $stderr == *"tokenizer.json"* ]]
    run -1 --separate-stderr "$BIN/generate" "$G/families/llama" --prompt-ids 83
    [[ $stderr == *"83"* ]]
    run -1 "$BIN/generate" "$G/families/llama" --prompt-ids ""
}

@test "many prompts refused: the line is named, and nothing is written" {
    named llama model
    refused() { # refused WORDS LINE
        printf '%s\n' '{"prompt": "A"}' "" "$2" > prompts.jsonl
        run -1 --separate-stderr answers model -o out.jsonl
        [[ $stderr == *"prompts.jsonl: line 3"*"$1"* ]] || { echo "$stderr"; false; }
        [ "${#stderr_lines[@]}" = 1 ]
        [ ! -s out.jsonl ]
    }
    refused "not valid JSON" '{"prompt": '
    refused '"prompt"' '{"text": "A"}'
    refused '"prompt"' '{"prompt": 3}'
    refused '"prompt"' '{"prompt": "A", "messages": []}'
    refused '"prompt"' '["A"]'
    refused "is empty" '{"prompt": ""}'
    printf '' > prompts.jsonl
    run -1 --separate-stderr answers model
    [[ $stderr == *"no prompts"* ]]
    named gpt2 positions
    printf '{"prompt": "%s"}\n' A "$(printf 'a%.0s' {1..100})" > prompts.jsonl
    run -1 --separate-stderr answers positions
    [[ $stderr == *"line 2: the prompt has 100 tokens"* ]]
    run -2 "$BIN/generate" model --data prompts.jsonl --prompt A
    run -2 "$BIN/generate" model --prompt A -o out.jsonl
    run -2 answers model --resume
    run -2 answers model --batch-size 0
}
