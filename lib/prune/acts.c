/* Calibration sums: adding samples, merging shards, and their stream. Formulas and records: see
 * acts.h. */
#include "acts.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../base/mem.h"

static const char *const aggregates[AGG_COUNT] = {"mean", "l2", "var"};

const char *aggregate_name(enum aggregate a) { return aggregates[a]; }

int aggregate_parse(const char *name)
{
    for (int i = 0; i < AGG_COUNT; i++)
        if (!strcmp(name, aggregates[i]))
            return i;
    return -1;
}

const struct tap_rule tap_rules[] = {{AXIS_F, "neuron_in2", NULL, NULL, "neuron_first"},
                                     {AXIS_N, "expert_in2", NULL, NULL, NULL},
                                     {AXIS_S, "shared_in2", NULL, NULL, NULL},
                                     {AXIS_H, "attn_channel", "head_norm", "group_norm", NULL},
                                     {AXIS_R, "mamba_in2", NULL, NULL, "mamba_first"},
                                     {0}};

const struct tap_rule *tap_rule_of(enum axis axis)
{
    for (const struct tap_rule *r = tap_rules; r->axis; r++)
        if (r->axis == axis)
            return r;
    return NULL;
}

/* ---- sums */

void acts_open(struct acts *a, const struct axes *axes, int64_t block_size)
{
    *a = (struct acts){.block_size = block_size, .shards = json_array()};
    axes_copy(&a->axes, axes);
    a->block_cosine = mem_alloc((size_t)(block_size * axes->size[AXIS_L]) * sizeof(double));
}

static struct acts_stat *stat_append(struct acts *a, const char *name, int64_t units, double *sums)
{
    a->stats = mem_grow(a->stats, (size_t)(a->n_stats + 1) * sizeof *a->stats);
    struct acts_stat *s = &a->stats[a->n_stats++];
    *s = (struct acts_stat){.units = units, .sums = sums};
    snprintf(s->name, sizeof s->name, "%s", name);
    return s;
}

struct acts_stat *acts_add_stat(struct acts *a, const char *name, int64_t units)
{
    return stat_append(a, name, units, mem_alloc((size_t)(2 * AGG_COUNT * units) * sizeof(double)));
}

const struct acts_stat *acts_find_stat(const struct acts *a, const char *name)
{
    for (int64_t i = 0; i < a->n_stats; i++)
        if (!strcmp(a->stats[i].name, name))
            return &a->stats[i];
    return NULL;
}

void acts_stat_sample(struct acts_stat *s, int64_t before, const double *const values[AGG_COUNT])
{
    double share = 1.0 / (double)(before + 1);
    for (int q = 0; q < AGG_COUNT; q++) {
        double *mean = s->sums + 2 * q * s->units, *squares = mean + s->units;
        for (int64_t i = 0; i < s->units; i++) {
            double off = values[q][i] - mean[i];
            mean[i] += off * share;
            squares[i] += off * (values[q][i] - mean[i]);
        }
    }
}

/* Sequence aggregates are never negative, so the batch mean of |.| is their mean; the sum of
 * squares is the centred squares + n mean^2. */
void acts_stat_score(const struct acts_stat *s, int64_t samples, enum aggregate batch,
                     enum aggregate seq, double *out)
{
    const double *mean = s->sums + 2 * seq * s->units, *squares = mean + s->units;
    double n = (double)samples;
    for (int64_t i = 0; i < s->units; i++)
        switch (batch) {
        case AGG_MEAN: out[i] = mean[i]; break;
        case AGG_VAR: out[i] = squares[i] / n; break;
        default: out[i] = sqrt(squares[i] + n * mean[i] * mean[i]);
        }
}

