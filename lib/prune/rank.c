/* Scores and ranks: in memory, from and to streams, and from each other. Records and refusals: see
 * rank.h. */
#include "rank.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../base/mem.h"
#include "../base/rng.h"

static int64_t entry_count(const struct axes *a, int64_t entry)
{
    struct tensor t;
    axes_tensor(a, entry, DT_F64, &t);
    return tensor_count(&t);
}

/* Rows that are ordered independently (query heads within their KV group), and units in each. */
static void entry_rows(const struct axes *a, int64_t entry, int64_t *rows, int64_t *units)
{
    struct tensor t;
    axes_tensor(a, entry, DT_F64, &t);
    *rows = t.ndim == 2 ? t.shape[0] : 1;
    *units = t.shape[t.ndim - 1];
}

/* The entry of a record: -1 if it is not one of ours; e set if its shape or dtype is wrong. */
static int64_t entry_of_record(const struct axes *a, const struct tensor *t, enum dtype d,
                               const char *path, struct err *e)
{
    for (int64_t i = 0; i < axes_count(a); i++) {
        struct tensor want;
        axes_tensor(a, i, d, &want);
        if (strcmp(want.name, t->name))
            continue;
        if (t->dtype != d || t->ndim != want.ndim || t->shape[0] != want.shape[0] ||
            (t->ndim == 2 && t->shape[1] != want.shape[1]))
            return err_set(e,
                           "%s: record %s is not %s of the shape that the header's sizes require",
                           path, t->name, dtype_name(d));
        return i;
    }
    return -1;
}

/* Reads every record with an entry into table[entry]. */
static int table_read(const struct axes *a, void **table, enum dtype d, struct st_in *in,
                      struct err *e)
{
    struct tensor t;
    int more;
    while ((more = st_next(in, &t)) > 0) {
        int64_t i = entry_of_record(a, &t, d, st_path(in), e);
        if (e->set)
            return -1;
        if (i < 0)
            continue;
        if (table[i])
            return err_set(e, "%s: record %s appears twice", st_path(in), t.name);
        if (!(table[i] = record_read(in, &t, e)))
            return -1;
    }
    return more;
}

static void table_write(struct st_out *out, const struct axes *a, void *const *table, enum dtype d)
{
    struct tensor t;
    for (int64_t i = 0; i < axes_count(a); i++)
        if (table[i] && axes_has(a, i)) {
            axes_tensor(a, i, d, &t);
            st_put(out, &t, table[i]);
        }
}

static void table_free(const struct axes *a, void **table)
{
    for (int64_t i = 0; table && i < axes_count(a); i++)
        free(table[i]);
    free(table);
}

/* ---- scores */

void scores_open(struct scores *s, const struct axes *a)
{
    axes_copy(&s->axes, a);
    s->values = mem_alloc((size_t)axes_count(a) * sizeof *s->values);
}

double *scores_entry(struct scores *s, int64_t entry)
{
    if (!s->values[entry])
        s->values[entry] = mem_alloc((size_t)entry_count(&s->axes, entry) * sizeof(double));
    return s->values[entry];
}

double *scores_axis(struct scores *s, enum axis axis, int64_t layer)
{
    return scores_entry(s, axes_entry(axis, layer));
}

int scores_read(struct scores *s, struct st_in *in, struct err *e)
{
    *s = (struct scores){0};
    struct axes a;
    if (axes_from_json(&a, st_head(in), st_path(in), e))
        return -1;
    scores_open(s, &a);
    axes_free(&a);
    table_read(&s->axes, s->values, DT_F64, in, e);
    for (int64_t i = 0; i < axes_count(&s->axes) && !e->set; i++) {
        const double *v = s->values[i];
        for (int64_t j = 0; v && j < entry_count(&s->axes, i); j++)
            if (isnan(v[j])) {
                struct tensor t;
                axes_tensor(&s->axes, i, DT_F64, &t);
                return err_set(e, "%s: score %" PRId64 " of %s is not a number", st_path(in), j,
                               t.name);
            }
    }
    return e->set ? -1 : 0;
}

void scores_write(struct st_out *out, const struct scores *s)
{
    table_write(out, &s->axes, s->values, DT_F64);
}

