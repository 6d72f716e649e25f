# ts-check, ts-cat, ts-dump, and the stream in another language (stream.py, rank.py: Python with
# only its standard library).
bats_require_minimum_version 1.5.0

setup() {
    bin=${PARE_BIN:-$PWD/bin}
    PATH=$bin:$PATH
    golden=$PWD/tests/golden/families
    export PYTHONPATH=$PWD/tests/tools PYTHONDONTWRITEBYTECODE=1
    cd "$BATS_TEST_TMPDIR"
}

# tokens NAME ID TOKENIZER FIRST N [LENGTH]: a stream of N rows whose ids count up from FIRST;
# LENGTH "documents": two documents of N ids
tokens() {
    python3 - "$@" <<'PY'
import struct, sys, stream
name, id, tokenizer, first, n, length = (sys.argv[1:] + ["4"])[:6]
pack = lambda ids: struct.pack("<%dI" % len(ids), *ids)
first, n = int(first), int(n)
if length == "documents":
    ids = list(range(first, first + n))
    records = [(r + "." + str(i), "u32", [n], pack(ids))
               for i in range(2) for r in ("ids", "bytes")]
else:
    ids, shape = list(range(first, first + n * int(length))), [n, int(length)]
    records = [("ids", "u32", shape, pack(ids)), ("bytes", "u32", shape, pack(ids))]
head = {"kind": "tokens", "id": stream.digest(id.encode()),
        "tokenizer_id": stream.digest(tokenizer.encode()) if tokenizer else "", "bos": "no",
        "first": first, "tokens": 4 * n, "sources": [id], "hist": []}
stream.write(open(name, "wb"), head, records)
PY
}

# scores NAME: random scores of a model of two layers
scores() {
    python3 - "$@" <<'PY'
import random, struct, sys, stream
random.seed(7)
layer = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 50}
axes = [("hidden_size", [30]), ("num_hidden_layers", [2])]
for l in "01":
    axes += [("intermediate_size." + l, [50]), ("num_attention_heads." + l, [2, 2]),
             ("num_key_value_heads." + l, [2])]
records = []
for name, shape in axes:
    n = shape[0] * shape[-1] if len(shape) > 1 else shape[0]
    values = [random.choice([random.random(), 0.5]) for _ in range(n)]
    records.append((name, "f64", shape, struct.pack("<%dd" % n, *values)))
head = {"kind": "scores", "id": stream.digest(b"scores"), "model": stream.digest(b"model"),
        "sizes": {"hidden_size": 30, "layers": [layer] * 2}, "hist": []}
stream.write(open(sys.argv[1], "wb"), head, records)
PY
}

# ---- ts-check

@test "ts-check is silent for whole streams and lists them with --verbose" {
    hf-import "$golden/llama" -o a.tsz
    hf-import "$golden/llama" --compress none -o b.tsz
    run ts-check a.tsz b.tsz
    [ "$status" = 0 ]
    [ -z "$output" ]
    run ts-check --verbose a.tsz b.tsz
    [ "$status" = 0 ]
    [ "${#lines[@]}" = 2 ]
    [[ ${lines[0]} == "a.tsz: model, intact: "*" records, "* ]]
    ts-check < a.tsz
    cat b.tsz | ts-check -
}

@test "ts-check reports truncation, a changed byte and trailing data, and names the file" {
    hf-import "$golden/llama" --compress none -o a.tsz
    size=$(stat -c %s a.tsz)
    head -c $((size - 1)) a.tsz > cut.tsz
    head -c $((size / 2)) a.tsz > half.tsz
    : > empty.tsz
    { cat a.tsz; printf x; } > more.tsz
    { head -c 3000 a.tsz; printf '\377\000'; tail -c +3003 a.tsz; } > changed.tsz
    for name in cut half empty more changed; do
        run ts-check $name.tsz
        echo "$output"
        [ "$status" = 1 ]
        [ "${#lines[@]}" = 1 ]
        [[ $output == "ts-check: $name.tsz"* ]]
    done
    run ts-check cut.tsz a.tsz half.tsz
    [ "$status" = 1 ]
    [ "${#lines[@]}" = 2 ]
}

