# What texts are read from: gzip, zstd, JSON of every form; and what is no text is refused.
bats_require_minimum_version 1.5.0

setup() {
    BIN=${PARE_BIN:-$PWD/bin}
    TEACHER=$PWD/pipelines/teacher
    SMALL=$PWD/tests/golden/tokenizers_small
    export OMP_WAIT_POLICY=passive PYTHONPATH=$PWD/tests/tools
    cd "$BATS_TEST_TMPDIR" || exit
    printf '{"text": "hello a"}\n{"text": "b"}\n' > lines.jsonl
    tokens lines.jsonl > want
}

# tokens FILE [OPTION]...: the records of its tokens
tokens() {
    "$BIN/tokenize" --quiet -m "$SMALL/gpt2.json" --compress none "$@" -o made.tsz
    python3 -c 'import stream, sys; print(*stream.read(open("made.tsz", "rb"))[1], sep="\n")'
}

# same FILE [OPTION]...: its tokens are those of lines.jsonl
same() { tokens "$@" > got; cmp want got; }

refused() {     # refused FILE WORDS: the last line on stderr is the file's name and the words
    run -1 --separate-stderr "$BIN/tokenize" --quiet -m "$SMALL/gpt2.json" "$1" -o refused.tsz
    [ "$stderr" = "tokenize: $1$2" ] || { echo "$stderr"; false; }
    [ ! -e refused.tsz ]
}

pack() {        # pack IN OUT: gzip
    python3 -c 'import gzip, sys
sys.stdout.buffer.write(gzip.compress(open(sys.argv[1], "rb").read(), mtime=0))' "$1" > "$2"
}

@test "gzip and zstd are decompressed, in files and pipes, with the source's own digest" {
    pack lines.jsonl a.gz
    zstd -q lines.jsonl -o b.zst
    head -n 1 lines.jsonl > first
    tail -n 1 lines.jsonl > second
    pack first 1.gz
    pack second 2.gz
    cat 1.gz 2.gz > members.gz
    head -c 1000 /dev/zero >> members.gz
    zstd -q first second
    cat first.zst second.zst > frames.zst
    for file in a.gz b.zst members.gz frames.zst; do
        same "$file"
        tokens - < "$file" > got
        cmp want got
    done
    ids=$(for file in lines.jsonl a.gz b.zst; do "$BIN/tokenize" --quiet -m "$SMALL/gpt2.json" \
        $file | "$BIN/ts-dump" | grep '^sources'; done)
    [ "$(sort -u <<< "$ids" | wc -l)" = 1 ]
    echo "1 2 3" > ids
    pack ids ids.gz
    "$BIN/tokenize" --ids ids.gz | "$BIN/ts-dump" | grep -q '^ids.0 u32 .3.'
}

@test "JSON is recognised whatever the file is called, with a mark before it, and as an array" {
    cp lines.jsonl plain
    printf '\357\273\277' | cat - lines.jsonl > marked.txt
    printf '\357\273\277' | cat - lines.jsonl > marked.jsonl
    printf ' [{"text": "hello a"},\n\n{"x": "]}\\"", "text": "b"}\n] \n' > array.json
    for file in plain marked.txt marked.jsonl array.json; do same "$file"; done
    same array.json --field text
    tokens - < array.json > got
    cmp want got
    run --separate-stderr "$BIN/tokenize" -m "$SMALL/gpt2.json" plain -o out.tsz
    [ "$stderr" = \
        "tokenize: plain holds JSON and is read as such; --format text takes it as plain text" ]
    tokens plain --format text > got
    if cmp -s want got; then false; fi
    # text that only begins like JSON is text, and so is what has separators
    printf '{"a": 1} is an object\n' > text
    printf '{a: 1}\n' > text2
    for file in text text2; do
        tokens $file > want2
        tokens $file --format text > got2
        cmp want2 got2
    done
    [ "$(tokens plain --doc-sep '}' | grep -c '^(.ids')" = 2 ]
}

