# eval-ppl and dump-logits: golden losses and logits of every family, windows, records, thresholds,
# refusals.
bats_require_minimum_version 1.5.0
load refused

setup() {
    BIN=${PARE_BIN:-$PWD/bin}
    G=$PWD/tests/golden
    GOLDEN="python3 $PWD/tests/tools/golden.py"
    LLAMA=$G/families/llama
    export OMP_WAIT_POLICY=passive              # short runs of many threads: do not spin
    cd "$BATS_TEST_TMPDIR" || exit
}

golden_tokens() { $GOLDEN ids "$1/expected.safetensors" input_ids | "$BIN/tokenize" --ids -o "$2"; }
value() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$@"; }
record() { "$BIN/eval-ppl" --quiet "$@"; }

@test "the mean loss of every golden family and every cut model" {
    for dir in "$G"/families/*; do
        golden_tokens "$dir" tokens.tsz
        models=$(ls -d "$dir" "$G/slice/${dir##*/}"/*/config.json 2> names || true)
        record ${models//\/config.json/} tokens.tsz >> records
    done
    [ "$(wc -l < records)" -gt 30 ]
    $GOLDEN nll records 1e-5
}

@test "the logits of every golden family, by dump-logits" {
    for dir in "$G"/families/*/; do
        golden_tokens "$dir" tokens.tsz
        "$BIN/dump-logits" --quiet "$dir" tokens.tsz --full --compress none -o logits.tsz
        $GOLDEN logits logits.tsz "$dir/expected.safetensors" 1e-4
    done
    [ "$("$BIN/dump-logits" --quiet "$dir" tokens.tsz --full --max-tokens 40 | "$BIN/ts-dump" - |
        grep -c '^logits')" = 1 ]
}

@test "--max-tokens ends before the first sequence that does not fit, as in calib-acts" {
    for n in 20 30 4; do seq -s ' ' "$n"; done | "$BIN/tokenize" --ids -o documents.tsz
    part() {
        "$BIN/dump-logits" --quiet "$LLAMA" documents.tsz --full "$@" | "$BIN/ts-dump" - |
            grep -o '^logits\.[0-9]*' | tr '\n' ' '
    }
    [ "$(part)" = "logits.0 logits.1 logits.2 " ]
    [ "$(part --max-tokens 25)" = "logits.0 " ]
    [ "$(part --max-tokens 50)" = "logits.0 logits.1 " ]
    "$BIN/calib-acts" "$LLAMA" documents.tsz --max-tokens 25 2>&1 > acts.tsz |
        grep -q '1 samples, 20 positions'
    "$BIN/calib-acts" "$LLAMA" documents.tsz --max-tokens 25 --first-sequence 1 2>&1 > acts.tsz |
        grep -q 'no sequence that fits the options'
    for tool in calib-acts "dump-logits --full"; do
        run --separate-stderr -1 "$BIN/"$tool --quiet "$LLAMA" documents.tsz --max-tokens 19
        [[ $stderr == *"fits the options"* ]]
    done
}

@test "windows: joined rows, strides, first scored position, against the same windows cut by hand" {
    golden_tokens "$LLAMA" rows.tsz                                     # 2 rows of 33
    $GOLDEN ids "$LLAMA/expected.safetensors" input_ids | tr '\n' ' ' > text
    window() {
        cut -d ' ' -f "$1-$2" text | "$BIN/tokenize" --ids -o "w$1.tsz"
        record "$LLAMA" "w$1.tsz" "${@:3}" > "w$1.json"
    }
    window 1 20; window 21 40; window 41 60
    record "$LLAMA" rows.tsz --context 20 > whole.json
    python3 - <<'P'
import json, math
whole, parts = json.load(open("whole.json")), [json.load(open("w%d.json" % n)) for n in (1, 21, 41)]
means = [p["nll"] for p in parts]
mean = sum(means) / 3
counts = [whole[k] for k in ("windows", "tokens", "tokens_left_out", "predictions")]
assert counts == [3, 60, 6, 57]
assert abs(whole["nll"] - mean) < 1e-6
assert abs(whole["standard_error"] - math.sqrt(sum((m - mean) ** 2 for m in means) / 2 / 3)) < 1e-6
assert abs(whole["ppl"] - math.exp(whole["nll"])) < 1e-6 * whole["ppl"]
assert parts[0]["standard_error"] is None
P
    window 1 20; window 9 28 --score-from 12; window 17 36 --score-from 12
    record "$LLAMA" rows.tsz --context 20 --stride 8 --max-tokens 36 > whole.json
    python3 - <<'P'
import json
whole, parts = json.load(open("whole.json")), [json.load(open("w%d.json" % n)) for n in (1, 9, 17)]
assert [p["predictions"] for p in parts] == [19, 8, 8]
assert whole["windows"] == 3 and whole["predictions"] == whole["tokens"] - 1 == 35
assert abs(whole["nll"] - sum(p["nll"] * p["predictions"] for p in parts) / 35) < 1e-6
P
    record "$LLAMA" rows.tsz --context 16 --score-from 9 > half.json
    # 7 of each of 4 windows, as llama-perplexity counts 255 of 512
    [ "$(value half.json predictions)" = 28 ]
}

@test "--row-bos: windows that begin inside a text begin with BOS, as windows made by hand do" {
    # BOS (1) and 56 other tokens
    {
        printf '1 '
        $GOLDEN ids "$LLAMA/expected.safetensors" input_ids | tr '\n' ' ' | tr -s ' ' |
            cut -d ' ' -f 1-56 | sed 's/\b1\b/2/g'
    } > text
    "$BIN/tokenize" --ids text -o plain.tsz
    {
        cut -d ' ' -f 1-20 text
        echo "1 $(cut -d ' ' -f 21-39 text)"
        echo "1 $(cut -d ' ' -f 40-57 text)"
    } > cut
    "$BIN/tokenize" --ids cut -o cut.tsz
    # the header of a tokenizer that puts 1 before a text
    python3 - plain.tsz bos.tsz <<P
import subprocess, sys
sys.path.insert(0, "$G/../tools")
import io, stream
head, records = stream.read(io.BytesIO(subprocess.check_output(["zstd", "-dc", sys.argv[1]])))
head["bos"] = {"rule": "auto", "begin": [1], "end": [], "row": [1]}
stream.write(open(sys.argv[2], "wb"), head, records)
P
    numbers() {
        record "$@" | python3 -c '
import json, sys
r = json.load(sys.stdin)
print(r["nll"], r["windows"], r["predictions"])'
    }
    want=$(numbers "$LLAMA" cut.tsz)
    [[ "$want" == *" 3 56" ]]
    [ "$(numbers "$LLAMA" bos.tsz --seq-length 20)" = "$want" ]
    [ "$(numbers "$LLAMA" plain.tsz --seq-length 20 --row-bos yes)" = "$want" ]
    # ids alone do not identify a tokenizer
    [[ "$(numbers "$LLAMA" plain.tsz --seq-length 20)" == *" 3 54" ]]
    [ "$(numbers "$LLAMA" bos.tsz --seq-length 20 --row-bos no)" \
        = "$(numbers "$LLAMA" plain.tsz --seq-length 20)" ]
    # --context drops the last one
    head -2 cut | "$BIN/tokenize" --ids -o whole.tsz
    [ "$(numbers "$LLAMA" bos.tsz --context 20)" = "$(numbers "$LLAMA" whole.tsz)" ]
    "$BIN/eval-ppl" "$LLAMA" bos.tsz --context 20 2>&1 |
        grep -q '1 of 2 windows begin with an added BOS token (--row-bos auto)'
    "$BIN/probe-layers" "$LLAMA" bos.tsz --context 20 2>&1 > probe.tsz |
        grep -q '1 of 2 windows begin with an added BOS token'
    refused 1 "leaves gaps" record "$LLAMA" bos.tsz --context 20 --stride 20
    refused 2 "must be auto, yes or no" record "$LLAMA" bos.tsz --row-bos maybe
    # rows that begin with a BOS are windows already
    printf 'abcdefghij' > words
    "$BIN/tokenize" --quiet -m "$G/tokenizers_small/spm.json" --seq-length 4 words -o rows.tsz
    refused 1 "begin with an added BOS" record "$LLAMA" rows.tsz --context 8
}

@test "without --seq-length, every tool cuts to the positions of the model, with a note" {
    seq -s ' ' 1 80 | "$BIN/tokenize" --ids -o document.tsz             # the model has 64 positions
    seq -s ' ' 1 80 | "$BIN/tokenize" --ids --seq-length 80 -o row.tsz
    note="sequences are cut to 64 tokens (--seq-length)"
    for tokens in document.tsz row.tsz; do
        "$BIN/eval-ppl" "$LLAMA" $tokens > default.json 2> notes
        grep -qF "$note" notes
        record "$LLAMA" $tokens --seq-length 64 > asked.json
        [ "$(value default.json nll)" = "$(value asked.json nll)" ]
        [ "$(value default.json predictions) $(value default.json seq_length)" = "78 64" ]
        "$BIN/probe-layers" "$LLAMA" $tokens 2>&1 > probe.tsz | grep -qF "$note"
        "$BIN/calib-acts" "$LLAMA" $tokens 2>&1 > acts.tsz | grep -qF "$note"
        "$BIN/dump-logits" --full "$LLAMA" $tokens 2>&1 > logits.tsz | grep -qF "$note"
        "$BIN/kd-train" "$LLAMA" --loss ce --data $tokens --max-steps 1 2>&1 > student.tsz |
            grep -qF "$note"
    done
    "$BIN/eval-ppl" "$LLAMA" document.tsz --seq-length 80 > asked.json 2> notes
    note="windows of up to 80 tokens go beyond the 64 positions of the model"
    grep -qF "$note (max_position_embeddings)" notes
    [ "$(value asked.json predictions)" = 79 ]
}

@test "longrope: each sequence turns by its own length, whatever shares its batch or is reserved" {
    # 16 original positions; documents of 8, 8, 8 and 22 tokens
    L=$G/longrope
    want() {
        python3 -c '
import json, sys
print(eval(sys.argv[2], json.load(open(sys.argv[1] + "/expected.json"))))' "$L" "$1"
    }
    want '"\n".join(" ".join(map(str, d)) for d in docs)' | "$BIN/tokenize" --ids -o documents.tsz
    for batch in 1 2 4; do
        for threads in 1 2; do
            record "$L" documents.tsz --batch-size $batch --threads $threads > record.json
            python3 -c '
import json, sys
got, want = json.load(open("record.json"))["nll"], float(sys.argv[1])
assert abs(got - want) < 2e-6, (got, want)' "$(want nll_each_document_alone)"
        done
    done
    # the loss of a first step is that of the documents, too
    "$BIN/kd-train" "$L" --quiet --loss ce --data documents.tsz --batch-size 4 --max-steps 1 \
        --log log -o trained.tsz
    python3 -c '
import json, sys
got = json.loads(open("log").readline())["loss"]
assert abs(got - float(sys.argv[1])) < 2e-6, got' "$(want nll_each_document_alone)"
    prompt=$(want '" ".join(map(str, prompt))')
    text=$(want '" ".join(map(str, prompt + greedy_20))')
    [ "$("$BIN/generate" "$L" --prompt-ids "$prompt" --max-new-tokens 20 --ignore-eos)" = "$text" ]
    [ "$("$BIN/generate" "$L" --prompt-ids "$prompt" --max-new-tokens 4 --ignore-eos)" \
        = "$(cut -d ' ' -f 1-14 <<< "$text")" ]
    [ "$("$BIN/generate" "$L" --prompt-ids "$(cut -d ' ' -f 1-20 <<< "$text")" --max-new-tokens 10 \
        --ignore-eos)" = "$text" ]
}

@test "dynamic rope scaling: sequences beyond the model's positions are refused" {
    cp -r "$LLAMA" dynamic; chmod -R u+w dynamic
    sed -i 's/"rope_scaling": null/"rope_scaling": {"type": "dynamic", "factor": 2.0}/' \
        dynamic/config.json
    seq -s ' ' 1 80 | "$BIN/tokenize" --ids -o document.tsz
    # windows of 64: as without scaling
    record dynamic document.tsz > default.json
    record "$LLAMA" document.tsz > plain.json
    [ "$(value default.json nll)" = "$(value plain.json nll)" ]
    refused 1 "dynamic rope scaling" record dynamic document.tsz --seq-length 80
    refused 1 "dynamic rope scaling" "$BIN/generate" dynamic --prompt-ids "3 4" \
        --max-new-tokens 80 --quiet
}

@test "long sequences in pieces: the rest counts, unless it is one token; no piece crosses over" {
    golden_tokens "$LLAMA" rows.tsz                                     # 2 rows of 33
    record "$LLAMA" rows.tsz --seq-length 20 > pieces.json
    $GOLDEN ids "$LLAMA/expected.safetensors" input_ids |
        awk '{ for (i = 1; i <= NF; i++) printf "%s%s", $i, i == 20 || i == NF ? "\n" : " " }' > cut
    [ "$(awk '{ print NF }' cut | tr '\n' ' ')" = "20 13 20 13 " ]
    for i in 1 2 3 4; do
        sed -n ${i}p cut | "$BIN/tokenize" --ids -o piece.tsz
        record "$LLAMA" piece.tsz
    done > parts
    python3 - <<'P'
import json
whole, parts = json.load(open("pieces.json")), [json.loads(line) for line in open("parts")]
assert [p["predictions"] for p in parts] == [19, 12, 19, 12]
counts = [whole[k] for k in ("seq_length", "windows", "tokens", "tokens_left_out", "predictions")]
assert counts == [20, 4, 66, 0, 62]
assert abs(whole["nll"] - sum(p["nll"] * p["predictions"] for p in parts) / 62) < 1e-6
P
    [ "$(record "$LLAMA" rows.tsz --seq-length 33 | cut -d, -f12-20)" \
        = "$(record "$LLAMA" rows.tsz | cut -d, -f12-20)" ]
    record "$LLAMA" rows.tsz --seq-length 16 --score-from 9 > half.json
    for count in predictions=28 windows=4 tokens_left_out=2; do
        [ "$(value half.json "${count%=*}")" = "${count#*=}" ]
    done
    seq -s ' ' 1 80 | "$BIN/tokenize" --ids -o long.tsz
    refused 1 "learned positions" record "$G/families/gpt2" long.tsz --seq-length 80
    record "$G/families/gpt2" long.tsz --seq-length 64
    refused 2 "give one" record "$LLAMA" rows.tsz --seq-length 16 --context 16
    refused 2 "to predict a token" record "$LLAMA" rows.tsz --seq-length 1
    refused 2 "position 16" record "$LLAMA" rows.tsz --seq-length 16 --score-from 16
    refused 2 "stride" record "$LLAMA" rows.tsz --seq-length 16 --stride 8
}

@test "documents of any length; batches of any size give the same loss" {
    printf '%s\n' '5 6 7' '8' '9 10 11 12 13 14 15 16' '17 18' | "$BIN/tokenize" --ids -o docs.tsz
    for n in 1 2 3 7; do
        record "$LLAMA" docs.tsz --batch-size $n > $n.json
        [ "$(value $n.json predictions) $(value $n.json windows)" = "10 3" ]
    done
    python3 -c '
import json
a = [json.load(open("%d.json" % n))["nll"] for n in (1, 2, 3, 7)]
assert max(a) - min(a) < 1e-6, a'
}

@test "several models, records and table, threshold" {
    golden_tokens "$LLAMA" tokens.tsz
    "$BIN/hf-import" "$LLAMA" -o llama.tsz
    record "$LLAMA" llama.tsz "$G/slice/llama/ffn" tokens.tsz > records
    python3 - <<'P'
import json
a, b, c = map(json.loads, open("records"))
for key in "model_id", "model_digest", "nll":
    assert a[key] == b[key] != c[key], key
assert a["parameters"] > c["parameters"] and a["bits_per_byte"] is None
assert a["peak_rss"] > 1e6 and a["family"] == "llama"
P
    [ "$(record "$LLAMA" llama.tsz tokens.tsz --table | wc -l)" = 3 ]
    record "$LLAMA" tokens.tsz --max-nll 6.1
    refused 3 "exceeds --max-nll 6" record "$LLAMA" tokens.tsz --max-nll 6
    [ -n "$output" ]
    [ "$("$BIN/hf-import" "$LLAMA" | record - tokens.tsz | cut -d, -f2-13)" \
        = "$(head -n 1 records | cut -d, -f2-13)" ]
}

@test "a path that is not UTF-8 or holds terminal escapes does not lose the result" {
    name=$(printf 'm\377\033[31m\302\233.tsz')
    "$BIN/hf-import" "$LLAMA" -o "$name"
    "$BIN/tokenize" --ids <(echo 1 2 3 4 5 6 7) -o "few.tsz"
    "$BIN/eval-ppl" --quiet "$name" "few.tsz" |
        python3 -c 'import json, sys; assert json.load(sys.stdin)["nll"] > 0'
    "$BIN/eval-ppl" --quiet --table "$name" "few.tsz" > "table"
    "$BIN/ts-dump" "$name.none" 2> "message" || [ $? = 1 ]
    for file in "table" "message"; do
        python3 -c '
import sys
t = open(sys.argv[1], "rb").read().decode()
assert all(c == "\n" or " " <= c < "\x7f" or c > "\x9f" for c in t), t' "$file"
    done
}

@test "bits per byte count the source bytes of the predicted tokens" {
    python3 - "$PWD" "$BATS_TEST_DIRNAME" <<'P'
import struct, sys
sys.path.insert(0, sys.argv[2])
import stream
ids, lengths = [5, 6, 7, 8], [100, 2, 0, 3]
head = {"kind": "tokens", "id": "0" * 32, "tokenizer_id": "", "hist": []}
stream.write(open("t.tsz", "wb"), head,
             [("ids", "u32", [1, 4], struct.pack("<4I", *ids)),
              ("bytes", "u32", [1, 4], struct.pack("<4I", *lengths))])
P
    record "$LLAMA" t.tsz > r.json
    python3 -c '
import json, math
r = json.load(open("r.json"))
assert r["bytes"] == 5, r
assert abs(r["bits_per_byte"] - r["nll"] * 3 / math.log(2) / 5) < 1e-9, r'
}

@test "refused: ids beyond the vocabulary, learned positions, impossible windows, full disk" {
    "$BIN/tokenize" --ids -o beyond.tsz <<< "1 2 83"
    refused 1 "token id 83" record "$LLAMA" beyond.tsz
    refused 1 "token id 83" "$BIN/dump-logits" --quiet "$LLAMA" beyond.tsz --full -o x.tsz
    golden_tokens "$LLAMA" tokens.tsz
    refused 1 "learned positions" record "$G/families/gpt2" tokens.tsz --context 66
    refused 2 "stride" record "$LLAMA" tokens.tsz --context 8 --stride 9
    refused 2 "stride" record "$LLAMA" tokens.tsz --stride 9
    refused 1 "do not fill a window of 67" record "$LLAMA" tokens.tsz --context 67
    refused 2 "--full" "$BIN/dump-logits" --quiet "$LLAMA" tokens.tsz -o x.tsz
    refused 1 "No space" bash -c '"$1" --quiet "$2" tokens.tsz --full > /dev/full' \
        - "$BIN/dump-logits" "$LLAMA"
    refused 1 "standard output" bash -c '"$1" --quiet "$2" tokens.tsz > /dev/full' \
        - "$BIN/eval-ppl" "$LLAMA"
    [ ! -e x.tsz ]
}

@test "dump-logits takes no more memory for more sequences" {
    seq 1 40 | awk '{ for (i = 1; i <= 32; i++) printf "%d ", (i * $1) % 83; print "" }' > forty
    for i in $(seq 25); do cat forty; done | "$BIN/tokenize" --ids --seq-length 32 -o many.tsz
    head -n 2 forty | "$BIN/tokenize" --ids --seq-length 32 -o few.tsz
    # under AddressSanitizer: do not hold what was freed
    export ASAN_OPTIONS=quarantine_size_mb=0
    peak() {
        python3 -c '
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)' \
            "$BIN/dump-logits" --quiet "$LLAMA" "$1" --full --batch-size 2 --compress none
    }
    # kB; the logits of all are 10 MB
    [ $(($(peak many.tsz) - $(peak few.tsz))) -lt 4000 ]
}
