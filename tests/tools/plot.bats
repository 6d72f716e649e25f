# pipelines/plot: every kind, what it says of files that it cannot draw.
bats_require_minimum_version 1.5.0

setup() {
    export PARE_BIN=${PARE_BIN:-$PWD/bin} PATH=$PWD/pipelines:${PARE_BIN:-$PWD/bin}:$PATH
    teacher=$PWD/pipelines/teacher
    cd "$BATS_TEST_TMPDIR"
    awk 'BEGIN { for (i = 1; i <= 1000; i++) {
        held = i % 100 ? "" : sprintf(",\"eval_nll\":%.3f", 4 - i / 1000)
        printf "{\"step\":%d,\"loss\":%.3f,\"ce\":9%s}\n", i, 3 - i / 1000, held } }' > run.jsonl
}

# says STATUS TEXT COMMAND...: the command fails so, with one line that contains the text
says() {
    status=$1 text=$2; shift 2
    run -"$status" --separate-stderr "$@"
    [ "${#stderr_lines[@]}" = 1 ]
    [[ $stderr == *"$text"* ]]
}

@test "plot: training loss, thinned, and held-out loss, with labels" {
    plot loss -o loss.svg --title "It's one" run.jsonl other=run.jsonl
    grep -q "<text>.*It's one" loss.svg
    grep -q '>run</' loss.svg
    grep -q '>other</' loss.svg
    grep -q 'fill="#ffffff"' loss.svg
    [ "$(wc -c < loss.svg)" -lt 40000 ]
    plot held-out run.jsonl > held.svg
    [ "$(grep -c "xlink:href='#gpPt6'" held.svg)" = 10 ]
    run ! grep -q '>run</' held.svg
}

@test "plot: importance has a panel for every axis" {
    printf 'seven words are enough for a forward pass, or some more\n' > text
    tokenize -m "$teacher" --seq-length 8 text --quiet -o tokens.tsz
    calib-acts "$teacher" tokens.tsz --quiet | score-importance --quiet -o scores.tsz
    plot importance scores.tsz -o scores.svg
    for axis in hidden_size intermediate_size num_attention_heads num_hidden_layers; do
        grep -q ">$axis<" scores.svg
    done
    rank scores.tsz --quiet -o rank.tsz
    rank scores.tsz --random 1 --quiet -o random.tsz
    plot overlap rank.tsz same=rank.tsz random.tsz -o overlap.svg
    [ "$(grep -c '>same<' overlap.svg)" = 1 ]
    grep -q '>In common with rank<' overlap.svg
    says 1 'of the kind scores, not rank' plot overlap rank.tsz scores.tsz
    says 2 'overlap compares one rank with others' plot overlap rank.tsz
    says 1 'rank.tsz is of the kind rank, not scores' plot importance rank.tsz
    says 1 'none.tsz' plot importance none.tsz
}

@test "plot: the curve of a search, and bars of a table" {
    printf '%s\n' budget,kl,options '2000000,0.25,"--intermediate-size 0:8,1:16"' 3000000,0.125, \
        > c.csv
    plot pareto c.csv -o curve.svg
    [ "$(grep -c "xlink:href='#gpPt6'" curve.svg)" = 2 ]
    grep -q '>budget<' curve.svg
    printf '{"cards": %d, "idle": 0, "efficiency": %s, "hours": 9}\n' 8 0.99 16 0.5 > plan.jsonl
    plot scaling plan.jsonl -o scaling.svg
    [ "$(grep -c "xlink:href='#gpPt6'" scaling.svg)" = 2 ]
    grep -q '>16<' scaling.svg
    printf '%s\n' '# T' '' '| | a | +- |' '|---|---|---|' '| x | 2.5 | 0.1 |' '| **y** | 4 | |' '' \
        '| z | 7 | |' > t.md
    plot bars t.md --column 2 --error 3 > bars.svg
    grep -q '> 2.5<' bars.svg
    grep -q '>y<' bars.svg
    run ! grep -q '>z<' bars.svg
}

@test "plot: what is wrong is said" {
    says 2 'usage: pipelines/plot KIND' plot
    says 2 'no kind lines; there are loss, held-out, importance' plot lines run.jsonl
    run plot --help
    [[ ${lines[-1]} == '--column N  of bars (2); '* ]]
    says 2 'no option --size' plot loss --size 3 run.jsonl
    says 2 '--title needs a value' plot loss run.jsonl --title
    says 2 'held-out needs a FILE' plot held-out -o x.svg
    says 2 'bars draws one file' plot bars a b
    says 2 'a column is a number, not x' plot bars --column x t.md
    says 1 'cannot read none.jsonl' plot loss none.jsonl
    grep -v eval_nll run.jsonl > bare.jsonl
    says 1 'bare.jsonl has no loss on held-out text: kd-train writes it with --eval-data' \
        plot held-out bare.jsonl
    echo text > text
    says 1 'text is not a log of kd-train' plot loss text
    says 1 'text has no lines with the columns budget and kl' plot pareto text
    says 1 'text has no lines of pipelines/simulate plan --json' plot scaling text
    says 1 'text has no table with numbers in column 2' plot bars text
    [ ! -e x.svg ]
}
