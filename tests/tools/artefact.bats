# What hf-export writes beside the model: card, history, what the Hub and transformers need.
bats_require_minimum_version 1.5.0
load refused

setup() {
    export PATH=${PARE_BIN:-$PWD/bin}:$PATH OMP_WAIT_POLICY=passive
    GOLDEN=$PWD/tests/golden
    llama=$GOLDEN/families/llama
    st="python3 $PWD/tests/hf/st.py"
    GGUF="python3 $BATS_TEST_DIRNAME/gguf.py"
    cd "$BATS_TEST_TMPDIR" || exit
}

front() { awk '/^---$/ { n++; next } n == 1' "$1/README.md"; }

commands() {    # of the card, each on one line
    awk '/^```/ { n++; next } n == 1' "$1/README.md" | sed ':a; /\\$/ { N; s/ \\\n */ /; ba }'
}

# A teacher with a card of its own, cut and distilled.
small() {
    cp -r "$llama" teacher
    printf '%s\n' --- 'license: other' 'license_name: house' 'language:' '- en' '- de' \
        'tags:' '- secret' 'base_model: some/ancestor' 'widget: "x"' --- '# Teacher' \
        > teacher/README.md
    seq 1 20 | paste -sd ' ' | tokenize --quiet --ids -o tokens.tsz
    rank --magnitude teacher -o rank.tsz
    slice-model --quiet teacher --rank rank.tsz --intermediate-size 24 -o student.tsz
    kd-train --quiet student.tsz --teacher teacher --data tokens.tsz --max-steps 1 -o distilled.tsz
}

@test "the card: licence and languages of the original, what was done, how to run it" {
    small
    hf-export distilled.tsz small
    [ "$(front small | paste -sd '|')" = "library_name: transformers|pipeline_tag: text-generation|\
license: other|license_name: house|language:|- en|- de|base_model: some/ancestor|\
base_model_relation: finetune|tags:|- pare|- pruned|- distillation" ]
    grep -q '^# small$' small/README.md
    grep -q '^| intermediate_size | 24 |$' small/README.md
    run ! grep expert small/README.md
    grep -q 'from_pretrained(name, dtype="auto")' small/README.md
    run ! grep -e secret -e Teacher small/README.md
    # through the exported directory the metadata come back
    hf-export small again --base-model house/small
    front again > again.front
    grep -qx 'license_name: house' again.front
    grep -qx 'base_model: house/small' again.front
    run ! grep -e relation -e pruned again.front
    # a card with the line ends of Windows
    sed 's/$/\r/' teacher/README.md > crlf
    mv crlf teacher/README.md
    hf-export teacher whole
    [ "$(front whole | grep -c -e '^license: other$' -e '^- de$')" = 2 ]
}

@test "the commands of the card, and the script of history.json, make the model again" {
    small
    hf-export distilled.tsz small --dtype bf16
    commands small > steps
    [ "$(sed 's/ .*//' steps | xargs)" = "rank slice-model tokenize kd-train hf-export" ]
    grep -q '^kd-train .* student.tsz -o distilled.tsz$' steps
    mkdir redone
    cd redone
    cp -r ../teacher .
    seq 1 20 | paste -sd ' ' | tokenize --quiet --ids -o tokens.tsz
    grep -v ^tokenize ../steps | sed 's/$/ --quiet/' > steps
    sh -e steps
    $st same ../small small
    ts-dump --hist ../small > script
    grep -q '^# Makes it again.* kind directory' script
    sh script other 2> notes
    $st same ../small other
    cmp ../small/config.json other/config.json
}

@test "the card names files without the folders of its maker's machine" {
    small
    slice-model "$PWD/teacher" --in-order --intermediate-size 8 -o here.tsz
    kd-train "$PWD/here.tsz" --teacher "$PWD/teacher" --data "$PWD/tokens.tsz" \
        --max-steps 1 -o k.tsz
    hf-export "$PWD/k.tsz" carded
    commands carded > steps
    [ "$(grep -c -e "^kd-train --teacher teacher .* --data tokens.tsz .* here.tsz -o k.tsz$" \
        -e '^slice-model .* teacher -o here.tsz$' -e '^hf-export .* k.tsz carded$' steps)" = 3 ]
    if grep -F "$PWD" carded/README.md; then false; fi
}