@test "other tools that read texts and lines read the same" {
    printf 'aa aa' > text
    printf '[{"text": "aa"}, {"text": " aa"}]' > array
    pack array array.gz
    for file in text array array.gz; do
        "$BIN/train-tokenizer" --vocab-size 258 $file -o $file.json
        cmp text.json $file.json
    done
    "$BIN/train-tokenizer" --vocab-size 258 array --format text -o as-text.json
    if cmp -s text.json as-text.json; then false; fi
    printf '[{"ctx": "And God", "choices": [" said", "zzz"],\n "gold": 0}]' > items.json
    pack items.json items.gz
    run -0 "$BIN/eval-choice" --quiet "$TEACHER" items.gz
    [[ $output == *'"items":1'* ]]
}

@test "JSON that is cut short or damaged" {
    printf '[{"text": "a"} {"text": "b"}]' > a.json
    refused a.json ": element 1 of its array is followed by neither , nor ]"
    printf '[{"text": "a"}, {"text": ' > a.json
    refused a.json " ends early, inside element 2 of its array"
    printf '[{"text": "a"},' > a.json
    refused a.json " ends early, inside its array"
    printf '[{"text": "a"}, 7]' > a.json
    refused a.json ": element 2 is not a JSON object"
    printf '[{"text": "a"}] x' > a.json
    refused a.json ": something follows its array"
    printf '{\n"text": "a"\n}\n' > a
    refused a " begins with a JSON object that is spread over several lines: jq -c . puts each on "\
"a line of its own, --format text takes it as plain text"
    printf '[1, 2]' > a.json
    refused a.json " holds neither lines of JSON nor an array of objects; --format text takes it "\
"as plain text"
    printf '{"content": "a"}' > a
    refused a ': line 1 has no text under "text"; --field names the member that has it'
}

@test "what is not text is refused, compressed or not" {
    printf 'PAR1\025\000' > a.parquet
    refused a.parquet ' is a Parquet file, not UTF-8 text; to_json(orient="records", '\
'lines=True) of pandas converts it'
    pack a.parquet a.gz
    refused a.gz ' holds a Parquet file, not UTF-8 text; to_json(orient="records", '\
'lines=True) of pandas converts it'
    printf '%%PDF-1.7' > a
    refused a " is a PDF file, not UTF-8 text; pdftotext a - converts it"
    printf 'PK\003\004' > a
    refused a " is a ZIP archive, not UTF-8 text; unzip -p a converts it"
    printf '\377\376a\000' > a
    refused a " is UTF-16 text, not UTF-8 text; iconv -f UTF-16 -t UTF-8 a converts it"
    refused made.tsz " is a pare stream, not UTF-8 text"
    refused "$SMALL/../families/llama/model.safetensors" " is a safetensors file, not UTF-8 text"
    printf 'GGUF\003\000' > a
    refused a " is a GGUF file, not UTF-8 text"
    pack lines.jsonl b.gz
    pack b.gz a
    refused a " holds a gzip file, not UTF-8 text"
    printf 'one\ntwo\000' > a
    refused a " has a NUL byte at byte 7, so it is not text: tr -d '\\0' removes them"
    tokens a --format text > /dev/null
}

@test "compressed texts that are cut short or damaged" {
    pack lines.jsonl a.gz
    for n in 3 12 30; do
        head -c $n a.gz > cut
        refused cut " ends early, inside its gzip data: it was cut short"
    done
    zstd -q lines.jsonl -o a.zst
    head -c 20 a.zst > cut
    refused cut " ends early, inside its zstd data: it was cut short"
    (cat a.gz; echo x) > bad
    refused bad " is damaged: other bytes follow its gzip data"
    python3 -c 'b = bytearray(open("a.gz", "rb").read()); b[-6] ^= 1; open("bad", "wb").write(b)'
    refused bad " is damaged: gzip: incorrect data check"
}

@test "a text that is a thousand times its gzip takes no more memory" {
    [ -z "${PARE_SANITIZED:-}" ] || skip "address space is the sanitizer's own"
    python3 - <<'P' > bomb.gz
import gzip, sys
with gzip.open(sys.stdout.buffer, "wb", 9) as f:
    for i in range(300):
        f.write(b"\n" * 1000000)
    f.write(b"a b\n")
P
    run -0 sh -c "ulimit -v 200000 && '$BIN/tokenize' --quiet -m '$SMALL/gpt2.json' --doc-sep '
' bomb.gz -o out.tsz"
}
