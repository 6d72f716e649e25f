# The vocabulary as an axis: score-vocab, rank, slice-model --vocab-size, and training a cut model
# from the uncut one.
bats_require_minimum_version 1.5.0

setup() {
    export PATH=${PARE_BIN:-$PWD/bin}:$PATH PYTHONPATH=$PWD/tests/tools PYTHONDONTWRITEBYTECODE=1
    export OMP_NUM_THREADS=1            # the models are tiny
    vocab="python3 $PWD/tests/tools/vocab.py"
    small=$PWD/tests/golden/tokenizers_small
    cd "$BATS_TEST_TMPDIR"
}

# ranked NAME: a model with that tokenizer in NAME, its text as NAME.tsz and rank as NAME.rank
ranked() {
    $vocab model "$small/$1.json" "$1" "${2:-{\}}"
    tokenize --quiet -m "$1" --bos no "$small/$1.jsonl" -o "$1.tsz"
    score-vocab --quiet "$1" "$1.tsz" | rank -o "$1.rank"
}

# cut NAME N: of it as NAME.cut, as a directory NAME.dir, and its text as NAME.own
cut() {
    slice-model --quiet "$1" --rank "$1.rank" --vocab-size "$2" --verify "$1.tsz" -o "$1.cut"
    rm -rf "$1.dir"
    hf-export --quiet "$1.cut" "$1.dir"
    tokenize --quiet -m "$1.cut" --bos no "$small/$1.jsonl" -o "$1.own"
}

refused() {     # refused STATUS WORDS COMMAND...
    local status_wanted=$1 words=$2; shift 2
    run "-$status_wanted" --separate-stderr "$@" -o refused.tsz
    [ "${#stderr_lines[@]}" = 1 ] || { echo "$stderr"; false; }
    [[ $stderr == *"$words"* ]] || { echo "$stderr"; false; }
    [ ! -e refused.tsz ]
}

@test "uses count for what a token is made of, and a cut keeps the most used" {
    cat > words.json <<'END'
{"added_tokens": [], "normalizer": null, "pre_tokenizer": {"type": "ByteLevel",
 "add_prefix_space": false, "use_regex": true}, "decoder": {"type": "ByteLevel"},
 "post_processor": null, "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3,
 "bc": 4, "abc": 5, "abab": 6, "cc": 7}, "merges": ["a b", "b c", "ab c", "ab ab", "c c"]}}
END
    $vocab model words.json words '{"eos_token_id": null}'
    rm words/generation_config.json
    # abc abc abab b: abc twice, abab once, b once
    printf 'abcc\nabab\nabc\nb\n' | tokenize --quiet -m words --doc-sep '
' -o words.tsz
    score-vocab words words.tsz -o words.scores 2> note
    grep -q '5 tokens of text use 4 of the 8 tokens of the vocabulary' note
    # abc 2; abab 1; ab 2 + 2 * 1; cc 0; bc 0; a 4; b 4 + 1; c 2 + 1 (of its own)
    [ "$(ts-dump --values vocab_size words.scores)" = "4 5 3 4 0 2 1 0" ]
    rank words.scores -o words.rank
    [ "$(ts-dump --values vocab_size words.rank)" = "1 0 3 2 5 6 4 7" ]
    slice-model --quiet words --rank words.rank --vocab-size 5 -o five.tsz
    hf-export --quiet five.tsz five
    [ "$(python3 -c '
import json
m = json.load(open("five/tokenizer.json"))["model"]
print(m["vocab"], m["merges"])')" = "{'a': 0, 'b': 1, 'c': 2, 'ab': 3, 'abc': 4} ['a b', 'ab c']" ]
}

@test "texts whose tokens stay are encoded as before, others as pieces; ids follow everywhere" {
    for name in gpt2 llama3 spm qwen2; do
        ranked $name
        cut $name "$([ $name = spm ] && echo 400 || echo 290)"
        $vocab check $name.dir
        $vocab same $name/tokenizer.json $name.dir/tokenizer.json $name.tsz $name.own > same
        read -r stay _ all _ _ before _ _ after < same
        [ "$stay" -gt 9 ]
        [ "$stay" -lt "$all" ]
        [ "$before" -lt "$after" ]
        diff <($vocab ids $name | sort) <($vocab ids $name.dir | sort) > ids || true
        # a token that nothing needs leaves its list
        [ "$(grep -c '^[<>]' ids)" = 2 ]
        grep -q '^< suppress_tokens' ids
    done
}
