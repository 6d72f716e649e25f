/* The knapsack over groups of choices: an example solved by hand, and random small ones against
 * trying everything. */
#include "../../lib/prune/knapsack.h"

#include <math.h>

#include "../../lib/base/rng.h"
#include "check.h"

/* Two layers, each as it is (cost 10, no loss), with a narrow MLP (7) or without one (4). */
static void test_by_hand(void)
{
    static const struct choice choices[] = {{10, 0}, {7, 1}, {4, 3}, {10, 0}, {7, 2}, {4, 2.5}};
    static const int64_t count[] = {3, 3};
    /* all sums: 20:0; 17:1 or 2; 14:3, 3 or 2.5; 11:3.5 or 5; 8:5.5 */
    static const struct choice curve[] = {{8, 5.5}, {11, 3.5}, {14, 2.5}, {17, 1}, {20, 0}};
    struct err e = {0};
    struct knapsack k;
    int32_t taken[2];
    CHECK(!knapsack_solve(&k, choices, count, 2, &e), "%s", e.msg);
    CHECK(knapsack_curve(&k)->n == 5, "%lld points", (long long)knapsack_curve(&k)->n);
    for (int64_t i = 0; i < 5 && knapsack_curve(&k)->n == 5; i++) {
        const struct knapsack_sum *s = &knapsack_curve(&k)->sums[i];
        CHECK(s->cost == curve[i].cost && s->loss == curve[i].loss, "%lld %g", (long long)s->cost,
              s->loss);
    }
    CHECK(knapsack_within(&k, 7) == -1, "nothing is that cheap");
    CHECK(knapsack_within(&k, 8) == 0 && knapsack_within(&k, 16) == 2 &&
              knapsack_within(&k, 99) == 4,
          "points within a budget");
    knapsack_choices(&k, 2, taken);
    CHECK(taken[0] == 0 && taken[1] == 2, "14 is the first as it is and no second: %d %d", taken[0],
          taken[1]);
    knapsack_free(&k);
}

enum { GROUPS = 5, MOST = 4 };

struct instance {
    struct choice choices[GROUPS * MOST];
    int64_t count[GROUPS];
};

/* Small integers, so that sums are exact and often equal. */
static struct instance random_instance(struct rng *r)
{
    struct instance x;
    int64_t n = 0;
    for (int g = 0; g < GROUPS; g++) {
        x.count[g] = 1 + (int64_t)rng_below(r, MOST);
        for (int64_t c = 0; c < x.count[g]; c++)
            x.choices[n++] = (struct choice){(int64_t)rng_below(r, 9), (double)rng_below(r, 7)};
    }
    return x;
}

/* The least loss of any combination within the budget; INFINITY: none. */
static double try_all(const struct choice *choices, const int64_t *count, int g, int64_t budget)
{
    double best = INFINITY;
    if (g == GROUPS)
        return budget >= 0 ? 0 : INFINITY;
    for (int64_t c = 0; c < count[g]; c++)
        best = fmin(best, choices[c].loss +
                              try_all(choices + count[g], count, g + 1, budget - choices[c].cost));
    return best;
}

/* The taken choices add up to the point. */
static int adds_up(const struct knapsack *k, const struct instance *x, int64_t i)
{
    int32_t taken[GROUPS];
    struct choice sum = {0};
    const struct choice *c = x->choices;
    knapsack_choices(k, i, taken);
    for (int g = 0; g < GROUPS; c += x->count[g++]) {
        sum.cost += c[taken[g]].cost;
        sum.loss += c[taken[g]].loss;
    }
    const struct knapsack_sum *s = &knapsack_curve(k)->sums[i];
    return sum.cost == s->cost && sum.loss == s->loss;
}

static void test_against_all(void)
{
    struct rng r = rng_open(5, 0);
    for (int trial = 0; trial < 60; trial++) {
        struct err e = {0};
        struct knapsack k;
        struct instance x = random_instance(&r);
        CHECK(!knapsack_solve(&k, x.choices, x.count, GROUPS, &e), "%s", e.msg);
        for (int64_t budget = 0; budget <= GROUPS * 8; budget++) {
            int64_t i = knapsack_within(&k, budget);
            double best = try_all(x.choices, x.count, 0, budget),
                   found = i < 0 ? INFINITY : knapsack_curve(&k)->sums[i].loss;
            CHECK(best == found, "budget %lld: %g, but the best is %g", (long long)budget, found,
                  best);
            CHECK(i < 0 || adds_up(&k, &x, i), "budget %lld: other choices", (long long)budget);
        }
        knapsack_free(&k);
    }
}

/* Digits of a number as costs, and as much less loss: every sum is worth having. 2^30 of them are
 * refused, not tried. */
static void test_too_many(void)
{
    enum { DIGIT = 1024 };
    static struct choice choices[3 * DIGIT];
    static const int64_t count[] = {DIGIT, DIGIT, DIGIT};
    struct err e = {0};
    struct knapsack k;
    for (int64_t g = 0, value = 1; g < 3; g++, value *= DIGIT)
        for (int64_t c = 0; c < DIGIT; c++)
            choices[g * DIGIT + c] = (struct choice){c * value, (double)(-c * value)};
    CHECK(!knapsack_solve(&k, choices, count, 1, &e) && knapsack_curve(&k)->n == DIGIT,
          "one digit");
    knapsack_free(&k);
    CHECK(knapsack_solve(&k, choices, count, 3, &e) == -1 && e.set, "three digits");
}

int main(void)
{
    test_by_hand();
    test_against_all();
    test_too_many();
    return check_report();
}
