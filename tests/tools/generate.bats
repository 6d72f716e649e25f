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
    cp -r "$G/families/llama" named
    python3 - <<'P'
import json
letters = {chr(i): i - 0x21 for i in range(0x21, 0x7f)} | {"Ġ": 82}
vocab = {c: i for c, i in letters.items() if i < 82} | {"Ġ": 82}
bytes_ = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
bpe = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
       "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
       "ignore_merges": False, "vocab": vocab, "merges": []}
json.dump({"version": "1.0", "added_tokens": [], "normalizer": None,
           "pre_tokenizer": {**bytes_, "add_prefix_space": False}, "post_processor": None,
           "decoder": {**bytes_, "add_prefix_space": True}, "model": bpe},
          open("named/tokenizer.json", "w"))
P
    text=$("$BIN/generate" --quiet named --prompt "A b" --max-new-tokens 6 --ignore-eos)
    want=$(ids named "32 82 65" --max-new-tokens 6 --ignore-eos | tr ' ' '\n' |
        awk '{ printf "%s", $1 == 82 ? " " : sprintf("%c", $1 + 33) }')
    [ "$text" = "$want" ]
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