static void stat_merge(struct acts_stat *dst, const struct acts_stat *src, double n_dst,
                       double n_src)
{
    double n = n_dst + n_src;
    for (int q = 0; q < AGG_COUNT; q++) {
        double *mean = dst->sums + 2 * q * dst->units, *squares = mean + dst->units;
        const double *mean2 = src->sums + 2 * q * dst->units, *squares2 = mean2 + dst->units;
        for (int64_t i = 0; i < dst->units; i++) {
            double off = mean2[i] - mean[i];
            mean[i] += off * (n_src / n);
            squares[i] += squares2[i] + off * off * (n_dst * n_src / n);
        }
    }
}

/* ---- shards: [tokens id, first sequence, end] */

static int shards_check(const json_t *shards, const char *path, struct err *e)
{
    size_t i;
    json_t *s;
    json_array_foreach(shards, i, s) {
        const char *id = json_string_value(json_array_get(s, 0));
        if (json_array_size(s) != 3 || !id || (*id && !digest_is(id)) ||
            !json_is_integer(json_array_get(s, 1)) || !json_is_integer(json_array_get(s, 2)))
            return err_set(e, "%s: the header's shards are not [tokens id, first, end]", path);
    }
    return json_array_size(shards) ? 0 : err_set(e, "%s: the header names no shards", path);
}

struct shard {
    const char *tokens;
    json_int_t first, end;
};

static int64_t shards_list(struct shard *to, const json_t *shards)
{
    size_t i;
    const json_t *s;
    json_array_foreach(shards, i, s)
        to[i] = (struct shard){json_string_value(json_array_get(s, 0)),
                               json_integer_value(json_array_get(s, 1)),
                               json_integer_value(json_array_get(s, 2))};
    return (int64_t)json_array_size(shards);
}

static int by_place(const void *a, const void *b)
{
    const struct shard *x = a, *y = b;
    int order = strcmp(x->tokens, y->tokens);
    return order ? order : (x->first > y->first) - (x->first < y->first);
}

/* Overlaps are looked for among neighbours of the sorted list: a hostile header may name very many
 * shards. */
static int shards_join(json_t *dst, const json_t *src, const char *dst_path, const char *src_path,
                       struct err *e)
{
    size_t i;
    json_t *shard;
    struct shard *all = mem_alloc((json_array_size(dst) + json_array_size(src)) * sizeof *all);
    int64_t n = shards_list(all, dst);
    n += shards_list(all + n, src);
    qsort(all, (size_t)n, sizeof *all, by_place);
    json_int_t end = 0;
    for (int64_t k = 0; k < n; k++) {
        int same = k && !strcmp(all[k].tokens, all[k - 1].tokens);
        if (same && all[k].first < end)
            err_set(e,
                    "%s: its sequences from %" JSON_INTEGER_FORMAT
                    " on of tokens %s are also in %s; each shard counts once",
                    src_path, all[k].first, all[k].tokens, dst_path);
        end = same && end > all[k].end ? end : all[k].end;
    }
    free(all);
    json_array_foreach(src, i, shard)
        json_array_append(dst, shard);
    return e->set ? -1 : 0;
}

int acts_merge(struct acts *dst, const struct acts *src, const char *dst_path, const char *src_path,
               struct err *e)
{
    if (axes_same(&dst->axes, &src->axes, 1, dst_path, src_path, e))
        return -1;
    if (dst->block_size != src->block_size || dst->n_stats != src->n_stats)
        return err_set(e, "%s was calibrated with other taps or another --block-size than %s",
                       src_path, dst_path);
    for (int64_t i = 0; i < dst->n_stats; i++)
        if (strcmp(dst->stats[i].name, src->stats[i].name) ||
            dst->stats[i].units != src->stats[i].units)
            return err_set(e, "%s has %s where %s has %s", src_path, src->stats[i].name, dst_path,
                           dst->stats[i].name);
    if (shards_join(dst->shards, src->shards, dst_path, src_path, e))
        return -1;
    for (int64_t i = 0; i < dst->n_stats; i++)
        stat_merge(&dst->stats[i], &src->stats[i], (double)dst->samples, (double)src->samples);
    for (int64_t i = 0; i < dst->block_size * dst->axes.size[AXIS_L]; i++)
        dst->block_cosine[i] += src->block_cosine[i];
    dst->samples += src->samples;
    dst->positions += src->positions;
    return 0;
}

