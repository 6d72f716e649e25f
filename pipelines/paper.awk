# The table of a section of pipelines/paper. Each line has, between tabs: label, a log (not used
# here), parameters, loss untrained, losses trained (one a seed), and two figures of the paper,
# untrained and trained, or -. what=  names these. Lower is better in all.
BEGIN { FS = "\t" }
{
    label[NR] = $1
    parameters[NR] = $3
    untrained[NR] = $4
    seeds = split($5, part, " ")
    sum = squares = 0
    low = high = part[1]
    for (i = 1; i <= seeds; i++) {
        loss[NR, i] = part[i]
        sum += part[i]
        low = part[i] < low ? part[i] : low
        high = part[i] > high ? part[i] : high
    }
    trained[NR] = sum / seeds
    for (i = 1; i <= seeds; i++) squares += (part[i] - trained[NR]) ^ 2
    spread[NR] = " | "
    if (seeds > 1)
        spread[NR] = sprintf("%.4f | %.4f", sqrt(squares / (seeds - 1) / seeds), high - low)
    before[NR] = $6
    after[NR] = $7
    has_before = has_before || $6 != "-"
    has_after = has_after || $7 != "-"
}

function sign(x) { return x < 0 ? -1 : x > 0 }

# Whether every seed puts rows i and j in the same order: that, or 0
function firm(i, j,   way, k) {
    way = sign(loss[i, 1] - loss[j, 1])
    for (k = 2; k <= seeds; k++)
        if (sign(loss[i, k] - loss[j, k]) != way) return 0
    return way
}

# pairs_alike(A, B): "N of M": pairs of rows that A and B put in the same order
function pairs_alike(a, b,   i, j, same, all) {
    for (i = 1; i <= NR; i++)
        for (j = i + 1; j <= NR; j++) {
            if (a[i] == "-" || a[j] == "-" || b[i] == "-" || b[j] == "-" || a[i] == a[j] ||
                b[i] == b[j]) continue
            all++
            same += sign(a[i] - a[j]) == sign(b[i] - b[j])
        }
    return same + 0 " of " all + 0
}

function firm_pairs(   i, j, all, sure, as_paper, compared) {
    for (i = 1; i <= NR; i++)
        for (j = i + 1; j <= NR; j++) {
            all++
            if (!firm(i, j)) continue
            sure++
            if (after[i] == "-" || after[j] == "-" || after[i] == after[j]) continue
            compared++
            as_paper += firm(i, j) == sign(after[i] - after[j])
        }
    printf "All seeds order %d of %d pairs of rows alike", sure, all
    printf compared ? ", %d of %d of these as the paper does.\n" : ".\n", as_paper, compared
}

# say(FORMAT, A, B): a sentence with pairs_alike, if there is a pair to compare
function say(format, a, b,   alike) {
    alike = pairs_alike(a, b)
    if (alike !~ /^0 of 0$/) printf format, alike
}

END {
    paper = (has_before ? " paper, untrained |" : "") (has_after ? " paper, trained |" : "")
    printf "| | parameters | untrained | trained | +- | highest - lowest | seeds |%s\n", paper
    gsub(/[^|]+/, "---", paper)
    printf "|---|---|---|---|---|---|---|%s\n", paper
    for (i = 1; i <= NR; i++) {
        printf "| %s | %d | %.4f | %.4f | %s | %d |", label[i], parameters[i], untrained[i],
            trained[i], spread[i], seeds
        printf "%s%s\n", has_before ? " " before[i] " |" : "", has_after ? " " after[i] " |" : ""
    }
    print ""
    if (what != "") printf "The paper's figures: %s.\n", what
    say("Untrained, %s pairs of rows are in the paper's order.\n", untrained, before)
    say("Trained, %s pairs of rows are in the paper's order.\n", trained, after)
    if (seeds > 1) firm_pairs()
    say("Training keeps the order of %s pairs.\n", untrained, trained)
    say("In the paper it keeps that of %s pairs.\n", before, after)
}
