/* Layers removed one block after the other: see probe.h. */
#include "probe.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "slice.h"

struct run {
    struct greedy *g;
    struct model *m;
    const struct probe_text *on;
    int64_t round;
};

static void on_progress(void *user, int64_t done, int64_t rows)
{
    const struct run *r = user;
    if (r->on->progress)
        r->on->progress(r->on->user, r->round * rows + done, r->g->rounds * rows);
}

/* The model without the layers removed so far. */
static int plan_rest(struct slice_plan *p, const struct run *r, struct err *e)
{
    int64_t n = r->round * r->g->length;
    struct range *each = mem_alloc((size_t)(n + 1) * sizeof *each);
    struct slice_target t = {.in_order = 1, .drop_layers = {each, n}};
    for (int64_t i = 0; i < n; i++)
        each[i] = (struct range){r->g->removed[i], r->g->removed[i], 0};
    int failed = slice_plan_make(p, &r->m->spec, NULL, NULL, &t, e);
    free(each);
    return failed;
}

static int64_t least_harmful(const struct probe *p)
{
    const double *without = p->without + (p->longest - 1) * p->layers;
    int64_t best = 0;
    for (int64_t i = 1; i + p->longest <= p->layers; i++)
        if (probe_harm(p->by, without[i], without[best]) < 0)
            best = i;
    return best;
}

/* Takes up a round; layer[i]: of the whole model. */
static void take(struct run *r, const struct probe *p, const int64_t *layer)
{
    struct greedy *g = r->g;
    int64_t best = least_harmful(p);
    double *scores = mem_alloc((size_t)p->layers * sizeof *scores);
    if (!r->round)
        g->base = p->base;
    g->after[r->round] = p->without[(g->length - 1) * p->layers + best];
    memcpy(g->removed + r->round * g->length, layer + best, (size_t)g->length * sizeof *layer);
    probe_scores(p, scores);
    for (int64_t i = 0; i < p->layers; i++)
        g->scores[layer[i]] = scores[i];
    free(scores);
}

static int run_round(struct run *r, struct err *e)
{
    struct greedy *g = r->g;
    struct slice_plan rest;
    struct model m = {0};
    struct probe_text on = *r->on;
    struct probe p = {
        .by = g->by, .whole = r->round ? r->m : NULL, .shortest = g->length, .longest = g->length};
    on.progress = on_progress;
    on.user = r;
    if (plan_rest(&rest, r, e))
        return -1;
    int failed = slice_lend(&rest, r->m, on.x, &m, e) || probe_run(&p, &m, &on, e);
    if (!failed)
        take(r, &p, rest.kept[AXIS_L].index);
    probe_close(&p);
    model_free(&m);
    slice_plan_free(&rest);
    return failed;
}

static void score_removed(struct greedy *g)
{
    int64_t n = g->rounds * g->length;
    double lowest = 0;
    for (int64_t i = 0; i < n; i++)
        g->scores[g->removed[i]] = INFINITY;
    for (int64_t l = 0; l < g->layers; l++)
        lowest = fmin(lowest, g->scores[l]);
    for (int64_t i = 0; i < n; i++)
        g->scores[g->removed[i]] = lowest - (double)(g->rounds - i / g->length);
}

int greedy_run(struct greedy *g, struct model *m, const struct probe_text *on, struct err *e)
{
    struct run r = {g, m, on, 0};
    g->layers = m->spec.num_hidden_layers;
    g->removed = mem_alloc((size_t)(g->rounds * g->length) * sizeof *g->removed);
    g->after = mem_alloc((size_t)g->rounds * sizeof *g->after);
    g->scores = mem_alloc((size_t)g->layers * sizeof *g->scores);
    for (; r.round < g->rounds; r.round++)
        if (run_round(&r, e))
            return -1;
    score_removed(g);
    return 0;
}

void greedy_close(struct greedy *g)
{
    free(g->removed);
    free(g->after);
    free(g->scores);
    *g = (struct greedy){0};
}
