/* A multiple-choice knapsack: one choice from every group, each with a cost and a loss. All sums
 * that are worth having, exactly: no other choice costs no more and loses less. They are kept as a
 * list that grows group by group and is thinned of what is dominated (Nemhauser and Ullmann 1969,
 * Management Science 15(9)). Costs that repeat, as those of equal layers do, keep the lists short:
 * they are never longer than the number of different sums. */
#ifndef PARE_KNAPSACK_H
#define PARE_KNAPSACK_H

#include <stdint.h>

#include "../base/err.h"

struct choice {
    int64_t cost;
    double loss; /* finite */
};
/* The sums over the first groups, cheapest first, the loss falling strictly. */
struct knapsack_sum {
    int64_t cost;
    double loss;
    int32_t before, choice; /* the sum of the groups before, and what of this group was added */
};
struct knapsack {
    int64_t groups;
    struct knapsack_front {
        struct knapsack_sum *sums;
        int64_t n;
    } * fronts; /* [groups + 1]; the first is the empty sum */
};

/* choices: those of all groups in turn; count[g]: how many group g has, at least one. -1: more
 * different sums than fit into memory. */
int knapsack_solve(struct knapsack *k, const struct choice *choices, const int64_t *count,
                   int64_t groups, struct err *e);
void knapsack_free(struct knapsack *k);

/* The sums over all groups: the whole trade-off of cost and loss. */
const struct knapsack_front *knapsack_curve(const struct knapsack *k);
/* The point of least loss that costs at most so much; -1: all cost more. */
int64_t knapsack_within(const struct knapsack *k, int64_t cost);
/* What point i of the curve takes of every group: choice[groups]. */
void knapsack_choices(const struct knapsack *k, int64_t i, int32_t *choice);

#endif
