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
{"added_tokens": [{"id": 8, "content": "<s>", "special": true}], "normalizer": null,
 "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
 "post_processor": {"type": "TemplateProcessing", "pair": [],
  "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
             {"Sequence": {"id": "A", "type_id": 0}}],
  "special_tokens": {"<s>": {"id": "<s>", "ids": [8], "tokens": ["<s>"]}}},
 "decoder": {"type": "ByteLevel"},
 "model": {"type": "BPE", "merges": ["a b", "b c", "ab c", "ab ab", "c c"], "vocab":
  {"a": 0, "b": 1, "c": 2, "ab": 3, "bc": 4, "abc": 5, "abab": 6, "cc": 7, "<s>": 8}}}
END
    $vocab model words.json words '{"eos_token_id": null}'
    rm words/generation_config.json
    # abc abc abab b: abc twice, abab once, b once
    printf 'abcc\nabab\nabc\nb\n' | tokenize --quiet -m words --bos no --doc-sep '
' -o words.tsz
    score-vocab words words.tsz -o words.scores 2> note
    grep -q '5 tokens of text use 4 of the 9 tokens of the vocabulary' note
    # abc 2; abab 1; ab 2 + 2 * 1; cc 0; bc 0; a 4; b 4 + 1; c 2 + 1 (of its own)
    [ "$(ts-dump --values vocab_size words.scores)" = "4 5 3 4 0 2 1 0 0" ]
    rank words.scores -o words.rank
    [ "$(ts-dump --values vocab_size words.rank)" = "1 0 3 2 5 6 4 7 8" ]
    slice-model --quiet words --rank words.rank --vocab-size 6 -o six.tsz
    hf-export --quiet six.tsz six
    [ "$(python3 -c '
import json
m = json.load(open("six/tokenizer.json"))["model"]
print(*m["vocab"].items(), *m["merges"])')" \
        = "('a', 0) ('b', 1) ('c', 2) ('ab', 3) ('abc', 4) ('<s>', 5) a b ab c" ]
    # a is 0, b 1, and c 2: cab is c ab
    printf cab | tokenize --quiet -m six.tsz -o own.tsz
    [ "$(ts-dump --values ids.0 own.tsz)" = "5 2 3" ]
}

