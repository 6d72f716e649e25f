# eval-ppl --conventions: the windows of published figures, cut by hand, and what each makes of the
# losses.
bats_require_minimum_version 1.5.0
load refused

setup() {
    BIN=${PARE_BIN:-$PWD/bin}
    G=$PWD/tests/golden
    TOOLS=$BATS_TEST_DIRNAME
    LLAMA=$G/families/llama
    export OMP_WAIT_POLICY=passive              # short runs of many threads: do not spin
    cd "$BATS_TEST_TMPDIR" || exit
    # two documents, each after a BOS, with 2 source bytes for every token that is none
    python3 - "$TOOLS" <<'P'
import struct, sys
sys.path.insert(0, sys.argv[1])
import stream
documents = [1, 5, 6, 7, 8, 9, 10], [1, 11, 12, 13]
head = {"kind": "tokens", "id": "0" * 32, "tokenizer_id": "", "hist": [],
        "bos": {"rule": "auto", "begin": [1], "end": [], "row": [1]}}
records = []
for i, d in enumerate(documents):
    records.append(("ids.%d" % i, "u32", [len(d)], struct.pack("<%dI" % len(d), *d)))
    records.append(("bytes.%d" % i, "u32", [len(d)],
                    struct.pack("<%dI" % len(d), *(2 * (t > 1) for t in d))))
stream.write(open("tokens.tsz", "wb"), head, records)
P
}

record() { "$BIN/eval-ppl" --quiet "$@"; }

@test "windows of four tokens, stride 2, cut by hand" {
    printf ' one two  three\nfour\xc2\xa0five ' > text          # white space at both ends counts
    record "$LLAMA" tokens.tsz --conventions --context 4 --stride 2 --text text > records
    cat > windows <<'W'
gptq 3 1 5 6 7
gptq 3 8 9 10 1
hf-stride 3 1 5 6 7
hf-stride 2 6 7 8 9
hf-stride 2 8 9 10 1
hf-stride 2 10 1 11 12
hf-stride 1 11 12 13
harness 4 1 5 6 7 8
harness 2 6 7 8 9 10
harness 3 1 11 12 13
llama.cpp 1 1 5 6 7
llama.cpp 1 1 9 10 1
W
    cut -d ' ' -f 3- windows | "$BIN/tokenize" --ids -o windows.tsz
    "$BIN/dump-logits" --quiet "$LLAMA" windows.tsz --full --compress none -o logits.tsz
    python3 - "$TOOLS" <<'P'
import json, math, struct, sys
sys.path.insert(0, sys.argv[1])
import stream
losses = {}
logits = [r for r in stream.read(open("logits.tsz", "rb"))[1] if r[0].startswith("logits.")]
for (_, _, (n, vocab), data), line in zip(logits, open("windows"), strict=True):
    name, scored, *ids = line.split()
    flat = struct.unpack("<%df" % (n * vocab), data)
    rows = [flat[vocab * t:vocab * (t + 1)] for t in range(n)]
    nll = [math.log(sum(map(math.exp, rows[t]))) - rows[t][int(ids[t + 1])] for t in range(n - 1)]
    losses.setdefault(name, []).append(nll[len(nll) - int(scored):])

def near(got, want):
    assert abs(got - want) < 1e-5 * abs(want), (got, want)

records = {r["convention"]: r for r in map(json.loads, open("records"))}
assert list(records) == list(losses)
for name, r in records.items():
    all = sum(losses[name], [])
    assert (r["windows"], r["predictions"]) == (len(losses[name]), len(all)), name
    near(r["nll"], sum(all) / len(all))
    near(r["ppl"], math.exp(r["nll"]))
assert [records[n]["tokens_left_out"] for n in losses] == [3, 0, 0, 4]
assert [records[n]["bos"] for n in losses] == [[], [], [1], [1]]
# published: each window but the first weighs one token less
windows = losses["hf-stride"]
weights = [len(w) - (i > 0) for i, w in enumerate(windows)]
near(records["hf-stride"]["ppl_published"],
     math.exp(sum(k * sum(w) / len(w) for k, w in zip(weights, windows)) / sum(weights)))
harness, total = records["harness"], sum(sum(losses["harness"], []))
# "", one, two, three, four, five, ""; 2 bytes of the no-break space
assert (harness["words"], harness["text_bytes"]) == (7, 27)
near(harness["word_perplexity"], math.exp(total / 7))
near(harness["byte_perplexity"], math.exp(total / 27))
near(harness["bits_per_byte"], total / 27 / math.log(2))
a, b = sum(losses["llama.cpp"], [])
near(records["llama.cpp"]["ppl_error"],
     records["llama.cpp"]["ppl"] * math.sqrt((a * a + b * b) / 2 - ((a + b) / 2) ** 2))
P
}

