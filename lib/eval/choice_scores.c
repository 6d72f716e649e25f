/* What follows from the log-likelihoods of choices: see choices.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../base/mem.h"
#include "choices.h"

/* ---- an item */

static double value_of(const struct choices *c, int64_t item, int64_t i, enum choice_rule rule)
{
    const struct choice_item *q = &c->items->all[item];
    const struct choice_row *row = &c->all[item].rows[i];
    switch (rule) {
    case BY_CHARACTER: return row->log_likelihood / (double)choice_characters(q, i);
    case BY_BYTE: return row->log_likelihood / (double)choice_bytes(q, i);
    case BY_TOKEN: return row->log_likelihood / (double)row->scored;
    default: return row->log_likelihood;
    }
}

int64_t choice_made(const struct choices *c, int64_t item, enum choice_rule rule)
{
    int64_t best = 0;
    for (int64_t i = 1; i < c->all[item].n; i++)
        if (value_of(c, item, i, rule) > value_of(c, item, best, rule))
            best = i;
    return best;
}

int choice_is_right(const struct choices *c, int64_t item, enum choice_rule rule)
{
    if (c->all[item].n == 1)
        return c->all[item].rows[0].greedy;
    return c->items->all[item].gold[choice_made(c, item, rule)];
}

/* log of the sum of the probabilities of the right choices, or of all */
static double log_mass(const struct choices *c, int64_t item, int all)
{
    const struct choice_item *q = &c->items->all[item];
    const struct choice_row *rows = c->all[item].rows;
    double top = -INFINITY, sum = 0;
    for (int64_t i = 0; i < q->n; i++)
        if (all || q->gold[i])
            top = fmax(top, rows[i].log_likelihood);
    for (int64_t i = 0; i < q->n; i++)
        if (all || q->gold[i])
            sum += exp(rows[i].log_likelihood - top);
    return top + log(sum);
}

double choice_nll(const struct choices *c, int64_t item) { return -log_mass(c, item, 0); }

double choice_probability(const struct choices *c, int64_t item)
{
    double of = c->all[item].n == 1 ? 0 : log_mass(c, item, 1);
    return exp(log_mass(c, item, 0) - of);
}

/* ---- all items */

typedef double value_fn(const struct choices *c, int64_t item, enum choice_rule rule);

static double right_value(const struct choices *c, int64_t item, enum choice_rule rule)
{
    return choice_is_right(c, item, rule);
}
static double probability_value(const struct choices *c, int64_t item, enum choice_rule rule)
{
    (void)rule;
    return choice_probability(c, item);
}
static double nll_value(const struct choices *c, int64_t item, enum choice_rule rule)
{
    (void)rule;
    return choice_nll(c, item);
}

static int in_group(const struct choices *c, int64_t item, const char *group)
{
    return !group || !strcmp(c->items->all[item].group, group);
}

static struct estimate mean_of(const struct choices *c, const char *group, value_fn *value,
                               enum choice_rule rule)
{
    double *values = mem_alloc((size_t)c->items->n * sizeof *values);
    int64_t n = 0;
    for (int64_t i = 0; i < c->items->n; i++)
        if (in_group(c, i, group))
            values[n++] = value(c, i, rule);
    struct estimate x = estimate_of(values, n);
    free(values);
    return x;
}

void choices_scores(const struct choices *c, const char *group, struct choice_scores *s)
{
    s->items = 0;
    for (int64_t i = 0; i < c->items->n; i++)
        s->items += in_group(c, i, group);
    for (int rule = 0; rule < CHOICE_RULES; rule++)
        s->acc[rule] = mean_of(c, group, right_value, (enum choice_rule)rule);
    s->probability = mean_of(c, group, probability_value, BY_SUM);
    s->nll = mean_of(c, group, nll_value, BY_SUM);
}