@test "tokens with scores are lost one by one, and their uses go to what takes their place" {
    python3 > scored.json <<'P'
import json
pieces = [["a", -2], ["b", -2], ["c", -3], ["ab", -2.5], ["bc", -4.5], ["abc", -3], ["zz", -9]]
vocab = [["<unk>", 0], *(["<0x%02X>" % i, 0] for i in range(256)), *pieces]
print(json.dumps({"added_tokens": [], "model": {
    "type": "Unigram", "unk_id": 0, "byte_fallback": True, "vocab": vocab}}))
P
    $vocab model scored.json scored '{"bos_token_id": null, "eos_token_id": null}'
    rm scored/generation_config.json
    printf 'abc\nabc\nabc\nab\nab\na\nb\nc\nbc' | tokenize --quiet -m scored --bos no --doc-sep '
' -o scored.tsz
    score-vocab --quiet scored scored.tsz -o scored.scores
    ts-dump --values vocab_size scored.scores | tr ' ' '\n' > uses
    # lost at 1: bc, so b and c have 2 uses, then a. At 2: ab, which becomes a byte and b, which
    # has 4, then c. At 3: abc, a byte, b, a byte. b at 7. zz has the lowest score and stays.
    [ "$(sed -n '258,$p' uses | xargs)" = "1 7 2 2 1 3 0" ]
    # bytes of a: 1 + 2 + 3, of b: 7, of c: 2 + 3
    [ "$(sed -n '99,101p' uses | xargs)" = "6 7 5" ]
    rank scored.scores -o scored.rank
    refused 1 "--vocab-size must be at least 258" \
        slice-model scored --rank scored.rank --vocab-size 200
    slice-model --quiet scored --rank scored.rank --vocab-size 260 --verify scored.tsz -o cut.tsz
    hf-export --quiet cut.tsz cut.dir
    [ "$(python3 -c '
import json
print(*json.load(open("cut.dir/tokenizer.json"))["model"]["vocab"][257:])')" \
        = "['b', -2] ['abc', -3] ['zz', -9]" ]
    # b <0x63> abc <0x61> b
    printf bcabcab | tokenize --quiet -m cut.tsz --bos no -o own.tsz
    [ "$(ts-dump --values ids.0 own.tsz)" = "257 100 258 98 257" ]
}

@test "texts whose tokens stay are encoded as before, others as pieces; ids follow everywhere" {
    for name in gpt2 llama3 spm qwen2 unigram; do
        ranked $name
        cut $name "$(case $name in spm) echo 400;; unigram) echo 320;; *) echo 290; esac)"
        $vocab check $name.dir $name
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

@test "files without ids stay as they are, byte for byte" {
    ranked gpt2
    printf 'Copyright\n\0 all rights reserved\n' > gpt2/LICENSE
    cut gpt2 290
    cmp gpt2/LICENSE gpt2.dir/LICENSE
}

@test "a cut model learns from the uncut one, in a directory or a stream, as from a cut teacher" {
    ranked spm
    cut spm 400
    tokenize --quiet -m spm.cut --seq-length 16 "$small/spm.jsonl" -o rows.tsz
    # the student lacks units besides; its teacher has all, and all tokens
    calib-acts --quiet spm.cut rows.tsz | score-importance | rank -o rest.rank
    slice-model --quiet spm.cut --rank rest.rank --intermediate-size 16 -o student.tsz
    hf-import --quiet spm -o whole.tsz
    learn() {
        kd-train student.tsz --data rows.tsz --max-steps 2 --batch-size 2 --learning-rate 0.01 "$@"
    }
    learn --teacher spm -o a.tsz 2> note
    grep -q '^kd-train: of the 589 tokens of spm, only the 400 that student.tsz has are used$' note
    learn --quiet --teacher whole.tsz -o b.tsz
    learn --quiet --teacher spm.cut -o c.tsz
    for name in b c; do
        cmp <(ts-dump --values lm_head.weight a.tsz) <(ts-dump --values lm_head.weight $name.tsz)
    done
    ranked gpt2
    refused 1 "come from different tokenizers" learn --teacher gpt2
}

@test "an uncut teacher is compared with a cut model, and writes logits of its tokens" {
    ranked spm
    cut spm 400
    tokenize --quiet -m spm.cut --seq-length 16 --max-tokens 64 "$small/spm.jsonl" -o rows.tsz
    figures() { eval-ppl --quiet "$@" rows.tsz --against "$teacher" | grep -o '"kl":.*'; }
    for teacher in spm spm.cut; do
        figures spm.cut spm.dir > "$teacher.kl"
    done
    # nothing but the vocabulary was cut, so the teacher says the same of the tokens that stay
    [ "$(grep -c '^"kl":0.0,' spm.kl)" = 2 ]
    cmp spm.kl spm.cut.kl
    dump-logits spm rows.tsz --full --vocab-of spm.cut -o full.tsz 2> note
    grep -q '^dump-logits: of the 589 tokens of spm, only the 400 that spm.cut has are used$' note
    dump-logits --quiet spm.cut rows.tsz --full -o own.tsz
    cmp <(ts-dump --values logits.0 full.tsz) <(ts-dump --values logits.0 own.tsz)
    teacher=full.tsz
    cmp <(figures spm.cut) <(head -n 1 spm.kl)
    dump-logits --quiet spm rows.tsz --sample 4 --vocab-of spm.cut --stream-layers -o drawn.tsz
    kd-train --quiet spm.cut --data rows.tsz --teacher-logits drawn.tsz --max-steps 1 -o taught.tsz
    ranked gpt2
    refused 1 "the vocabulary of gpt2 is neither that of spm nor a part of it" \
        dump-logits spm rows.tsz --sample 4 --vocab-of gpt2
    refused 2 "by their texts, --any-tokenizer by their ids" \
        dump-logits spm rows.tsz --sample 4 --vocab-of spm.cut --any-tokenizer
}

@test "a special token that goes leaves the post-processor; one that pairs of texts get must stay" {
    ranked spm
    slice-model --quiet spm --rank spm.rank --vocab-size 262 --drop-added '</s>' -o loose.tsz
    ts-dump --values file/tokenizer.json loose.tsz | python3 -c '
import json, sys
post = json.load(sys.stdin)["post_processor"]["special_tokens"]
assert {k: v["ids"] for k, v in post.items()} == {"<s>": [1]}, post'
    python3 - "$small/spm.json" > paired.json <<'P'
import json, sys
t = json.load(open(sys.argv[1], encoding="utf-8"))
t["post_processor"]["pair"].append({"SpecialToken": {"id": "</s>", "type_id": 1}})
json.dump(t, sys.stdout)
P
    $vocab model paired.json paired
    score-vocab --quiet --any-tokenizer paired spm.tsz | rank -o paired.rank
    refused 1 "puts </s> beside pairs of texts, so it must stay" slice-model paired \
        --rank paired.rank --vocab-size 262 --drop-added '</s>'
}

@test "what cannot be cut is refused: tokenizers, sizes, other ways of choosing" {
    $vocab model "$small/metaspace_first.json" first
    tokenize --quiet -m first "$small/metaspace_first.jsonl" -o first.tsz
    refused 1 "neither works on bytes nor falls back to them" score-vocab first first.tsz
    sed 's/"unk_id":0/"unk_id":null/' "$small/unigram.json" > no_unk.json
    sed 's/"を少"/"のテ"/' "$small/unigram.json" > twice.json
    for name in no_unk twice; do
        $vocab model $name.json $name
        echo text | tokenize --quiet -m $name -o $name.tsz
    done
    refused 1 "a Unigram model without an unknown token" score-vocab no_unk no_unk.tsz
    refused 1 "a Unigram model with two tokens of one text" score-vocab twice twice.tsz
    ranked gpt2
    ranked spm
    refused 1 "--vocab-size must be at least 25" slice-model gpt2 --rank gpt2.rank --vocab-size 100
    refused 1 "--vocab-size must be at most 420" slice-model gpt2 --rank gpt2.rank --vocab-size 421
    refused 1 "spm.rank is of a model with vocab_size 589" \
        slice-model gpt2 --rank spm.rank --vocab-size 300
    refused 1 "needs --rank FILE, which gives the order of vocab_size" \
        slice-model gpt2 --vocab-size 300
    ranked qwen2
    refused 1 "come from different tokenizers" score-vocab gpt2 qwen2.tsz
    refused 1 "a sorted model keeps its token ids" slice-model gpt2 --in-order --vocab-size 300
    refused 2 "--drop-added goes with" slice-model gpt2 --drop-added x --rank gpt2.rank
    slice-model gpt2 --drop-added '<|none|>' --rank gpt2.rank --vocab-size 300 -o none.cut 2> note
    grep -q "^slice-model: no added token matches --drop-added '<|none|>'$" note
    refused 2 "--repair works on tokens of the uncut vocabulary" slice-model gpt2 \
        --rank gpt2.rank --vocab-size 300 --repair gpt2.tsz
    # embeddings have rows without a token, which are lost first
    $vocab model "$small/gpt2.json" padded '{}' 432
    score-vocab --quiet padded gpt2.tsz | rank -o padded.rank
    refused 1 "--vocab-size must be at most 420, the tokens of the tokenizer (or 432, the rows" \
        slice-model padded --rank padded.rank --vocab-size 425
    slice-model --quiet padded --rank padded.rank --vocab-size 420 -o whole.tsz
    cmp <(ts-dump --values file/tokenizer.json whole.tsz | python3 -m json.tool) \
        <(python3 -m json.tool gpt2/tokenizer.json)
    echo vocab-size=300 > widths
    refused 1 "widths, line 1: the vocabulary can only be cut by slice-model --vocab-size" \
        kd-train gpt2 --widths widths --data gpt2.tsz --loss ce --max-steps 1
    rm -r gpt2/tokenizer.json
    refused 1 "gpt2 has no tokenizer.json" slice-model gpt2 --rank gpt2.rank --vocab-size 300
}

@test "the rank of a cut joins those of other axes, and one proof covers them all" {
    ranked gpt2
    tokenize --quiet -m gpt2 --seq-length 16 "$small/gpt2.jsonl" -o rows.tsz
    calib-acts --quiet gpt2 rows.tsz | score-importance -o scores.tsz
    score-vocab --quiet gpt2 gpt2.tsz -o uses.tsz
    rank scores.tsz uses.tsz -o all.rank
    rank uses.tsz scores.tsz -o turned.rank
    cmp <(ts-dump --values vocab_size all.rank) <(ts-dump --values vocab_size turned.rank)
    slice-model gpt2 --rank all.rank --vocab-size 300 --hidden-size 24 --intermediate-size 32 \
        --num-hidden-layers 1 --verify rows.tsz -o small.tsz 2> note
    grep -q "logits equal the masked model's" note
    rank scores.tsz -o old.rank                 # as of earlier releases: no vocabulary
    slice-model --quiet gpt2 --rank old.rank --hidden-size 24 -o narrow.tsz
    refused 1 "old.rank has no order of vocab_size, which this cut needs: give rank the scores of" \
        slice-model gpt2 --rank old.rank --vocab-size 300
    rank --random 1 scores.tsz -o random.rank
    [ "$(ts-dump random.rank | grep -c vocab_size)" = 0 ]
    # the order of a random rank does not keep parents before their tokens, the cut does
    rank --random 1 uses.tsz -o random.rank
    slice-model --quiet gpt2 --rank random.rank --vocab-size 300 --verify rows.tsz -o random.tsz
    hf-export --quiet random.tsz random
    $vocab check random gpt2
    # 2 * 32 parameters a token, 15520 others
    slice-model gpt2 --rank all.rank --parameters 40000 --axes vocab --multiple-of 1 \
        -o budget.tsz 2> note
    grep -q 'parameters 40000: 39968 parameters with --vocab-size 382$' note
    slice-model gpt2 --rank all.rank --ratio 80% --axes vocab,ffn --multiple-of 8 -o budget.tsz \
        2> note
    grep -q 'with --vocab-size [0-9]* --intermediate-size' note
    refused 1 "with --axes vocab in multiples of 32, the smallest model has" \
        slice-model gpt2 --rank all.rank --parameters 30000 --axes vocab
    slice-model --quiet gpt2 --rank all.rank --vocab-size 420 -o same.tsz
    cmp <(ts-dump --values file/tokenizer.json same.tsz) gpt2/tokenizer.json
}

@test "search-arch: vocabularies in the grid, not smaller than the tokenizer allows" {
    ranked gpt2
    search-arch gpt2 --vocab 300,420,382 --layers 1,2 > shapes
    # 2 * 32 parameters a token; a layer has 7744, and the last norm 32
    [ "$(sed 's/.*"vocab_size":\([0-9]*\).*"parameters":\([0-9]*\),"non.*/\1 \2/' shapes | xargs)" \
        = "300 26976 382 32224 420 34656 300 34720 382 39968 420 42400" ]
    [ "$(search-arch gpt2 --parameters 40000 --tolerance 1% --vocab 258:420:1 | wc -l)" = 12 ]
    options=$(sed -n '2s/.*"options":"\(.*\)".*/\1/p' shapes)
    [ "$options" = "--vocab-size 382 --num-hidden-layers 1" ]
    tokenize --quiet -m gpt2 --seq-length 16 "$small/gpt2.jsonl" -o rows.tsz
    calib-acts --quiet gpt2 rows.tsz | score-importance -o scores.tsz
    score-vocab --quiet gpt2 gpt2.tsz | rank scores.tsz - -o all.rank
    # shellcheck disable=SC2086
    slice-model --dry-run gpt2 --rank all.rank $options > dry
    [ "$(awk '/^parameters/ { print $3 }' dry)" = 32224 ]
    search-arch gpt2 --vocab 300 --table | grep -q '^ *2 *32 *300 '
    search-arch gpt2 --layers 1 --table | grep -q '^ *1 *32 *4 '
    search-arch gpt2/config.json --vocab 100 | grep -q '"vocab_size":100,'
    run -1 search-arch gpt2 --vocab 100,300
    [[ $output == *"--vocab must be at least 258, the added tokens"* ]]
    $vocab model "$small/metaspace_first.json" first
    rows=$(search-arch first | sed 's/.*"vocab_size":\([0-9]*\).*/\1/')
    search-arch first --vocab "$rows" > whole
    run -1 search-arch first --vocab "$((rows - 1))"
    [[ $output == *"neither works on bytes nor falls back to them"* ]]
}