@test "published weights of windows that do not overlap are those of their losses" {
    record "$LLAMA" tokens.tsz --conventions --context 4 --stride 4 | grep '"hf-stride"' > record
    python3 -c '
import json
r = json.load(open("record"))
assert r["predictions"] == 3 + 3 + 2 and abs(r["ppl_published"] / r["ppl"] - 1) < 1e-9, r'
}

@test "without the text, words are unknown and bytes are those of the tokens; documents in JSONL" {
    record "$LLAMA" tokens.tsz --conventions --context 4 | grep '"harness"' > record
    python3 -c '
import json, math
r = json.load(open("record"))
assert r["words"] is r["word_perplexity"] is None and r["text_bytes"] == 18, r
assert abs(r["byte_perplexity"] - math.exp(r["nll"] * 9 / 18)) < 1e-9'
    printf '%s\n' '{"page": "a b"}' '{"page": ""}' > pages.jsonl
    echo '1 5 6 7 8 9' | "$BIN/tokenize" --ids -o ids.tsz        # without bytes
    record "$LLAMA" ids.tsz --conventions --context 4 --text pages.jsonl --text-field page |
        grep -q '"words":3,"text_bytes":3'
}

@test "the usual lengths; the table; the prefix of a model that names a BOS, or only an EOS" {
    seq -s ' ' 2 65 | "$BIN/tokenize" --ids -o document.tsz     # the model has 64 positions
    record "$LLAMA" document.tsz --conventions > records
    python3 -c '
import json
r = [json.loads(line) for line in open("records")]
assert [(j["context"], j["stride"], j["predictions"]) for j in r] == [
    (64, 0, 63), (64, 32, 63), (64, 0, 64), (64, 0, 31)], r
assert [j["bos"] for j in r] == [[], [], [1], []]'
    record "$LLAMA" document.tsz --conventions --table > table
    [ "$(awk '{ print length }' table | sort -u)" = 80 ]
    [ "$(awk 'NR > 1 { print $2 }' table | tr '\n' ' ')" \
        = "gptq hf-stride harness harness llama.cpp " ]
    cp -r "$LLAMA" eos
    sed -i 's/"bos_token_id": *[0-9]*/"bos_token_id": null/' eos/config.json
    record eos document.tsz --conventions | grep '"harness"' | grep -q '"bos":\[2\]'
    sed -i 's/"eos_token_id": *[0-9]*/"eos_token_id": null/' eos/config.json
    refused 1 "neither document.tsz nor the model names one" record eos document.tsz --conventions
}

