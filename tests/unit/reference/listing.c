/* See listing.h. Both distributions are made coarse first; the gradient is that with respect to the
 * logits of the coarse one, carried over to those of the fine one. */
#include "listing.h"

#include <math.h>

void listing_draw(struct rng *rng, int64_t V, int32_t *ids, float *log_p)
{
    int64_t n = 0, most = 1 + (int64_t)rng_below(rng, LISTED);
    double p[LISTED + 1], mass = 0;
    for (int64_t v = 0; v < V && n < most; v++)
        if (rng_below(rng, (uint64_t)(V - v)) < (uint64_t)(most - n))
            ids[n++] = (int32_t)v;
    for (int64_t i = 0; i <= LISTED; i++) {
        int is_there = i < n ? i == 0 || rng_below(rng, 9) > 0 : i == LISTED && n < V;
        p[i] = is_there ? exp(2 * rng_normal(rng)) : 0;
        mass += p[i];
    }
    for (int64_t i = 0; i <= LISTED; i++)
        log_p[i] = p[i] > 0 ? (float)log(p[i] / mass) : -INFINITY;
    for (int64_t i = n; i < LISTED; i++)
        ids[i] = INT32_MAX;
}

/* The listed entries and, where there are others, one for all of these: as logits y of the student,
 * as logarithms of both probabilities. */
struct coarse {
    double y[LISTED + 1], s[LISTED + 1], t[LISTED + 1];
    int64_t listed, n;
};

static double log_sum(const double *x, int64_t n)
{
    double max = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++)
        max = fmax(max, x[i]);
    for (int64_t i = 0; i < n; i++)
        sum += exp(x[i] - max);
    return max + log(sum);
}

/* In y: log of the sum of e^(z / temperature), times the temperature, over what is not listed. */
static void merge_others(struct coarse *x, const struct loss_listing *l, const struct pair *p)
{
    double largest = -INFINITY, sum = 0;
    for (int64_t v = 0; v < p->n; v++)
        largest = fmax(largest, p->z[v]);
    for (int64_t v = 0, i = 0; v < p->n; v++)
        if (i < x->listed && l->ids[i] == v)
            i++;
        else
            sum += exp((p->z[v] - largest) / p->temperature);
    x->y[x->n++] = largest + p->temperature * log(sum);
}

static struct coarse coarse_of(const struct loss_listing *l, enum teacher_form form,
                               const struct pair *p)
{
    struct coarse x = {.listed = 0};
    for (; x.listed < LISTED && l->ids[x.listed] < INT32_MAX; x.listed++) {
        x.y[x.listed] = p->z[l->ids[x.listed]];
        x.t[x.listed] = (double)l->log_p[x.listed];
    }
    x.n = x.listed;
    if (form != TEACHER_TOP && x.n < p->n) {
        merge_others(&x, l, p);
        x.t[x.listed] = form == TEACHER_REST ? (double)l->log_p[LISTED] : -INFINITY;
    }
    double mass = form == TEACHER_TERMS ? 0 : log_sum(x.t, x.n);
    for (int64_t i = 0; i < x.n; i++) {
        x.t[i] -= mass;
        x.s[i] = x.y[i] / p->temperature;
    }
    double all = log_sum(x.s, x.n);
    for (int64_t i = 0; i < x.n; i++)
        x.s[i] -= all;
    return x;
}

/* What bin i adds to the loss, and its derivative with respect to the student's probability. */
static double bin_loss(const struct coarse *x, int64_t i, enum loss loss, double beta,
                       double *slope)
{
    double t = exp(x->t[i]), s = exp(x->s[i]), log_m = log(beta * t + (1 - beta) * s);
    switch (loss) {
    case LOSS_kl: *slope = -t / s; return t * (x->t[i] - x->s[i]);
    case LOSS_rkl: *slope = x->s[i] - x->t[i] + 1; return s * (x->s[i] - x->t[i]);
    default:
        *slope = (1 - beta) * (x->s[i] - log_m);
        return beta * t * (x->t[i] - log_m) + (1 - beta) * s * (x->s[i] - log_m);
    }
}

/* A logit that is not listed has its share of y of the others. */
static void spread(const struct coarse *x, const struct loss_listing *l, const struct pair *p,
                   const double *d, double *g)
{
    for (int64_t v = 0, i = 0; v < p->n; v++)
        if (i < x->listed && l->ids[i] == v)
            g[v] = d[i++];
        else if (x->n > x->listed)
            g[v] = d[x->listed] * exp((p->z[v] - x->y[x->listed]) / p->temperature);
        else
            g[v] = 0;
}

double listing_loss(const struct loss_listing *l, enum teacher_form form, enum loss loss,
                    const struct pair *p, double *g)
{
    struct coarse x = coarse_of(l, form, p);
    double d[LISTED + 1] = {0}, value = 0, slope;
    for (int64_t i = 0; i < x.n; i++) {
        if (exp(x.t[i]) == 0) /* no bin of the loss */
            continue;
        value += bin_loss(&x, i, loss, p->beta, &slope);
        for (int64_t j = 0; j < x.n; j++) /* ds_i / dy_j */
            d[j] += slope * exp(x.s[i]) * ((i == j) - exp(x.s[j])) / p->temperature;
    }
    spread(&x, l, p, d, g);
    return value;
}
