/* See loss_listing.h. Everything here is of a few entries a position, so it is in f64. */
#include "loss_listing.h"

struct row_listing row_listing(struct loss_teacher t, const void *token_data, float *points)
{
    const int32_t *ids = token_data;
    const float *log_p = (const float *)(ids + t.n);
    int64_t n = t.n;
    while (n && ids[n - 1] == INT32_MAX)
        n--;
    return (struct row_listing){n, ids, log_p, log_p[t.n], points};
}

/* The first listed entry that is not before v. */
static int64_t listed_from(const struct row_listing *l, int64_t v)
{
    int64_t low = 0, high = l->n;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (l->ids[middle] < v)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void row_hide(const struct row_listing *l, float *z, int64_t v, int64_t n)
{
    for (int64_t i = listed_from(l, v); i < l->n && l->ids[i] < v + n; i++) {
        l->points[i] = z[l->ids[i] - v];
        z[l->ids[i] - v] = -INFINITY;
    }
}

void row_show(const struct row_listing *l, float *g, int64_t v, int64_t n)
{
    for (int64_t i = listed_from(l, v); i < l->n && l->ids[i] < v + n; i++)
        g[l->ids[i] - v] = l->points[i];
}

/* ---- the end of a row */

/* Adds the hidden entries to the sum of the others. */
static void add_points(struct soft *s, const struct row_listing *l)
{
    float base = s->base;
    for (int64_t i = 0; i < l->n; i++)
        base = fmaxf(base, l->points[i] * s->inv_temperature);
    s->sum = s->sum > 0 ? s->sum * exp((double)s->base - (double)base) : 0;
    for (int64_t i = 0; i < l->n; i++)
        s->sum += exp((double)l->points[i] * (double)s->inv_temperature - (double)base);
    s->base = base;
}

/* The bins of a row: the listed entries and, as number n, all others. log_s, log_t: what their
 * logarithms are relative to. */
struct bins {
    const struct row_listing *l;
    double inv_temperature, log_s, log_t, log_rest;
    int64_t n; /* with the rest, where it is one */
};

static struct loss_bin bin_at(const struct bins *b, int64_t i)
{
    const struct row_listing *l = b->l;
    struct loss_bin v;
    v.log_s = i < l->n ? (double)l->points[i] * b->inv_temperature : b->log_rest;
    v.log_s -= b->log_s;
    v.log_t = (double)(i < l->n ? l->log_p[i] : l->log_rest) - b->log_t;
    v.s = exp(v.log_s);
    v.t = exp(v.log_t);
    return v;
}

static struct bins bins_of(const struct row_plan *k, const struct row_listing *l,
                           const struct soft *rest)
{
    struct bins b = {l, (double)k->inv_temperature, 0, 0, softmax_of(rest).log_sum, l->n};
    struct soft total = k->teacher.form == TEACHER_TOP
                            ? (struct soft){0, -INFINITY, rest->inv_temperature}
                            : *rest;
    add_points(&total, l);
    b.log_s = softmax_of(&total).log_sum;
    if (k->teacher.form == TEACHER_TERMS)
        return b;
    b.n += k->teacher.form == TEACHER_REST;
    double mass = 0;
    for (int64_t i = 0; i < b.n; i++)
        mass += bin_at(&b, i).t;
    b.log_t = mass > 0 ? log(mass) : -INFINITY;
    return b;
}

/* A loss's terms of a bin. The teacher's probability of an entry may be too small to be stored. */
static struct loss_bin_terms terms_at(const struct row_plan *k, enum loss loss, struct loss_bin v)
{
    if (v.t > 0)
        switch (loss) {
#define LOSS(name, ...) \
    case LOSS_##name: \
        return name##_bin(v, k->kind);
#include "../losses.def"
#undef LOSS
        default: break;
        }
    return (struct loss_bin_terms){0, 0};
}

/* A loss of the row, and what its gradient is made of. */
struct listing_loss {
    double w, value, slopes;
};

/* Adds to the row's mix what is the same for all entries that are not listed: their share of the
 * rest times (slope of the rest - s M) / temperature. */
static struct listing_loss loss_over(const struct row_plan *k, struct row *r, enum loss loss,
                                     const struct bins *b, double w)
{
    struct listing_loss sum = {.w = w};
    struct loss_bin_terms x = {0, 0};
    double rest = r->soft[STUDENT].sum, s_rest = exp(b->log_rest - b->log_s);
    for (int64_t i = 0; i < b->n; i++) {
        x = terms_at(k, loss, bin_at(b, i));
        sum.value += x.value;
        sum.slopes += x.slope;
    }
    double slope = k->teacher.form == TEACHER_REST ? x.slope : 0;
    if (k->teacher.form != TEACHER_TOP && rest > 0)
        r->mix.student += (float)(w * b->inv_temperature * (slope - s_rest * sum.slopes) / rest);
    return sum;
}

/* The gradient with respect to the logit of listed entry i, as the student's head gives it. */
static float point_gradient(const struct row_plan *k, const struct row *r, const struct bins *b,
                            const struct listing_loss losses[LOSS_COUNT], int64_t i, int32_t label)
{
    const struct row_listing *l = b->l;
    struct loss_bin v = bin_at(b, i);
    double z = (double)l->points[i], x = z * (double)k->slope, g = 0;
    if (r->mix.all != 0)
        g = (double)r->mix.all * exp(z - (double)r->soft[ALL].base);
    if (l->ids[i] == label)
        g += (double)r->mix.label;
    for (int loss = 0; loss < LOSS_COUNT; loss++)
        if (losses[loss].w != 0)
            g += losses[loss].w * b->inv_temperature *
                 (terms_at(k, (enum loss)loss, v).slope - v.s * losses[loss].slopes);
    return (float)(g * (1 - x * x) * (double)k->gain);
}

void row_end_listing(const struct row_plan *k, struct row *r, const struct row_listing *l,
                     int32_t label, double *values)
{
    double scale = (double)k->step[LOSS_SCALE],
           square = k->kind.squared ? (double)k->kind.temperature * (double)k->kind.temperature : 1;
    struct listing_loss losses[LOSS_COUNT] = {{0, 0, 0}};
    if (k->student == ALL)
        r->soft[STUDENT] = r->soft[ALL];
    add_points(&r->soft[ALL], l);
    struct bins b = bins_of(k, l, &r->soft[STUDENT]);
    struct loss_row row = {.all = softmax_of(&r->soft[ALL]), .label = (double)r->label};
    for (int loss = 0; loss < LOSS_COUNT; loss++) {
        double w = scale * (double)k->step[LOSS_WEIGHTS + loss];
        if (!(k->kind.set >> loss & 1))
            continue;
        if (loss == LOSS_ce) {
            *values++ = ce_finish(&row, NULL, w, &r->mix, NULL);
            continue;
        }
        losses[loss] = loss_over(k, r, (enum loss)loss, &b, w * square);
        *values++ = square * losses[loss].value;
    }
    for (int64_t i = 0; i < l->n; i++)
        l->points[i] = point_gradient(k, r, &b, losses, i, label);
}
