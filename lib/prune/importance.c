/* From activation sums to scores: see importance.h. */
#include "importance.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../base/mem.h"

double acts_block_importance(const struct acts *a, int64_t first, int64_t n)
{
    return 1 - a->block_cosine[(n - 1) * a->axes.size[AXIS_L] + first] / (double)a->positions;
}

/* The named tap of a layer, aggregated into new memory; NULL with e set unless it exists with that
 * many units. */
static double *tap_score(const struct acts *a, const struct score_opts *o, const char *name,
                         int64_t layer, int64_t units, const char *path, struct err *e)
{
    char full[80];
    snprintf(full, sizeof full, "%s.%" PRId64, name, layer);
    const struct acts_stat *s = acts_find_stat(a, full);
    if (!s || s->units != units) {
        err_set(e, "%s has no activation sums %s of %" PRId64 " units", path, full, units);
        return NULL;
    }
    double *score = mem_alloc((size_t)units * sizeof *score);
    acts_stat_score(s, a->samples, o->batch, o->seq, score);
    if (o->weights)
        column_sums_weigh(o->weights, full, score, units);
    return score;
}

/* Groups of one are copied: scores are never negative. */
static void norms_of_runs(double *out, const double *x, int64_t runs, int64_t width)
{
    for (int64_t i = 0; i < runs; i++) {
        double sum = 0;
        for (int64_t j = 0; j < width; j++)
            sum += x[i * width + j] * x[i * width + j];
        out[i] = width == 1 ? x[i] : sqrt(sum);
    }
}

/* Scores the units of an axis, each a run of consecutive ones of the n channels: from the sums of
 * their norms, or (norms NULL) by the L2 norm of their channels' scores. */
static void score_units(struct scores *s, const struct acts *a, const struct score_opts *o,
                        enum axis axis, int64_t layer, const double *channels, int64_t n,
                        const char *norms, const char *path, struct err *e)
{
    int64_t units = axes_size(&a->axes, axis, layer);
    double *to = scores_axis(s, axis, layer);
    if (!norms) {
        norms_of_runs(to, channels, units, n / units);
        return;
    }
    double *x = tap_score(a, o, norms, layer, units, path, e);
    if (x)
        memcpy(to, x, (size_t)units * sizeof *x);
    free(x);
}

/* The sums of channels that score the axis of a rule. */
static const char *channels_of(const struct tap_rule *r, const struct score_opts *o)
{
    if (r->axis == AXIS_F)
        return o->neuron;
    return r->axis == AXIS_R && !o->weights ? o->mamba : r->inputs;
}

static int score_layer(struct scores *s, const struct acts *a, const struct score_opts *o,
                       const struct tap_rule *r, int64_t layer, const char *path, struct err *e)
{
    const struct layer *y = &a->axes.layers[layer];
    int64_t n = layer_units(y, r->axis) * layer_width(y, r->axis);
    int by_norms = r->norms && o->head_norm;
    double *x = by_norms ? NULL : tap_score(a, o, channels_of(r, o), layer, n, path, e);
    if (!e->set)
        score_units(s, a, o, r->axis, layer, x, n, by_norms ? r->norms : NULL, path, e);
    for (enum axis i = axis_rows[r->axis].inside; i && i != AXIS_X && !e->set;
         i = axis_rows[i].inside)
        score_units(s, a, o, i, layer, x, n, by_norms ? r->outer : NULL, path, e);
    free(x);
    return e->set ? -1 : 0;
}

/* Experts that never work score 0. */
static int score_experts(struct scores *s, const struct acts *a, const struct score_opts *o,
                         int64_t layer, const char *path, struct err *e)
{
    const struct score_opts means = {.batch = AGG_MEAN, .seq = AGG_MEAN};
    int64_t X = axes_size(&a->axes, AXIS_X, layer);
    double *use = tap_score(a, &means, "expert_use", layer, 2 * X, path, e),
           *to = scores_axis(s, AXIS_X, layer);
    for (int64_t i = 0; i < X && use; i++) {
        double share = use[X + i];
        to[i] = o->expert_frequency ? share : 0;
        if (!o->expert_frequency && share > 0)
            to[i] = use[i] / share;
    }
    free(use);
    return e->set ? -1 : 0;
}

static int reads_residual(const struct acts *a)
{
    for (int64_t i = 0; i < a->n_stats; i++)
        if (strstr(a->stats[i].name, ".residual."))
            return 1;
    return 0;
}

/* x / mean(x); all zeros stay zeros. */
static void share_of_mean(double *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i];
    for (int64_t i = 0; i < n && sum > 0; i++)
        x[i] *= (double)n / sum;
}

/* The residual stream is shared: each norm is fully aggregated, then all are summed. Streams
 * without norms grow with depth, so the last would decide alone: they (and the final norm beside
 * them) are divided by their mean before they are summed. */
static int score_hidden(struct scores *s, const struct acts *a, const struct score_opts *o,
                        const char *path, struct err *e)
{
    int64_t E = a->axes.size[AXIS_E], summed = 0;
    int shares = reads_residual(a);
    double *hidden = scores_axis(s, AXIS_E, -1), *x = mem_alloc((size_t)E * sizeof *x);
    for (int64_t i = 0; i < a->n_stats && !e->set; i++) {
        const struct acts_stat *t = &a->stats[i];
        if (strncmp(t->name, "hidden.", 7) || (!strcmp(t->name, "hidden.final") && !o->with_final))
            continue;
        if (t->units != E)
            err_set(e, "%s: %s has %" PRId64 " units, but the hidden size is %" PRId64, path,
                    t->name, t->units, E);
        else
            acts_stat_score(t, a->samples, o->batch, o->seq, x);
        if (o->weights)
            column_sums_weigh(o->weights, t->name, x, E);
        if (shares)
            share_of_mean(x, E);
        for (int64_t j = 0; j < E && !e->set; j++)
            hidden[j] += x[j];
        summed++;
    }
    free(x);
    if (!e->set && !summed)
        err_set(e, "%s has no activation sums of norms", path);
    return e->set ? -1 : 0;
}

int scores_from_acts(struct scores *s, const struct acts *a, const struct score_opts *o,
                     const char *path, struct err *e)
{
    scores_open(s, &a->axes);
    int bad = score_hidden(s, a, o, path, e);
    for (int64_t l = 0; l < a->axes.size[AXIS_L] && !bad; l++) {
        for (const struct tap_rule *r = tap_rules; r->axis && !bad; r++)
            bad = axes_size(&a->axes, r->axis, l) && score_layer(s, a, o, r, l, path, e);
        if (!bad && axes_size(&a->axes, AXIS_X, l))
            bad = score_experts(s, a, o, l, path, e);
        scores_axis(s, AXIS_L, -1)[l] = acts_block_importance(a, l, 1);
    }
    return bad ? -1 : 0;
}
