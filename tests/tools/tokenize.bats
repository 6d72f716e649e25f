#!/usr/bin/env bats
# tokenize and train-tokenizer: documents, rows, BOS rules, lists of ids, refusals.

setup() {
    PARE_BIN=${PARE_BIN:-$PWD/bin}
    small=tests/golden/tokenizers_small
    dir=$BATS_TEST_TMPDIR
}

# show STREAM: one line per record, its values
show() {
    PYTHONPATH=tests/tools python3 -c '
import stream, struct, sys
head, records = stream.read(sys.stdin.buffer)
for name, dtype, shape, data in records:
    print(name, *shape, ":", *struct.unpack("<%dI" % (len(data) // 4), data))'
}

head_of() {
    PYTHONPATH=tests/tools python3 -c '
import json, stream, sys
print(json.dumps(stream.read(sys.stdin.buffer)[0][sys.argv[1]]))' "$1"
}

@test "a file is a document, with the source bytes of each token" {
    printf 'the the\n' > "$dir/a"
    printf 'x' > "$dir/b"
    run sh -c "'$PARE_BIN/tokenize' -m $small/gpt2.json '$dir/a' '$dir/b' | cat > '$dir/out'"
    [ "$status" = 0 ]
    run show < "$dir/out"
    [ "${#lines[@]}" = 4 ]
    [[ "${lines[0]}" == "ids.0 "* ]]
    bytes=${lines[1]#*: }
    [ "$(($(echo "$bytes" | tr ' ' '+')))" = 8 ]
    [ "${lines[3]}" = "bytes.1 1 : 1" ]
}

@test "ids are those of the golden texts, through JSON lines" {
    for name in gpt2 spm qwen2 metaspace_first; do
        "$PARE_BIN/tokenize" -m $small/$name.json --bos no $small/$name.jsonl --quiet | show |
            grep '^ids' | sed 's/^[^:]*: *//' > "$dir/got"
        python3 -c 'import json, sys
for line in open(sys.argv[1], encoding="utf-8"): print(*json.loads(line)["ids"])' \
    $small/$name.jsonl > "$dir/want"
        cmp "$dir/got" "$dir/want"
    done
}

@test "rows join the documents, each with its BOS, and drop an incomplete last row with a note" {
    printf 'a\n---\nb\n---\n\n---\nc\n' > "$dir/a"
    run sh -c "'$PARE_BIN/tokenize' -m $small/spm.json --doc-sep --- --seq-length 2 --row-bos no \
        '$dir/a' | cat > '$dir/out'"
    [ "$status" = 0 ]
    run show < "$dir/out"
    [[ "${lines[0]}" == "ids "*" 2 : 1 "* ]]
    [ "$(echo "${lines[0]#*: }" | tr ' ' '\n' | grep -cx 1)" = 3 ]
    [ "$(head_of documents < "$dir/out")" = 3 ]
    [ "$(head_of seq_length < "$dir/out")" = 2 ]
}

@test "--bos yes, no and a token by name" {
    printf 'a' > "$dir/a"
    begin() { "$PARE_BIN/tokenize" -m "$1" --bos "$2" "$dir/a" | head_of bos; }
    [ "$(begin $small/spm.json auto)" = '{"rule": "auto", "begin": [1], "end": [], "row": [1]}' ]
    [ "$(begin $small/spm.json no)" = '{"rule": "no", "begin": [], "end": [], "row": []}' ]
    [ "$(begin $small/metaspace_never.json auto)" \
        = '{"rule": "auto", "begin": [1], "end": [2], "row": [1]}' ]
    [ "$(begin $small/gpt2.json '<|endoftext|>')" \
        = '{"rule": "<|endoftext|>", "begin": [0], "end": [], "row": []}' ]
    run "$PARE_BIN/tokenize" -m $small/gpt2.json --bos yes "$dir/a" -o "$dir/out"
    [ "$status" = 1 ]
    [[ "$output" == *"BOS"* ]]
    [ ! -e "$dir/out" ]
    run "$PARE_BIN/tokenize" -m $small/gpt2.json --bos '<none>' "$dir/a"
    [ "$status" = 1 ]
    [[ "$output" == *"--bos <none>: no such token in the vocabulary" ]]
}

@test "--row-bos puts the BOS in front of every row that does not begin with it" {
    printf 'abcde\n---\nfghij\n' > "$dir/a"
    tokens() { "$PARE_BIN/tokenize" --quiet -m "$@" --doc-sep --- "$dir/a"; }
    row() { tr ' ' '\n' <<< "${1#*: }" | grep -v '^$' | xargs -n "$2"; }
    # the text of the rows without their BOS, and their bytes without its zeros, are those of the
    # documents
    tokens $small/spm.json --bos no | show > "$dir/plain"
    tokens $small/spm.json --seq-length 3 | show > "$dir/rows"
    ids=$(sed -n '/^ids/s/.*: //p' "$dir/plain" | xargs)
    rows=$(row "$(sed -n '/^ids/p' "$dir/rows")" 3)
    [ "$(grep -vc '^1 ' <<< "$rows")" = 0 ]
    kept=$(tr ' ' '\n' <<< "$rows" | grep -vx 1 | xargs)
    [[ "$ids " == "$kept "* ]]
    bytes=$(sed -n '/^bytes/s/.*: //p' "$dir/plain" | xargs)
    [ "$(row "$(sed -n '/^bytes/p' "$dir/rows")" 3 | grep -vc '^0 ')" = 0 ]
    [[ "$bytes " == "$(row "$(sed -n '/^bytes/p' "$dir/rows")" 1 | grep -vx 0 | xargs) "* ]]
    # no: documents continue across rows; a limit counts added tokens
    [ "$(tokens $small/spm.json --seq-length 3 --row-bos no | head_of bos)" \
        = '{"rule": "auto", "begin": [1], "end": [], "row": []}' ]
    [ "$(tokens $small/spm.json --seq-length 3 --max-tokens 8 | head_of tokens)" = 6 ]
    # auto follows the post-processor; an explicit BOS follows --row-bos yes
    [ "$(tokens $small/gpt2.json --bos '<|endoftext|>' --seq-length 2 | head_of bos)" \
        = '{"rule": "<|endoftext|>", "begin": [0], "end": [], "row": []}' ]
    tokens $small/gpt2.json --bos '<|endoftext|>' --seq-length 2 --row-bos yes | show > "$dir/rows"
    [ "$(row "$(sed -n '/^ids/p' "$dir/rows")" 2 | grep -vc '^0 ')" = 0 ]
    run "$PARE_BIN/tokenize" -m $small/spm.json --seq-length 3 "$dir/a" -o "$dir/out"
    [[ "$output" == *"each row begins with BOS, one of its 3 tokens (--row-bos auto)"* ]]
    run "$PARE_BIN/tokenize" -m $small/spm.json --seq-length 1 "$dir/a" -o "$dir/out1"
    [ "$status" = 1 ]
    [[ "$output" == *"no room for text after their BOS"* ]]
    run "$PARE_BIN/tokenize" -m $small/gpt2.json --row-bos yes --seq-length 2 "$dir/a" \
        -o "$dir/out1"
    [ "$status" = 1 ]
    run "$PARE_BIN/tokenize" -m $small/gpt2.json --row-bos maybe "$dir/a"
    [ "$status" = 2 ]
}

@test "--max-tokens limits, --field selects" {
    printf '{"other": "zz", "t": "z~^"}\n\n{"t": "z\\u007e^"}\n' > "$dir/a"
    run sh -c \
        "'$PARE_BIN/tokenize' -m $small/gpt2.json --field t --max-tokens 4 '$dir/a' |
            cat > '$dir/out'"
    [ "$status" = 0 ]
    run show < "$dir/out"
    [ "${lines[1]}" = "bytes.0 3 : 1 1 1" ]
    [ "${lines[3]}" = "bytes.1 1 : 1" ]
    [ "${lines[2]#*: }" = "$(echo "${lines[0]#*: }" | cut -d' ' -f1)" ]
    run "$PARE_BIN/tokenize" -m $small/gpt2.json --field text "$dir/a"
    [ "$status" = 1 ]
    [[ "$output" == *"line 1"*'"text"'* ]]
    printf '{"t": "a"}\n\nnonsense\n' > "$dir/a"
    run "$PARE_BIN/tokenize" -m $small/gpt2.json --field t "$dir/a"
    [ "$status" = 1 ]
    [[ "$output" == *"line 3"* ]]
    # files without a final newline joined by cat, and text that is nearly JSON
    for line in '{"t": "a"}{"t": "b"}' '{"t": "a"} x' '{"t": "a", "u": tru}' \
        '{"t": "a", "u": --5}' '{"t": "a", "t": "b"}'; do
        printf '{"t": "a"}\n%s\n' "$line" > "$dir/a"
        run "$PARE_BIN/tokenize" -m $small/gpt2.json --field t "$dir/a" -o "$dir/b"
        [ "$status" = 1 ]
        [[ "$output" == *"line 2 "* ]]
    done
}

@test "--ids needs no tokenizer and checks against one" {
    printf '1 2 3\n4 5 6\n7\n' > "$dir/a"
    run sh -c "'$PARE_BIN/tokenize' --ids '$dir/a' | cat > '$dir/out'"
    run show < "$dir/out"
    [ "$output" = "ids.0 3 : 1 2 3
ids.1 3 : 4 5 6
ids.2 1 : 7" ]
    "$PARE_BIN/tokenize" --ids --seq-length 3 --quiet < "$dir/a" | show > "$dir/rows"
    [ "$(cat "$dir/rows")" = "ids 2 3 : 1 2 3 4 5 6" ]
    run "$PARE_BIN/tokenize" --ids -m $small/gpt2.json - <<< "1 420"
    [ "$status" = 1 ]
    [[ "$output" == *"420"*"419"* ]]
    run "$PARE_BIN/tokenize" --ids <<< "1 -2"
    [ "$status" = 1 ]
    run "$PARE_BIN/tokenize" --ids <<< "99999999999999999999"
    [ "$status" = 1 ]
}

@test "bytes that the vocabulary lacks are counted once" {
    python3 -c 'import sys; sys.stdout.buffer.write(bytes(range(256)) * 3)' > "$dir/a"
    run sh -c "'$PARE_BIN/tokenize' -m $small/smollm.json --format text '$dir/a' | cat > '$dir/out'"
    [ "$status" = 0 ]
    [ "${#lines[@]}" = 1 ]
    [[ "$output" == *" 63 bytes"* ]]
    run sh -c "'$PARE_BIN/tokenize' --format text -m $small/gpt2.json '$dir/a' | cat > '$dir/out'"
    [ -z "$output" ]
}

@test "refused: no tokenizer, an unsupported one, no file, no tokens, impossible lengths" {
    printf 'a' > "$dir/a"
    printf '{"model": {"type": "WordPiece", "vocab": {}}}' > "$dir/t.json"
    run "$PARE_BIN/tokenize" "$dir/a"
    [ "$status" = 2 ]
    run "$PARE_BIN/tokenize" -m "$dir/t.json" "$dir/a"
    [ "$status" = 1 ]
    [[ "$output" == *"t.json"*"WordPiece"* ]]
    run "$PARE_BIN/tokenize" -m $small/gpt2.json "$dir/missing"
    [ "$status" = 1 ]
    [[ "$output" == *"missing"* ]]
    run "$PARE_BIN/tokenize" -m $small/gpt2.json "$dir"
    [ "$status" = 1 ]
    run "$PARE_BIN/tokenize" -m $small/gpt2.json /dev/null -o "$dir/out"
    [ "$status" = 1 ]
    [ ! -e "$dir/out" ]
    run "$PARE_BIN/tokenize" -m $small/gpt2.json --seq-length 99 "$dir/a" -o "$dir/out"
    [ "$status" = 1 ]
    run "$PARE_BIN/tokenize" -m $small/gpt2.json --seq-length -1 "$dir/a"
    [ "$status" = 2 ]
}

@test "the id distinguishes texts, not their names" {
    printf 'one' > "$dir/a"
    printf 'two' > "$dir/b"
    cp "$dir/a" "$dir/c"
    for f in a b c; do "$PARE_BIN/tokenize" -m $small/gpt2.json "$dir/$f" |
        head_of id > "$dir/id.$f"; done
    [ "$(cat "$dir/id.a")" != "$(cat "$dir/id.b")" ]
    cmp "$dir/id.a" "$dir/id.c"
}

@test "train-tokenizer: exact size, special tokens first, the same twice, readable by tokenize" {
    for i in 1 2 3 4 5 6 7 8; do sed -n 's/.*"text":"\([^"\\]*\)".*/\1/p' \
        $small/gpt2.jsonl; done > "$dir/text"
    "$PARE_BIN/train-tokenizer" --vocab-size 300 "$dir/text" -o "$dir/t.json"
    "$PARE_BIN/train-tokenizer" --vocab-size 300 "$dir/text" | cmp - "$dir/t.json"
    python3 - "$dir/t.json" <<'P'
import json, sys
j = json.load(open(sys.argv[1], encoding="utf-8"))
vocab = j["model"]["vocab"]
assert sorted(vocab.values()) == list(range(300)), vocab
assert vocab["<|endoftext|>"] == 0 and vocab["!"] == 1, vocab
assert len(j["model"]["merges"]) == 300 - 257
P
    "$PARE_BIN/train-tokenizer" --vocab-size 290 --special '<a>' --special '<b>' "$dir/text" \
        -o "$dir/u.json"
    printf '<b>x<a>' > "$dir/a"
    "$PARE_BIN/tokenize" -m "$dir/u.json" "$dir/a" | show > "$dir/shown"
    grep -q '^ids.0 3 : 1 [0-9]* 0$' "$dir/shown"
}

@test "train-tokenizer refuses what the text does not support, and leaves nothing behind" {
    printf 'abcabc' > "$dir/a"
    mkdir "$dir/made"
    run "$PARE_BIN/train-tokenizer" --vocab-size 5000 "$dir/a" -o "$dir/made/t.json"
    [ "$status" = 1 ]
    [[ "$output" == *"5000"* ]]
    run "$PARE_BIN/train-tokenizer" --vocab-size 100 "$dir/a" -o "$dir/made/t.json"
    [ "$status" = 1 ]
    run "$PARE_BIN/train-tokenizer" --vocab-size 258 "$dir/missing" -o "$dir/made/t.json"
    [ "$status" = 1 ]
    [ -z "$(ls -A "$dir/made")" ]
    run "$PARE_BIN/train-tokenizer" --vocab-size 258 "$dir/a" -o "$dir/made/no/t.json"
    [ "$status" = 1 ]
    run "$PARE_BIN/train-tokenizer" "$dir/a"
    [ "$status" = 2 ]
    run sh -c "'$PARE_BIN/train-tokenizer' --vocab-size 258 '$dir/a' > /dev/full"
    [ "$status" = 1 ]
}