@test "the origin's name on the Hub: given, of the cache, of config.json" {
    hub=hub/models--house--big-1.5/snapshots/0123
    mkdir -p "$hub"
    cp "$llama"/* "$hub"
    hf-export "$hub" cached
    front cached | grep -qx 'base_model: house/big-1.5'
    $st edit "$llama" named 'C["_name_or_path"] = "house/named"'
    hf-export named config
    front config | grep -qx 'base_model: house/named'
    $st edit "$llama" local 'C["_name_or_path"] = "/home/me/model"'
    hf-export local path
    run ! grep base_model path/README.md
    echo 1 2 3 4 5 6 7 8 | tokenize --quiet --ids -o tokens.tsz
    kd-train "$llama" --teacher "$hub" --data tokens.tsz --max-steps 1 --quiet -o distilled.tsz
    hf-export distilled.tsz taught        # the teacher is not what it was made from
    run ! grep base_model taught/README.md
    refused 2 'takes a name on the Hub such as google/gemma-3-270m, not "../x"' \
        hf-export named other --base-model ../x
}

@test "figures are a table of what eval-ppl printed" {
    small
    eval-ppl teacher distilled.tsz tokens.tsz --against teacher --quiet > figures
    hf-export distilled.tsz small --figures figures
    python3 - <<'P'
import json
rows = [json.loads(line) for line in open("figures")]
table = [line for line in open("small/README.md") if line.startswith("| `")]
for r, line in zip(rows, table, strict=True):
    want = [f"`{r['model']}`", str(r["parameters"]), f"{r['nll']:.4f}", f"{r['ppl']:.3f}", "",
            f"{r['against']['kl']:.4f}", f"{r['against']['same_top1']:.3f}"]
    assert [x.strip() for x in line.strip().strip("|").split("|")] == want, (line, want)
P
    echo '{"model": "x"}' > wrong
    refused 1 "line 1 is not what eval-ppl prints: it has no nll" \
        hf-export distilled.tsz other --figures wrong
    [ ! -e other ]
}

@test "text of others cannot leave its place in the card" {
    hf-import "$llama" --compress none -o a.tsz
    PYTHONPATH=$BATS_TEST_DIRNAME python3 - <<'P'
import stream
head, records = stream.read(open("a.tsz", "rb"))
step = head["hist"][-1]
step["operands"] = ["x\n```\n# Taken\n", "\x1b[31m"]
card = b"---\nlicense: mit\nlanguage: \x1b[31m\n---\n"
head["files"].append({"name": "README.md", "bytes": len(card)})
records.insert(len(head["files"]) - 1, ("file/README.md", "u8", [len(card)], card))
stream.write(open("b.tsz", "wb"), head, records)
P
    hf-export b.tsz out
    grep -qx '# hf-import, with words that cannot be shown' out/README.md
    run ! grep -e Taken -e $'\x1b' out/README.md
    [ "$(front out | grep -c -e '^license: mit$' -e ^language)" = 1 ]
    PYTHONPATH=$BATS_TEST_DIRNAME python3 - <<'P'
import stream
head, records = stream.read(open("a.tsz", "rb"))
head["hist"][-1]["tool"] = "x\n```\n# Taken\n"
head["hist"][-1]["inputs"] = [{"path": "models--house--..", "id": ""}]
stream.write(open("c.tsz", "wb"), head, records)
P
    hf-export c.tsz named
    grep -qx '# a step, with words that cannot be shown' named/README.md
    run ! grep -e Taken -e house named/README.md
}

@test "long commands are broken between words" {
    long="dir -with-a 'quote' \\ -and a-name -that-is-longer -than-a-line -of-the-card, -and -more"
    cp -r "$llama" "$long"
    hf-import "$long" -o a.tsz
    hf-export a.tsz out
    awk '/^```/ { n++; next } n == 1' out/README.md | sed '/^hf-export/,$d' > command
    hf-import() { printf '%s\n' "$@"; }
    . ./command > words
    printf '%s\n' "$long" -o a.tsz | cmp - words
}

@test "ids of special tokens are compared with the vocabulary; what is missing is written" {
    $st edit "$llama" stray 'C["eos_token_id"] = [1, 4000]'
    refused 0 "config.json: eos_token_id has the id 4000, beyond the vocabulary of" \
        hf-export stray a
    cp -r "$llama" broken
    echo '{"eos_token_id": 99999}' > broken/generation_config.json
    refused 0 "generation_config.json: eos_token_id has the id 99999" hf-export broken b
    echo '{"eos_token_id": 1' > broken/generation_config.json
    refused 0 "generation_config.json" hf-export broken c
    [[ $stderr == *"transformers will not read it" ]]
    $st edit "$llama" bare 'C["eos_token_id"], C["bos_token_id"] = 2, None'
    rm -f bare/generation_config.json
    hf-export bare d
    [ "$(python3 -c 'import json; print(json.load(open("d/generation_config.json")))')" \
        = "{'eos_token_id': 2}" ]
}

@test "licence, languages, tags and base models of a card, in a GGUF file and back" {
    small
    gguf-export teacher whole.gguf
    $GGUF show whole.gguf general. > about
    grep -qx 'general.license other' about
    grep -qx 'general.license.name house' about
    grep -qx "general.languages \['en', 'de'\]" about
    grep -qx "general.tags \['secret'\]" about
    grep -qx 'general.base_model.count 1' about
    grep -qx 'general.base_model.0.name Ancestor' about
    grep -qx 'general.base_model.0.organization Some' about
    grep -qx 'general.base_model.0.repo_url https://huggingface.co/some/ancestor' about
    hf-export whole.gguf back
    hf-export teacher same
    diff <(front same) <(front back)
    # another model: it has the licence, and tags of its own
    gguf-export distilled.tsz small.gguf
    $GGUF show small.gguf general. > about
    grep -qx 'general.license other' about
    grep -qx 'general.base_model.0.name Ancestor' about
    grep -qx "general.tags \['pare', 'pruned', 'distillation', 'text-generation'\]" about
}

@test "a GGUF file's licence, languages and base models" {
    $GGUF tiny tiny
    $GGUF make tiny m.gguf F32 '
M["general.license"] = "apache-2.0"
M["general.license.name"] = "a: \"b\""
M["general.license.link"] = "two\nlines"
M["general.languages"] = ["en", "no"]
M["general.base_model.0.repo_url"] = "https://huggingface.co/house/big"'
    hf-export m.gguf out
    front out > entries
    grep -qx 'license: apache-2.0' entries
    grep -qxF 'license_name: "a: \"b\""' entries
    grep -qx 'base_model: house/big' entries
    if grep license_link entries; then false; fi
    [ "$(grep -A 2 ^language: entries | xargs)" = "language: - en - no" ]
    grep -qx -- '- "no"' entries     # without quotes YAML takes it for false
    $GGUF make tiny m.gguf F32 '
M["general.base_model.0.repo_url"] = "https://huggingface.co/house/big"
M["general.base_model.1.repo_url"] = "https://example.com/other"'
    hf-export m.gguf merged
    [ "$(front merged | grep -A 2 ^base_model: | xargs)" = \
        "base_model: - house/big - https://example.com/other" ]
}

@test "--push-layout; an index with totals; no directory is called .gguf" {
    hf-export "$llama" out --push-layout --max-shard-size 20KB 2> note
    grep -q 'hf upload ORGANISATION/NAME out uploads it' note
    grep -qx '\*.safetensors filter=lfs diff=lfs merge=lfs -text' out/.gitattributes
    python3 - <<'P'
import glob, json, struct
totals = json.load(open("out/model.safetensors.index.json"))["metadata"]
n = 0
for path in glob.glob("out/*.safetensors"):
    data = open(path, "rb").read()
    size, = struct.unpack("<Q", data[:8])
    n += len(data) - 8 - size
assert totals == {"total_size": n, "total_parameters": n // 4}, (totals, n)
P
    refused 2 "out.gguf is the name of a GGUF file: gguf-export $llama out.gguf writes that" \
        hf-export "$llama" out.gguf
}