/* ---- the stream */

static int record_check(const struct acts *a, const struct tensor *t, int is_cosine,
                        const char *path, struct err *e)
{
    int64_t L = a->axes.size[AXIS_L];
    int ok = is_cosine ? !a->block_cosine && t->ndim == 2 && t->shape[0] >= 1 && t->shape[0] <= L &&
                             t->shape[1] == L
                       : t->ndim == 3 && t->shape[0] == AGG_COUNT && t->shape[1] == 2 &&
                             t->shape[2] > 0 && strlen(t->name) < sizeof a->stats->name &&
                             !acts_find_stat(a, t->name);
    return ok && t->dtype == DT_F64
               ? 0
               : err_set(
                     e, "%s: record %s appears twice or is not f64 of the shape of activation sums",
                     path, t->name);
}

static int acts_read_records(struct acts *a, struct st_in *in, struct err *e)
{
    struct tensor t;
    int more;
    while ((more = st_next(in, &t)) > 0) {
        int is_cosine = !strcmp(t.name, "block_cosine");
        double *data = NULL;
        if (record_check(a, &t, is_cosine, st_path(in), e) || !(data = record_read(in, &t, e)))
            return -1;
        for (int64_t i = 0; i < tensor_count(&t); i++)
            if (!isfinite(data[i]))
                err_set(e, "%s: record %s has a value that is not finite", st_path(in), t.name);
        if (is_cosine) {
            a->block_cosine = data;
            a->block_size = t.shape[0];
        } else
            stat_append(a, t.name, t.shape[2], data);
    }
    if (!more && !a->block_cosine)
        err_set(e, "%s: record block_cosine is missing", st_path(in));
    return more || e->set ? -1 : 0;
}

int acts_read(struct acts *a, struct st_in *in, struct err *e)
{
    const json_t *head = st_head(in);
    *a = (struct acts){0};
    if (axes_from_json(&a->axes, head, st_path(in), e))
        return -1;
    a->samples = json_integer_value(json_object_get(head, "samples"));
    a->positions = json_integer_value(json_object_get(head, "positions"));
    a->shards = json_deep_copy(json_object_get(head, "shards"));
    if (a->samples < 1 || a->positions < a->samples)
        err_set(e, "%s: invalid header: %" PRId64 " samples, %" PRId64 " positions", st_path(in),
                a->samples, a->positions);
    if (shards_check(a->shards, st_path(in), e) || acts_read_records(a, in, e)) {
        acts_free(a);
        return -1;
    }
    return 0;
}

json_t *acts_meta(const struct acts *a)
{
    json_t *meta = json_object();
    axes_to_json(&a->axes, meta);
    json_object_set_new(meta, "samples", json_integer(a->samples));
    json_object_set_new(meta, "positions", json_integer(a->positions));
    json_object_set(meta, "shards", a->shards);
    return meta;
}

void acts_write(struct st_out *out, const struct acts *a)
{
    for (int64_t i = 0; i < a->n_stats; i++) {
        struct tensor t = {.dtype = DT_F64, .ndim = 3, .shape = {AGG_COUNT, 2, a->stats[i].units}};
        snprintf(t.name, sizeof t.name, "%s", a->stats[i].name);
        st_put(out, &t, a->stats[i].sums);
    }
    struct tensor t = {.name = "block_cosine",
                       .dtype = DT_F64,
                       .ndim = 2,
                       .shape = {a->block_size, a->axes.size[AXIS_L]}};
    st_put(out, &t, a->block_cosine);
}

void acts_free(struct acts *a)
{
    for (int64_t i = 0; i < a->n_stats; i++)
        free(a->stats[i].sums);
    free(a->stats);
    free(a->block_cosine);
    json_decref(a->shards);
    axes_free(&a->axes);
    *a = (struct acts){0};
}