@test "ts-check refuses files that are not streams, claims of 8 GB, and unknown versions" {
    printf 'hello, world' > text
    printf '\336\000\001\244pare\335\377\377\377\377' > huge
    printf '\202\244pare\002\244kind\241x' > later
    run ts-check text
    [ "$status" = 1 ]
    [[ $output == *"text is not a pare stream"* ]]
    run timeout 5 ts-check huge
    [ "$status" = 1 ]
    [[ $output == *"size larger than the limit"* ]]
    run ts-check later
    [ "$status" = 1 ]
    [[ $output == *"version 2; this release reads version 1"* ]]
    run ts-check nowhere
    [ "$status" = 1 ]
    [[ $output == *"nowhere: No such file or directory" ]]
}

@test "tensors of another name, dtype or shape than the header lists" {
    hf-import --quiet "$golden/llama" -o model.tsz
    python3 - <<'PY'
import stream
head, records = stream.read(open("model.tsz", "rb"))
at = next(i for i, r in enumerate(records) if r[0].endswith("q_proj.weight"))
name, dtype, shape, data = records[at]
for path, other in (("shape", (name, dtype, [1] + shape, data)), ("name", ("x", *records[at][1:]))):
    stream.write(open(path, "wb"), head, records[:at] + [other] + records[at + 1:])
PY
    for words in 'shape: tensor layers.0.q_proj.weight has another dtype or shape than its header' \
        'name: expected tensor layers.0.q_proj.weight, as listed in its header, found x'; do
        run -1 slice-model "${words%%:*}" --drop-layers 0 -o never
        [[ $output == *"$words"* ]] || { echo "$output"; false; }
    done
}

@test "a stage with truncated input writes no end map" {
    tokens a.tsz aa t 0 3
    head -c -5 a.tsz | ts-cat - > out.tsz || true
    run ts-check out.tsz
    [ "$status" = 1 ]
    run ts-cat -o named.tsz <(head -c -5 a.tsz)
    [ "$status" = 1 ]
    [ ! -e named.tsz ]
}

# ---- ts-cat

