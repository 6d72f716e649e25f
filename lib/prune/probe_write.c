/* What probes have found, as streams of scores: see probe.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../eval/eval.h"
#include "probe.h"

json_t *probe_meta(enum probe_by by, double base, const struct probe_text *on, const struct axes *a)
{
    json_t *meta = json_pack("{s:s, s:f}", "by", probe_ways[by].name, probe_ways[by].key, base);
    int64_t n = on->choices ? on->choices->items->n : on->w->predictions;
    json_object_set_new(meta, on->choices ? "items" : "predictions", json_integer(n));
    axes_to_json(a, meta);
    return meta;
}

static void put_scores(struct st_out *out, const double *scores, const struct axes *a)
{
    struct scores s;
    scores_open(&s, a);
    memcpy(scores_axis(&s, AXIS_L, -1), scores, (size_t)a->size[AXIS_L] * sizeof *scores);
    scores_write(out, &s);
    scores_free(&s);
}

static void put_values(struct st_out *out, enum probe_by by, const char *what, const double *values,
                       int64_t rows, int64_t cols)
{
    struct tensor record = {.dtype = DT_F64, .ndim = cols ? 2 : 1, .shape = {rows, cols}};
    snprintf(record.name, sizeof record.name, "%s_%s", probe_ways[by].key, what);
    st_put(out, &record, values);
}

void probe_write(struct st_out *out, const struct probe *p, const struct axes *a)
{
    double *scores = mem_alloc((size_t)p->layers * sizeof *scores);
    probe_scores(p, scores);
    put_scores(out, scores, a);
    put_values(out, p->by, "without", p->without, p->longest, p->layers);
    free(scores);
}

void greedy_write(struct st_out *out, const struct greedy *g, const struct axes *a)
{
    int64_t n = g->rounds * g->length;
    struct tensor record = {
        .name = "removed", .dtype = DT_I32, .ndim = 2, .shape = {g->rounds, g->length}};
    int32_t *removed = mem_alloc((size_t)n * sizeof *removed);
    for (int64_t i = 0; i < n; i++)
        removed[i] = (int32_t)g->removed[i];
    put_scores(out, g->scores, a);
    st_put(out, &record, removed);
    put_values(out, g->by, "removed", g->after, g->rounds, 0);
    free(removed);
}