@test "beside a teacher, by sequence, and refused" {
    record "$LLAMA" tokens.tsz --conventions --context 4 --against "$LLAMA" --per-sequence > records
    python3 -c '
import json
r = [json.loads(line) for line in open("records")]
assert [sum("window" in j for j in r), sum("sequence" in j for j in r)] == [2 + 5 + 2, 2]
assert all(j["against"]["kl"] == 0 for j in r if "convention" in j)'
    echo '5 6 7 8' | "$BIN/tokenize" --ids --seq-length 4 -o rows.tsz
    refused 1 "cuts whole documents" record "$LLAMA" rows.tsz --conventions
    refused 2 "windows of its own" record "$LLAMA" tokens.tsz --conventions --seq-length 4
    : > empty
    refused 1 "empty holds no words" record "$LLAMA" tokens.tsz --conventions --text empty
    printf '%37s' x > other                                     # 18 bytes are those of TOKENS
    refused 1 "--text other has 37 bytes, but the tokens of tokens.tsz come from 18" \
        record "$LLAMA" tokens.tsz --conventions --text other
    printf 12345678 > other
    refused 1 "other has 8 bytes" record "$LLAMA" tokens.tsz --conventions --text other
    printf '%36s' x > text
    "$BIN/eval-ppl" "$LLAMA" tokens.tsz --conventions --context 4 --text text 2> notes > records
    grep -q "text has 36 bytes, by which harness divides; tokens.tsz was made from 18" notes
    refused 2 "can be read only once" record "$LLAMA" - --conventions --text - < tokens.tsz
    refused 2 "leave one out" record "$LLAMA" tokens.tsz --conventions --text text --max-tokens 9
    refused 2 "give --conventions too" record "$LLAMA" tokens.tsz --text text
    refused 2 "leave out --table" record "$LLAMA" tokens.tsz --conventions --table \
        --against "$LLAMA"
    refused 1 "do not fill a window of 64" record "$LLAMA" tokens.tsz --conventions
    refused 2 "leaves gaps" record "$LLAMA" tokens.tsz --conventions --context 4 --stride 5
    refused 2 "at least 3, not 2" record "$LLAMA" tokens.tsz --conventions --context 2
}

@test "memory is told once for a model, and what a convention refuses before any is computed" {
    "$BIN/eval-ppl" "$LLAMA" tokens.tsz --conventions --context 4 2> notes > records
    [ "$(grep -c "predicted memory" notes)" = 1 ]
    grep -q "llama: llama.cpp: 1 of 2 windows begin with an added BOS token$" notes
    run ! grep -e "--row-bos" notes             # is refused beside --conventions
    { seq 2 65; seq 2 65; } | xargs | "$BIN/tokenize" --ids -o long.tsz
    "$BIN/eval-ppl" "$LLAMA" long.tsz --conventions --context 65 2> notes > records
    [ "$(grep -c "windows of up to 65 tokens go beyond the 64 positions" notes)" = 1 ]
    cp -r "$LLAMA" none                         # names no token that harness could begin with
    sed -i -E 's/"([be]os)_token_id": *[0-9]*/"\1_token_id": null/' none/config.json
    seq -s ' ' 2 65 | "$BIN/tokenize" --ids -o document.tsz
    refused 1 "neither document.tsz nor the model names one" record none document.tsz --conventions
    [ -z "$output" ]
}

@test "a document that is shorter than the prefix, which goes on in the next one" {
    python3 - "$TOOLS" <<'P'
import struct, sys
sys.path.insert(0, sys.argv[1])
import stream
head = {"kind": "tokens", "id": "0" * 32, "tokenizer_id": "", "hist": [],
        "bos": {"rule": "auto", "begin": [1, 2], "end": [], "row": [1, 2]}}
stream.write(open("short.tsz", "wb"), head, [
    ("ids.%d" % i, "u32", [len(d)], struct.pack("<%dI" % len(d), *d))
    for i, d in enumerate([[1], [2, 5, 6, 7, 8, 9]])])
P
    record "$LLAMA" short.tsz --conventions --context 4 | grep '"harness"' |
        grep -q '"predictions":6,'
}

@test "a loss that is not finite by any convention is an error" {
    python3 "$TOOLS/../hf/st.py" edit "$LLAMA" broken '
for name, (dtype, shape, data) in list(T.items()):
    if "embed_tokens" in name:                  # id 8, which a BOS replaces in llama.cpp
        at = 8 * len(data) // shape[0]
        T[name] = dtype, shape, data[:at] + b"\x00\x00\xc0\x7f" + data[at + 4:]'
    refused 1 "not finite" record broken tokens.tsz --conventions --context 4
    grep '"llama.cpp"' <<< "$output" | grep -vq '"nll":null'
}
