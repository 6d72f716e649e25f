# eval-choice: log-likelihoods against eval-ppl, shared and single texts, few-shot examples, records
# and table, mistakes; pipelines/tasks on each published form.
bats_require_minimum_version 1.5.0
load refused

setup() {
    BIN=${PARE_BIN:-$PWD/bin}
    ROOT=$PWD
    MODEL=$PWD/pipelines/teacher
    export OMP_WAIT_POLICY=passive
    cd "$BATS_TEST_TMPDIR" || exit
}

choice() { "$BIN/eval-choice" --quiet "$@"; }

# of KEY...: what the record on standard input has, a line each
of() { python3 -c 'import json, sys
j = json.loads(sys.stdin.readline())
for key in sys.argv[1:]: print(j[key])' "$@"; }

# lines EXPRESSION: of each item i on standard input
lines() { python3 -c 'import json, sys
for line in sys.stdin:
    i = json.loads(line)
    print(eval(sys.argv[1]))' "$1"; }

# jsonl: the entries of a list on standard input, a line each
jsonl() { python3 -c 'import json, sys
for x in json.load(sys.stdin): print(json.dumps(x, separators=(",", ":")))'; }

# near A B...: pairs of numbers that agree to 1e-4
near() { python3 -c 'import sys
x = [float(v) for v in sys.argv[1:]]
bad = [(a, b) for a, b in zip(x[::2], x[1::2]) if not abs(a - b) <= 1e-4]
sys.exit(f"{bad}" if bad else 0)' "$@"; }

@test "a text without ctx has the log-likelihood that eval-ppl gives it behind the BOS token" {
    echo '{"choices": "And God said, Let there be light."}' > items.jsonl
    printf '<|endoftext|>And God said, Let there be light.' > text
    "$BIN/tokenize" --quiet -m "$MODEL" --bos no text -o t.tsz
    read -r tokens nll < <("$BIN/eval-ppl" --quiet "$MODEL" t.tsz | of predictions nll | xargs)
    choice "$MODEL" items.jsonl --items log > record
    [ "$(lines 'i["tokens"][0]' < log)" = "$tokens" ]
    near "$(of nll < record)" "$(python3 -c "print($tokens * $nll)")"
}

@test "choices of one ctx, read together or each by itself; white space at the end of the ctx" {
    jsonl > one.jsonl <<'J'
[{"ctx": "In the beginning God created", "choices": [" the heaven", " the earth and", " him."],
  "gold": 0},
 {"ctx": "In the beginning God created \n ", "choices": ["the earth", "it"], "gold": 1},
 {"ctx": ["And Moses", "And the people"], "choices": " said unto them,", "gold": 1}]
J
    cat > each.jsonl <<'J'
{"ctx": "In the beginning God created", "choices": " the heaven"}
{"ctx": "In the beginning God created", "choices": " the earth and"}
{"ctx": "In the beginning God created", "choices": " him."}
{"ctx": "In the beginning God created", "choices": " \n the earth"}
{"ctx": "In the beginning God created", "choices": " \n it"}
{"ctx": "And Moses", "choices": " said unto them,"}
{"ctx": "And the people", "choices": " said unto them,"}
J
    choice "$MODEL" one.jsonl --items one > /dev/null
    choice "$MODEL" each.jsonl --items each > /dev/null
    choice "$MODEL" one.jsonl --items small --batch-size 1 > /dev/null
    # shellcheck disable=SC2046
    near $(paste -d ' ' <(lines '"\n".join(map(str, i["log_likelihood"]))' < one) \
        <(lines 'i["log_likelihood"][0]' < each))
    # shellcheck disable=SC2046
    near $(paste -d ' ' <(lines '"\n".join(map(str, i["log_likelihood"]))' < one) \
        <(lines '"\n".join(map(str, i["log_likelihood"]))' < small))
    [ "$(lines '[k for k in i if k.startswith("choice")]' < one | sort -u)" = \
        "['choice', 'choice_norm', 'choice_bytes', 'choice_tokens']" ]
    [ "$(lines '"choice" in i, i["greedy"] in (True, False)' < each | sort -u)" = "(False, True)" ]
}

@test "examples: those of the group, the item itself left out, as if written into the ctx" {
    jsonl > items.jsonl <<'J'
[{"ctx": "Who built the ark?\nA:", "choices": [" Noah", " Moses"], "gold": 0, "group": "a"},
 {"ctx": "Who led the people?\nA:", "choices": [" Noah", " Moses"], "gold": 1, "group": "a"},
 {"ctx": "Who was king?\nA:", "choices": [" David", " Eve"], "gold": 0, "group": "b",
  "description": "Kings.\n"},
 {"ctx": "Who was wise?\nA:", "choices": [" Cain", " Solomon"], "gold": 1, "group": "b"}]
J
    jsonl > written.jsonl <<'J'
[{"ctx": "Who led the people?\nA: Moses\n\nWho built the ark?\nA:",
  "choices": [" Noah", " Moses"], "gold": 0},
 {"ctx": "Who built the ark?\nA: Noah\n\nWho led the people?\nA:",
  "choices": [" Noah", " Moses"], "gold": 1},
 {"ctx": "Kings.\nWho was wise?\nA: Solomon\n\nWho was king?\nA:",
  "choices": [" David", " Eve"], "gold": 0},
 {"ctx": "Who was king?\nA: David\n\nWho was wise?\nA:", "choices": [" Cain", " Solomon"],
  "gold": 1}]
J
    choice "$MODEL" items.jsonl --fewshot 1 --fewshot-file items.jsonl --items a > record
    choice "$MODEL" written.jsonl --items b > /dev/null
    cmp <(lines 'i["log_likelihood"]' < a) <(lines 'i["log_likelihood"]' < b)
    [ "$(of groups < record | grep -o "'[ab]': {'items': 2," | sort | xargs)" = \
        "a: {items: 2, b: {items: 2," ]
    refused 1 "items.jsonl has 1 examples for line 1, of group a, not 2" \
        choice "$MODEL" items.jsonl --fewshot 2 --fewshot-file items.jsonl
    refused 2 "go together" choice "$MODEL" items.jsonl --fewshot 2
}

@test "a text beyond the model's positions loses its beginning; a choice beyond them is refused" {
    python3 > long.jsonl -c 'import json
words = "and the LORD said unto Moses, " * 60 + "Go"
for ctx in words, "Different words. " + words:
    print(json.dumps({"ctx": ctx, "choices": [" up", " down"], "gold": 0}))'
    "$BIN/eval-choice" "$MODEL" long.jsonl --items log > record 2> note
    [ "$(of truncated < record)" = 4 ]
    grep -q "4 of 4 choices lose the beginning of their text, which has more than 256 tokens" note
    [ "$(lines 'i["log_likelihood"]' < log | sort -u | wc -l)" = 1 ]
    python3 > no.jsonl -c 'import json
print(json.dumps({"ctx": "Go", "choices": " and the LORD said" * 90}))'
    refused 1 "no.jsonl: line 1: a choice of" choice "$MODEL" no.jsonl
}

@test "several models, table, limit, standard input" {
    cat > items.jsonl <<'J'
{"ctx": "And God", "choices": [" said,", " purple"], "gold": 0, "group": "first"}
{"ctx": "And God", "choices": [" said,", " purple"], "gold": 1, "group": "second"}
J
    choice "$MODEL" "$MODEL" - --items log < items.jsonl > records
    [ "$(wc -l < records)" = 2 ]
    [ "$(wc -l < log)" = 4 ]
    [ "$(of items choices acc acc_standard_error ppl < records | xargs)" = \
        "2 4 0.5 0.5 $(of ppl < records)" ]
    [ "$(choice "$MODEL" items.jsonl --limit 1 | of items acc acc_standard_error | xargs)" = \
        "1 1.0 None" ]
    choice "$MODEL" items.jsonl --table > table
    [ "$(awk '{ print $1 == "first" || $1 == "second", NF }' table | xargs)" = "0 8 0 8 1 8 1 8" ]
    [ "$(wc -L < table)" -le 80 ]
}

@test "a bad line is refused by its number, before anything is computed" {
    good='{"ctx": "a", "choices": [" b", " c"], "gold": 1}'
    bad() {     # bad WORDS LINE: as the third line of a file, after an empty one
        printf '%s\n\n%s\n' "$good" "$2" > bad.jsonl
        refused 1 "bad.jsonl: line 3$1" choice "$MODEL" bad.jsonl
    }
    bad " is not valid JSON: line 1, column 11" '{"ctx": "a"'
    bad ' must be an object with texts under "choices"' '[1]'
    bad ' must be an object with texts under "choices"' '{"ctx": "a", "choice": "b"}'
    bad ': "choices" must be a text or a list of texts' '{"choices": [1]}'
    bad ': "choices" is an empty list' '{"choices": []}'
    bad ': "ctx" must be a text or a list of texts' '{"ctx": 3, "choices": "b"}'
    bad ': "group" must be a text' '{"choices": "b", "group": 3}'
    bad ': choice 1 is empty' '{"choices": ["b", " "], "gold": 0}'
    bad ': "ctx" has 3 texts and "choices" 2' \
        '{"ctx": ["a", "b", "c"], "choices": ["b", "c"], "gold": 0}'
    bad ' has no "gold"' '{"choices": ["b", "c"]}'
    bad ': "gold" is 2, but the choices are 0 to 1' '{"choices": ["b", "c"], "gold": 2}'
    bad ': "gold" is -1, but the choices are 0 to 1' '{"choices": ["b", "c"], "gold": [0, -1]}'
    bad ': "gold" must be the number of a choice' '{"choices": ["b", "c"], "gold": "b"}'
    bad ': "gold" is an empty list' '{"choices": ["b", "c"], "gold": []}'
    : > empty.jsonl
    refused 1 "empty.jsonl has no items" choice "$MODEL" empty.jsonl
    echo "$good" > good.jsonl
    refused 1 "has no tokenizer.json" choice "$ROOT/tests/golden/families/llama" good.jsonl
    refused 1 "cannot open 'none.jsonl'" choice "$MODEL" none.jsonl
    refused 2 "--limit must be at least 0, not -1" choice "$MODEL" good.jsonl --limit -1
}

tasks() { sh "$ROOT/pipelines/tasks" "$@"; }

# tasks_give ITEMS TASK FILE...
tasks_give() {
    run -0 tasks "${@:2}"
    [ "$output" = "$(jsonl <<< "[$1]")" ] || { echo "$output"; false; }
}

@test "pipelines/tasks: published forms become items" {
    jsonl > hs <<'J'
[{"activity_label": "Baking", "ctx_a": "She [x] waits.", "ctx_b": "the oven",
  "endings": ["is [title] hot", "b  c"], "label": "1"}]
J
    tasks_give '{"ctx": "Baking: She waits. The oven", "choices": [" is. hot", " b c"],
        "gold": 1}' hellaswag hs
    printf 'Baking: She waits. the oven\n0\na\nb\nc\nd\n' | bzip2 > hs.txt.bz2
    tasks_give '{"ctx": "Baking: She waits. the oven", "choices": [" a", " b", " c", " d"],
        "gold": 0}' hellaswag hs.txt.bz2
    jsonl > q <<'J'
[{"question": {"stem": "Ice is", "choices": [{"text": "hot", "label": "1"},
  {"text": "cold", "label": "2"}]}, "answerKey": "2"}]
J
    tasks_give '{"ctx": "Question: Ice is\nAnswer:", "choices": [" hot", " cold"], "gold": 1}' arc q
    tasks_give '{"ctx": "Ice is", "choices": [" hot", " cold"], "gold": 1}' openbookqa q
    jsonl > wrapped <<'J'
[[{"instruction": "Choose: Ice is: what?\n\nAnswer1: hot Answer2: cold\n\nAnswer format: answer1",
   "answer": "answer2"}]]
J
    tasks_give '{"ctx": "Ice is: what?", "choices": [" hot", " cold"], "gold": 1}' \
        openbookqa wrapped
    echo '{"goal": "dry", "sol1": "oven", "sol2": "towel"}' > piqa
    echo 1 > labels
    tasks_give '{"ctx": "Question: dry\nAnswer:", "choices": [" oven", " towel"], "gold": 1}' \
        piqa piqa labels
    echo '{"sentence": "A saw that _ was B.", "option1": "x", "option2": "y", "answer": "2"}' > wg
    tasks_give '{"ctx": ["A saw that x", "A saw that y"], "choices": " was B.", "gold": 1}' \
        winogrande wg
    echo '{"sentence_good": "G.", "sentence_bad": "B.", "UID": "u"}' > blimp
    tasks_give '{"ctx": "", "choices": [" G.", " B."], "gold": 0, "group": "u"}' blimp blimp
    echo '{"text": "one two\nthree four"}' > lambada
    tasks_give '{"ctx": "one two\nthree", "choices": " four"}' lambada lambada
    printf '"Q, ""x""",a,b,c,d,C\n' > high_school_x_dev.csv
    tasks mmlu high_school_x_dev.csv > mmlu
    [ "$(lines 'i["ctx"]' < mmlu)" = $'Q, "x"\nA. a\nB. b\nC. c\nD. d\nAnswer:' ]
    [ "$(lines 'i["choices"], i["gold"], i["group"]' < mmlu)" = \
        "([' A', ' B', ' C', ' D'], 2, 'high_school_x')" ]
    about="The following are multiple choice questions (with answers) about high school x."
    [ "$(lines 'i["description"] + "|"' < mmlu)" = "$about"$'\n\n|' ]
    jsonl > tqa <<'J'
[[{"question": "Why?", "mc1_targets": {"so": 1, "no": 0},
   "mc2_targets": {"so": 1, "no": 0, "yes": 1}}]]
J
    tasks truthfulqa-mc1 tqa | grep -q 'Q: Why?\\nA:","choices":\[" so"," no"\],"gold":\[0\]}$'
    tasks truthfulqa-mc2 tqa | grep -q '"choices":\[" so"," no"," yes"\],"gold":\[0,2\]}$'
    printf '1\n0\n' > other
    refused 1 "other has 2 labels, but there are 1 items" tasks piqa piqa other
    refused 1 "other has 2 labels, but there are 1 items" tasks winogrande wg other
    refused 1 "there is no task foo" tasks foo lambada
    refused 1 "in no form that is known: KeyError('goal')" tasks piqa lambada labels
    refused 1 "there are no items" tasks blimp /dev/null
}
