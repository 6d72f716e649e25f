/* See knapsack.h. */
#include "knapsack.h"

#include <stdlib.h>

#include "../base/mem.h"

/* 24 bytes each */
static const int64_t MOST_SUMS = INT64_C(1) << 22;

static int by_cost(const void *a, const void *b)
{
    const struct knapsack_sum *x = a, *y = b;
    if (x->cost != y->cost)
        return x->cost < y->cost ? -1 : 1;
    if (x->loss != y->loss)
        return x->loss < y->loss ? -1 : 1;
    if (x->before != y->before)
        return x->before < y->before ? -1 : 1;
    return (x->choice > y->choice) - (x->choice < y->choice);
}

/* Keeps the sums that lose less than every cheaper one. */
static void thin(struct knapsack_front *f)
{
    int64_t kept = 0;
    qsort(f->sums, (size_t)f->n, sizeof *f->sums, by_cost);
    for (int64_t i = 0; i < f->n; i++)
        if (!kept || f->sums[i].loss < f->sums[kept - 1].loss)
            f->sums[kept++] = f->sums[i];
    f->n = kept;
    f->sums = mem_grow(f->sums, (size_t)kept * sizeof *f->sums);
}

static int extend(struct knapsack_front *to, const struct knapsack_front *from,
                  const struct choice *choices, int64_t n, struct err *e)
{
    if (from->n > MOST_SUMS / n)
        return err_set(e, "the costs have too many different sums (%lld) for an exact search",
                       (long long)(from->n * n));
    *to = (struct knapsack_front){mem_alloc((size_t)(from->n * n) * sizeof *to->sums), from->n * n};
    for (int64_t i = 0, at = 0; i < from->n; i++)
        for (int64_t c = 0; c < n; c++)
            to->sums[at++] = (struct knapsack_sum){.cost = from->sums[i].cost + choices[c].cost,
                                                   .loss = from->sums[i].loss + choices[c].loss,
                                                   .before = (int32_t)i,
                                                   .choice = (int32_t)c};
    thin(to);
    return 0;
}

int knapsack_solve(struct knapsack *k, const struct choice *choices, const int64_t *count,
                   int64_t groups, struct err *e)
{
    *k = (struct knapsack){groups, mem_alloc((size_t)(groups + 1) * sizeof *k->fronts)};
    k->fronts[0] = (struct knapsack_front){mem_alloc(sizeof *k->fronts->sums), 1};
    for (int64_t g = 0; g < groups; choices += count[g++])
        if (extend(&k->fronts[g + 1], &k->fronts[g], choices, count[g], e)) {
            knapsack_free(k);
            return -1;
        }
    return 0;
}

void knapsack_free(struct knapsack *k)
{
    for (int64_t g = 0; k->fronts && g <= k->groups; g++)
        free(k->fronts[g].sums);
    free(k->fronts);
    *k = (struct knapsack){0};
}

const struct knapsack_front *knapsack_curve(const struct knapsack *k)
{
    return &k->fronts[k->groups];
}

int64_t knapsack_within(const struct knapsack *k, int64_t cost)
{
    const struct knapsack_front *f = knapsack_curve(k);
    int64_t i = f->n;
    while (i && f->sums[i - 1].cost > cost)
        i--;
    return i - 1;
}

void knapsack_choices(const struct knapsack *k, int64_t i, int32_t *choice)
{
    for (int64_t g = k->groups; g--;) {
        const struct knapsack_sum *s = &k->fronts[g + 1].sums[i];
        choice[g] = s->choice;
        i = s->before;
    }
}