@test "ts-cat joins rows" {
    tokens a.tsz aa t 0 3
    tokens b.tsz bb t 100 2
    ts-cat a.tsz b.tsz -o ab.tsz
    ts-check ab.tsz
    run ts-dump --values ids ab.tsz
    [ "$output" = "0 1 2 3
4 5 6 7
8 9 10 11
100 101 102 103
104 105 106 107" ]
    ts-dump ab.tsz | grep -q '^bytes u32 \[5, 4\]'
    ts-dump --head ab.tsz |
        python3 -c '
import json, stream, sys
assert json.load(sys.stdin)["parts"] == [stream.digest(b"aa"), stream.digest(b"bb")]'
    ts-dump ab.tsz | grep -q '^bos: no'
    ts-dump ab.tsz | grep -q '^tokens: 20'
    ts-dump ab.tsz | grep -q '^sources: \["aa", "bb"\]'
    [ -z "$(ts-dump ab.tsz | grep '^first:')" ]             # 0 and 100: not true of all
}

@test "ts-cat joins documents" {
    tokens a.tsz aa t 0 3 documents
    tokens b.tsz bb t 100 2 documents
    cat b.tsz | ts-cat a.tsz - > ab.tsz
    ts-check ab.tsz
    [ "$(ts-dump ab.tsz | grep -c '^ids\.[0-3] u32')" = 4 ]
    [ "$(ts-dump --values ids.2 ab.tsz)" = "100 101" ]
    [ "$(ts-dump --values bytes.3 ab.tsz)" = "100 101" ]
}

@test "ts-cat joins calibration sums of shards into those of the whole, and refuses a shard twice" {
    tokens all.tsz aa "" 0 6
    calib-acts "$golden/llama" all.tsz --quiet --batch-size 1 -o whole.tsz
    calib-acts "$golden/llama" all.tsz --quiet --batch-size 1 --sequences 2 -o a.tsz
    calib-acts "$golden/llama" all.tsz --quiet --batch-size 1 --first-sequence 2 |
        ts-cat a.tsz - -o joined.tsz
    ts-check joined.tsz
    python3 - <(zstd -dc whole.tsz) <(zstd -dc joined.tsz) <<'PY'
import struct, sys, stream
(ha, a), (hb, b) = (stream.read(open(p, "rb")) for p in sys.argv[1:])
assert [r[:3] for r in a] == [r[:3] for r in b] and len(a) > 10
assert (ha["samples"], ha["positions"]) == (hb["samples"], hb["positions"]) == (6, 24)
for (name, _, _, x), (_, _, _, y) in zip(a, b):
    x, y = (struct.unpack("<%dd" % (len(v) // 8), v) for v in (x, y))
    assert all(abs(p - q) <= 1e-12 * (1 + abs(p)) for p, q in zip(x, y)), name
PY
    run ts-cat joined.tsz a.tsz -o twice.tsz
    [ "$status" = 1 ]
    [[ $output == *"each shard counts once"* ]]
}

@test "ts-cat refuses a shard twice, another tokenizer, another length, other forms, other kinds" {
    tokens a.tsz aa t 0 3
    tokens b.tsz bb t 0 3
    tokens other.tsz cc u 0 3
    tokens long.tsz dd t 0 3 5
    tokens documents.tsz ee t 0 3 documents
    scores scores.tsz
    ts-cat a.tsz b.tsz -o ab.tsz
    check() {       # check WORDS FILE...: refused in one sentence that has the words
        run ts-cat "${@:2}" -o out.tsz
        echo "$output"
        [ "$status" = 1 ]
        [ "${#lines[@]}" = 1 ]
        [[ $output == *"$1"* ]]
        [ ! -e out.tsz ]
    }
    check "each shard counts once" a.tsz a.tsz
    check "each shard counts once" ab.tsz b.tsz
    check "different tokenizers" a.tsz other.tsz
    check "sequences of 5 tokens" a.tsz long.tsz
    check "rows and documents" a.tsz documents.tsz
    python3 - <<'PY'
import stream
stream.write(open("floats.tsz", "wb"), {"kind": "tokens", "id": stream.digest(b"ff"), "hist": []},
             [("ids.0", "f32", [2], bytes(8))])
PY
    check "record ids.0 is not u32 [tokens]" documents.tsz floats.tsz
    check 'kind "scores"; only tokens, acts and logits' scores.tsz a.tsz
    check 'kind "scores", not "tokens"' a.tsz scores.tsz
    run ts-cat - - < a.tsz
    [ "$status" = 2 ]
}

# ---- ts-dump

@test "ts-dump shows streams, directories and pipes, and copes with a reader that quits" {
    hf-import "$golden/llama" -o a.tsz
    run ts-dump a.tsz
    [ "$status" = 0 ]
    local shape="llama, 4 layers, hidden size 36, vocabulary 83, 44172 parameters"
    [[ $output == *"kind: model"*"$shape"*"made by: hf-import "*"norm.weight f32 [36]"* ]]
    ts-dump "$golden/llama" | grep -q '^lm_head.weight f32 \[83, 36\]$'
    hf-import "$golden/gpt2" | ts-dump | grep -q '^model: gpt2'
    set -o pipefail
    ts-dump --quiet a.tsz | grep -q '^norm.weight' || [ $? = 141 ]
    (set +o pipefail; ts-dump a.tsz | head -n 1)
}

@test "ts-dump prints values, statistics, JSON" {
    python3 - <<'PY'
import struct, stream
inf = float("inf")
records = [("f", "f32", [2, 2], struct.pack("<4f", 1.5, -2, 0, 0.25)),
           ("d", "f64", [1], struct.pack("<d", 0.1)),
           ("i", "i32", [3], struct.pack("<3i", -1, 0, 7)),
           ("n", "f32", [3], struct.pack("<3f", inf, float("nan"), 1)),
           ("l", "i64", [1], struct.pack("<q", -2**62 - 1)), ("none", "f32", [0, 5], b""),
           ("q", "q8_0", [32], struct.pack("<e32b", 0.5, *range(-16, 16))),
           ("file/x", "u8", [5], b"text\n")]
stream.write(open("a.tsz", "wb"), {"kind": "x"}, records)
PY
    ts-check a.tsz
    [ "$(ts-dump --values f a.tsz)" = "1.5 -2
0 0.25" ]
    [ "$(ts-dump --values d a.tsz)" = 0.10000000000000001 ]
    [ "$(ts-dump --values i a.tsz)" = "-1 0 7" ]
    [ "$(ts-dump --values l a.tsz)" = -4611686018427387905 ]
    [ "$(ts-dump --values n a.tsz | tr -d -)" = "inf nan 1" ]
    [ "$(ts-dump --values none a.tsz)" = "" ]
    [ "$(ts-dump --values file/x a.tsz)" = text ]
    [ "$(ts-dump --values q a.tsz | cut -d' ' -f1,32)" = "-8 7.5" ]
    ts-dump --stats a.tsz | grep -q '^f f32 \[2, 2\] min -2 mean -0.0625 max 1.5$'
    ts-dump --stats a.tsz | grep -q '^n .*, 1 NaN$'
    ts-dump --stats a.tsz | grep -q '^none f32 \[0, 5\]$'
    ts-dump --json --stats a.tsz |
        python3 -c '
import json, sys
x = json.load(sys.stdin)["records"]
assert x[0]["mean"] == -0.0625 and x[2]["shape"] == [3] and x[0]["bytes"] == 16'
    ts-dump --head a.tsz |
        python3 -c 'import json, sys; assert json.load(sys.stdin) == {"pare": 1, "kind": "x"}'
    run ts-dump --values nothing a.tsz
    [ "$status" = 1 ]
    [[ $output == *'a.tsz has no record "nothing"' ]]
    run ts-dump --values f --json a.tsz
    [ "$status" = 2 ]
}

@test "ts-dump --values file/NAME gives the files of a model as they are" {
    hf-import "$golden/llama" -o a.tsz
    ts-dump --values file/generation_config.json a.tsz |
        cmp - "$golden/llama/generation_config.json"
    ts-dump --values file/generation_config.json "$golden/llama" |
        cmp - "$golden/llama/generation_config.json"
}

@test "ts-dump --hist remakes a file to the same bytes, through named files and pipes" {
    tokens a.tsz aa t 0 3
    tokens 'b c.tsz' bb t 100 2
    tokens d.tsz dd t 200 2
    ts-cat a.tsz 'b c.tsz' -o ab.tsz
    ts-cat ab.tsz | ts-cat - d.tsz -o all.tsz
    ts-dump --hist all.tsz > remake
    cat remake
    mv all.tsz first.tsz
    rm ab.tsz
    sh remake again.tsz
    cmp first.tsz again.tsz
    run sh remake
    [ "$status" != 0 ]
    [[ $output == *usage* ]]
    run ts-dump --hist a.tsz
    [ "$status" = 1 ]
    [[ $output == *"a.tsz has no history"* ]]
}

@test "ts-dump --hist remakes a cut: sizes that were not given, ranks from <(command)" {
    slice-model "$golden/llama" --rank <(rank --random 3 <(rank --magnitude "$golden/llama")) \
        --intermediate-size 0:20,1-:17 --drop-attention 1 -o cut.tsz --quiet
    slice-model - --rank <(rank --magnitude cut.tsz) --intermediate-size 9 -o small.tsz \
        --quiet < cut.tsz
    ts-dump --hist small.tsz > remake
    cat remake
    run ! grep -E -e '--hidden-size|^\[ -e /dev' remake
    mv small.tsz first.tsz
    mv cut.tsz first_cut.tsz
    bash remake again.tsz
    cmp first.tsz again.tsz
    cmp first_cut.tsz cut.tsz
}

# history NAME PYTHON: a stream whose hist is that expression; step(tool, operands, options, inputs,
# n) makes one with the id of number n
history() {
    python3 - "$@" <<'PY'
import stream, sys
name = lambda n: stream.digest(b"%d" % n)
def step(tool, operands=[], options={}, inputs=[], n=0):
    return {"id": name(n), "tool": tool, "options": options, "operands": operands,
            "inputs": [{"path": p, "id": i} for p, i in inputs]}
hist = eval(sys.argv[2])
stream.write(open(sys.argv[1], "wb"), {"kind": "tokens", "id": name(0), "hist": hist}, [])
PY
}

@test "ts-dump --hist quotes everything that another program wrote, and says whose history it is" {
    history a.tsz '
step("rank", ["'"'; touch harm1; '"'", "`touch harm2`", "\ntouch harm3"],
     {"seed": "$(touch harm4)"}, [("\ntouch harm5", "")]),'
    ts-dump --hist a.tsz > remake
    cat remake
    sh remake out.tsz || true
    [ -z "$(ls | grep harm)" ]
    grep -q '^# The history that a.tsz carries, as its maker wrote it: read it' remake
}

@test "ts-dump --hist writes numbers as they were typed, if that is the same number" {
    history a.tsz \
        'step("kd-train", ["m.tsz"], {"learning-rate": 0.003, "weight-decay": 0.1 + 0.2}),'
    ts-dump --hist a.tsz > remake
    grep -q -- '--learning-rate 0.003 --weight-decay 0.30000000000000004 ' remake
}

@test "ts-dump --hist prints only commands of tools that write streams, with recorded options" {
    history a.tsz 'step("eval", ["touch harm; true"]),'
    run ts-dump --hist a.tsz
    [ "$status" = 1 ]
    [[ $output == *"made by eval, which is not one of the tools"* ]]
    for option in output output-dir log 'seed 1 --output' 'x;y'; do
        history a.tsz "step('rank', [], {'$option': 'harm'}),"
        run ts-dump --hist a.tsz
        [ "$status" = 1 ]
        [[ $output == *"--$option, which no history records"* ]]
    done
    history a.tsz 'step("rank", ["a\x1b[2J"]),'
    run ts-dump --hist a.tsz
    [ "$status" = 1 ]
    [[ $output == *"control characters"* ]]
    # what another program made is needed as it is
    history a.tsz '(
step("rank.py", ["; touch harm"], n=1),
step("ts-cat", ["b.tsz"], inputs=[("b.tsz", name(1))]))'
    ts-dump --hist a.tsz > remake
    [ "$(grep -c '^# needs b.tsz, id ' remake)" = 1 ]
    run ! grep harm remake
}

@test "the tools and options that a history may name are those that --help lists" {
    lib=$BATS_TEST_DIRNAME/../../lib
    listed() {
        sed -n "/\*const $1\[\] = {/,/};/p" "$lib/tool/history.c" |
            grep -o '"[a-z0-9-]*"' | tr -d '"' | sort
    }
    for tool in "$BATS_TEST_DIRNAME"/../../bin/*.c; do
        "$bin/$(basename "$tool" .c)" --help > help
        grep -q -- '--compress\|--push-layout' help && basename "$tool" .c >> writers
        [ "$(tail -n 1 writers 2> none)" != "$(basename "$tool" .c)" ] ||
            sed -n 's/^ *\(-[a-z], \)\{0,1\}--\([a-z0-9-]*\).*/\2/p' help >> named
    done
    [ "$(listed tools)" = "$(sort writers)" ]
    # the second word of each row, which may be broken into lines
    sizes=$(sed -n '/^[A-Z]*_AXIS(/,/)$/p' "$lib/model/axes.def" | tr -d '\n' |
        sed 's/_AXIS(/\n/g' | sed -n 's/[^"]*"[a-z-]*", *"\([a-z-]*\)".*/\1/p')
    # those omitted do not change the result, and are not recorded
    unrecorded=" adapter axes base-model bytes compress deadline dry-run eval-data eval-steps \
figures force help log logging-steps multiple-of output output-dir overwrite parameters \
push-layout quiet ratio recompute resume save-steps stream-layers table teacher-dtype verify \
verify-tokens version "
    for option in $(sort -u named); do
        case $unrecorded in
        *" $option "*) ! listed options | grep -qx -- "$option" ;;
        *) { listed options; echo "$sizes"; } | grep -qx -- "$option" || [ "$option" = threads ] ||
            [ "$option" = device ] || [ "$option" = compute ] ;;
        esac || { echo "$option"; false; }
    done
}

@test "time is proportional to the input: long histories and many shards" {
    history a.tsz '
([step("ts-cat", ["a"], inputs=[("a", name(i - 1))], n=i) for i in range(60000, 0, -1)]
 + [step("ts-cat", ["a"], inputs=[("a", name(i)) for i in range(60000)])])'
    timeout 60 ts-dump --hist a.tsz > remake
    timeout 60 ts-dump a.tsz | tail -n 1 | grep -q 'made by: ts-cat a'
    tokens b.tsz bb t 0 3
    timeout 60 ts-cat b.tsz -o c.tsz
}

# ---- other languages

@test "a stage in another language: Python ranks scores as the tool rank does" {
    scores scores.tsz
    ts-check scores.tsz
    python3 "$PYTHONPATH/rank.py" < scores.tsz > other.tsz
    ts-check other.tsz
    rank scores.tsz > own.tsz
    for axis in hidden_size num_hidden_layers intermediate_size.1 num_attention_heads.0 \
        num_key_value_heads.1; do
        [ "$(ts-dump --values $axis own.tsz)" = "$(ts-dump --values $axis other.tsz)" ]
    done
    # the example of the documentation, with the file to copy, on a compressed stream
    sed -n '/^```python$/,/^```$/p' "$BATS_TEST_DIRNAME/../../docs/stages.md" |
        sed '/^```/d' > documented.py
    PYTHONPATH=$BATS_TEST_DIRNAME/../../formats python3 documented.py \
        < <(zstd -q < scores.tsz) > documented.tsz
    cmp documented.tsz other.tsz
    rank scores.tsz |
        python3 -c '
import sys, stream
h, r = stream.read(sys.stdin.buffer)
assert h["kind"] == "rank" and len(r) == 8, (h, r)'
}

@test "zstd -dc gives plain msgpack that another language reads" {
    hf-import "$golden/llama" -o a.tsz
    zstd -dc < a.tsz |
        python3 -c '
import sys, stream
h, r = stream.read(sys.stdin.buffer)
assert h["family"] == "llama" and len(r) == 40'
    zstd -q -19 -c < <(zstd -dc a.tsz) | ts-check
}

# ---- outputs that fail

@test "full disks, terminals and missing folders are reported, and nothing is left behind" {
    tokens a.tsz aa t 0 3
    run bash -c 'ts-cat a.tsz > /dev/full'
    [ "$status" = 1 ]
    [[ $output == "ts-cat: cannot write standard output: No space left on device" ]]
    run ts-cat a.tsz -o /dev/full
    [ "$status" = 1 ]
    [[ $output == *"cannot write /dev/full: No space left on device" ]]
    run ts-cat a.tsz -o no/such/out.tsz
    [ "$status" = 1 ]
    [[ $output == *"no/such/out.tsz: No such file or directory" ]]
    run script -qec "ts-cat a.tsz" /dev/null
    [ "$status" = 1 ]
    [[ $output == *"terminal"* ]]
    [ "$(ls)" = a.tsz ]
}