int scores_replace(struct scores *s, const struct scores *later, const char *path,
                   const char *later_path, struct err *e)
{
    if (axes_same(&s->axes, &later->axes, 1, path, later_path, e))
        return -1;
    if (later->axes.size[AXIS_V])
        s->axes.size[AXIS_V] = later->axes.size[AXIS_V];
    for (int64_t i = 0; i < axes_count(&s->axes); i++)
        if (later->values[i])
            memcpy(scores_entry(s, i), later->values[i],
                   (size_t)entry_count(&s->axes, i) * sizeof(double));
    return 0;
}

void scores_free(struct scores *s)
{
    table_free(&s->axes, s->values);
    axes_free(&s->axes);
    s->values = NULL;
}

/* ---- ranks */

struct ranked {
    double score;
    int32_t unit;
};

static int best_first(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return (x->unit > y->unit) - (x->unit < y->unit);
}

static int32_t *order_of_scores(const struct axes *a, int64_t entry, const double *score)
{
    int64_t rows, units;
    entry_rows(a, entry, &rows, &units);
    struct ranked *r = mem_alloc((size_t)units * sizeof *r);
    int32_t *order = mem_alloc((size_t)(rows * units) * sizeof *order);
    for (int64_t row = 0; row < rows; row++) {
        for (int64_t i = 0; i < units; i++)
            r[i] = (struct ranked){score[row * units + i], (int32_t)(row * units + i)};
        qsort(r, (size_t)units, sizeof *r, best_first);
        for (int64_t i = 0; i < units; i++)
            order[row * units + i] = r[i].unit;
    }
    free(r);
    return order;
}

static void rank_open(struct rank *r, const struct axes *a)
{
    axes_copy(&r->axes, a);
    r->order = mem_alloc((size_t)axes_count(a) * sizeof *r->order);
}

void rank_from_scores(struct rank *r, const struct scores *s)
{
    rank_open(r, &s->axes);
    for (int64_t i = 0; i < axes_count(&s->axes); i++)
        if (s->values[i])
            r->order[i] = order_of_scores(&s->axes, i, s->values[i]);
}

void rank_random(struct rank *r, const struct axes *a, uint64_t seed)
{
    uint64_t drawn = 0;
    rank_open(r, a);
    for (int64_t i = 0; i < axes_count(a); i++) {
        if (!axes_has(a, i))
            continue;
        struct rng g = rng_open(seed, drawn++);
        int64_t n = entry_count(a, i);
        double *score = mem_alloc((size_t)n * sizeof *score);
        for (int64_t j = 0; j < n; j++)
            score[j] = rng_uniform(&g);
        r->order[i] = order_of_scores(a, i, score);
        free(score);
    }
}

static int order_check(const struct axes *a, int64_t entry, const int32_t *order, const char *path,
                       struct err *e)
{
    int64_t rows, units;
    struct tensor t;
    entry_rows(a, entry, &rows, &units);
    axes_tensor(a, entry, DT_I32, &t);
    char *seen = mem_alloc((size_t)(rows * units));
    for (int64_t i = 0; i < rows * units && !e->set; i++) {
        int64_t first = i / units * units;
        if (order[i] < first || order[i] >= first + units || seen[order[i]]++)
            err_set(e,
                    "%s: %s is not an order of its units: %d at place %" PRId64
                    " is out of range or repeated",
                    path, t.name, order[i], i);
    }
    free(seen);
    return e->set ? -1 : 0;
}

int rank_read(struct rank *r, struct st_in *in, struct err *e)
{
    *r = (struct rank){0};
    struct axes a;
    if (axes_from_json(&a, st_head(in), st_path(in), e))
        return -1;
    rank_open(r, &a);
    axes_free(&a);
    table_read(&r->axes, r->order, DT_I32, in, e);
    for (int64_t i = 0; i < axes_count(&r->axes) && !e->set; i++)
        if (r->order[i])
            order_check(&r->axes, i, r->order[i], st_path(in), e);
    return e->set ? -1 : 0;
}

void rank_write(struct st_out *out, const struct rank *r)
{
    table_write(out, &r->axes, r->order, DT_I32);
}

void rank_free(struct rank *r)
{
    table_free(&r->axes, r->order);
    axes_free(&r->axes);
    r->order = NULL;
}
