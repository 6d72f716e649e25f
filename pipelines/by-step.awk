# The order of candidates by step. Each line: candidate, seed, step, loss on held-out text. Prints
# for each step how many pairs of candidates are in the order of the last step, by the means over
# seeds, and the best of them. tokens=  predictions of a step
!($1 in known) { known[$1]; name[++names] = $1 }
!($3 in seen) { seen[$3]; step[++steps] = $3 }
{ sum[$1, $3] += $4; count[$1, $3]++ }

function mean(i, s) { return sum[name[i], s] / count[name[i], s] }
function sign(x) { return x < 0 ? -1 : x > 0 }

END {
    last = step[steps]
    print "| step | tokens | pairs in the last order | best | its loss |"
    print "|---|---|---|---|---|"
    for (k = 1; k <= steps; k++) {
        now = step[k]
        best = 1
        same = pairs = 0
        for (i = 1; i <= names; i++) {
            if (mean(i, now) < mean(best, now)) best = i
            for (j = i + 1; j <= names; j++) {
                pairs++
                same += sign(mean(i, now) - mean(j, now)) == sign(mean(i, last) - mean(j, last))
            }
        }
        printf "| %d | %d | %d of %d | %s | %.4f |\n", now, now * tokens, same, pairs, name[best],
            mean(best, now)
    }
}
