/* Checkpoints: see checkpoint.h. */
#include "checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../formats/stream.h"
#include "../base/mem.h"
#include "../base/minmax.h"
#include "../base/world.h"
#include "settings.h"

enum { PIECE = 1 << 18 }; /* values at a time */
static const char *const checkpoint_records[] = {"weights", "m", "v"};

/* ---- saving */

/* Values in device memory, a piece at a time. */
static void put_values(struct st_out *out, struct exec *x, const float *from, int64_t n,
                       float *piece)
{
    for (int64_t at = 0, k; at < n; at += k) {
        k = min64(PIECE, n - at);
        exec_get(x, piece, from + at, (size_t)k * sizeof *piece);
        st_write(out, piece, k * (int64_t)sizeof *piece);
    }
}

/* One record: what this rank owns of the weights, or with `from` all of these moments. */
static void put_record(struct st_out *out, const struct checkpoint *c, int i, const float *from)
{
    const struct shards *s = c->shards;
    struct tensor t = {.dtype = DT_F32, .ndim = 1, .shape = {s->owned}};
    float *piece = mem_alloc(PIECE * sizeof *piece);
    snprintf(t.name, sizeof t.name, "%s", checkpoint_records[i]);
    st_record(out, &t);
    if (from)
        put_values(out, s->x, from, s->owned, piece);
    for (int64_t k = 0; !from && k < s->n; k++)
        put_values(out, s->x, model_weights_of(s->m, &s->of[k]), s->of[k].n, piece);
    free(piece);
}

static json_t *head_of(const struct checkpoint *c, const json_t *head)
{
    json_t *all = json_copy((json_t *)head), *ranges = json_array();
    json_object_set_new(all, "step", json_integer(c->step));
    json_object_set_new(all, "position", json_integer(c->position));
    json_object_set_new(all, "predictions", json_integer(c->predictions));
    for (int64_t i = 0; i < c->shards->n; i++) {
        const struct model_run *of = &c->shards->of[i];
        if (of->n)
            json_array_append_new(ranges,
                                  json_pack("[I, I]", (json_int_t)of->first, (json_int_t)of->n));
    }
    if (world_size() > 1)
        json_object_update_new(all, json_pack("{s:i, s:i, s:O}", "part", world_rank(), "parts",
                                              world_size(), "ranges", ranges));
    json_decref(ranges);
    return all;
}

/* This rank's part, complete, but not yet in its place. */
static struct st_out *write_part(const char *path, const struct checkpoint *c, const json_t *head,
                                 struct err *e)
{
    struct st_out *out = st_create(path, 0, e); /* training state does not compress */
    if (!out)
        return NULL;
    json_t *all = head_of(c, head);
    st_begin(out, all);
    json_decref(all);
    put_record(out, c, 0, NULL);
    put_record(out, c, 1, c->m);
    put_record(out, c, 2, c->v);
    st_end(out);
    if (c->shards->x->err.set)
        err_set(e, "%s", c->shards->x->err.msg);
    return out;
}

/* Does rank 0 see what the others have written? */
static int find_parts(const char *dir, int64_t step, struct err *e)
{
    for (int i = 1; i < world_size() && !world_rank() && !e->set; i++) {
        char *path = checkpoint_path(dir, step, i);
        if (access(path, F_OK))
            err_set(e,
                    "%s, written by rank %d on %s, cannot be seen on %s: the directory must "
                    "be one that all hosts share",
                    path, i, world_host(i), world_host(0));
        free(path);
    }
    return e->set ? -1 : 0;
}

int checkpoint_save(const char *dir, const struct checkpoint *c, const json_t *head, struct err *e)
{
    int is_first = world_rank() == 0;
    struct err unsent = {0};
    char *path = checkpoint_path(dir, c->step, world_rank());
    struct st_out *out = write_part(path, c, head, e);
    if (out && (!is_first || e->set)) {
        st_publish(out);
        out = NULL;
    }
    if (world_agree(e) || find_parts(dir, c->step, e))
        st_abandon(out);
    else if (out)
        st_publish(out);
    int failed = world_agree(e);
    /* the others' parts are of no use, and take room; unless it is messages that fail, when the
     * first part may be there */
    if (failed && !is_first && !world_wait(&unsent))
        unlink(path);
    free(path);
    return failed;
}

/* ---- loading */

static int checkpoint_integer(const json_t *head, const char *key, int64_t *value)
{
    const json_t *j = json_object_get(head, key);
    *value = json_integer_value(j);
    return json_is_integer(j) && *value >= 0 ? 0 : -1;
}

/* Values `first` and on: this rank's of the weights, or with `to` of these moments. */
static void take_values(const struct checkpoint *c, float *to, int64_t first, int64_t n,
                        const float *values)
{
    struct shards *s = c->shards;
    struct model_run run;
    int64_t at = first;
    for (; shards_find(s, at, first + n - at, &run); at = run.first + run.n) {
        const float *from = values + (run.first - first);
        if (to)
            exec_put(s->x, to + run.at, from, (size_t)run.n * sizeof *from);
        else
            model_weights_put(s->m, &run, from);
    }
}

/* Which values a part has, or all parts: [first, n] by turns. */
struct part_ranges {
    int64_t (*of)[2], n, values;
};

static void ranges_add(struct part_ranges *all, const struct part_ranges *r)
{
    all->of = mem_grow(all->of, (size_t)(all->n + r->n) * sizeof *all->of);
    memcpy(all->of + all->n, r->of, (size_t)r->n * sizeof *r->of);
    all->n += r->n;
}

static int by_first(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Do they have every value once? */
static int ranges_are_whole(struct part_ranges *all, int64_t n_values)
{
    int64_t at = 0;
    qsort(all->of, (size_t)all->n, sizeof *all->of, by_first);
    for (int64_t i = 0; i < all->n; i++) {
        if (all->of[i][1] && all->of[i][0] != at)
            return 0;
        at += all->of[i][1];
    }
    return at == n_values;
}

static int read_ranges(struct part_ranges *r, const struct st_in *in, int64_t n_values,
                       struct err *e)
{
    const json_t *ranges = json_object_get(st_head((struct st_in *)in), "ranges");
    r->n = ranges ? (int64_t)json_array_size(ranges) : 1;
    r->of = mem_alloc((size_t)(r->n + 1) * sizeof *r->of);
    r->of[0][1] = ranges ? 0 : n_values;
    for (int64_t i = 0; i < r->n; i++) {
        const json_t *pair = json_array_get(ranges, (size_t)i), *first = json_array_get(pair, 0),
                     *n = json_array_get(pair, 1);
        if (ranges) {
            r->of[i][0] = json_integer_value(first);
            r->of[i][1] = json_integer_value(n);
        }
        if (r->of[i][0] < 0 || r->of[i][1] < 0 || r->of[i][0] > n_values - r->of[i][1])
            return err_set(e, "%s: ranges must be [[first, n], ...] within the model's %lld values",
                           st_path(in), (long long)n_values);
        r->values += r->of[i][1];
    }
    return 0;
}

/* Reads the current record, and takes this rank's values. */
static int take_record(struct st_in *in, const struct checkpoint *c, float *to,
                       const struct part_ranges *r)
{
    float *piece = mem_alloc(PIECE * sizeof *piece);
    int64_t bytes = 1;
    for (int64_t i = 0; i < r->n && bytes > 0; i++)
        for (int64_t at = 0, k; at < r->of[i][1] && bytes > 0; at += k) {
            k = min64(PIECE, r->of[i][1] - at);
            bytes = st_read(in, piece, k * (int64_t)sizeof *piece);
            if (bytes > 0)
                take_values(c, to, r->of[i][0] + at, k, piece);
        }
    free(piece);
    return bytes < 0 ? -1 : 0;
}

static int read_records(struct st_in *in, const struct checkpoint *c, const struct part_ranges *r,
                        struct err *e)
{
    float *const moments[] = {NULL, c->m, c->v};
    struct tensor t;
    for (int i = 0; i < 3; i++) {
        int found = st_next(in, &t);
        if (found < 0)
            return -1;
        if (!found || strcmp(t.name, checkpoint_records[i]) || t.dtype != DT_F32 || t.ndim != 1 ||
            t.shape[0] != r->values)
            return err_set(e, "%s: expected record %s of %lld numbers", st_path(in),
                           checkpoint_records[i], (long long)r->values);
        if (take_record(in, c, moments[i], r))
            return -1;
    }
    int more = st_next(in, &t);
    return more > 0 ? err_set(e, "%s has more records than a checkpoint", st_path(in)) : more;
}

/* Is anything in the part that this rank owns? */
static int is_wanted(const struct checkpoint *c, const struct part_ranges *r)
{
    struct model_run run;
    for (int64_t i = 0; i < r->n; i++)
        if (shards_find(c->shards, r->of[i][0], r->of[i][1], &run))
            return 1;
    return 0;
}

static int read_part(struct st_in *in, const struct checkpoint *c, struct part_ranges *all,
                     struct err *e)
{
    struct part_ranges r = {0};
    int failed = read_ranges(&r, in, c->shards->m->n_values, e) ||
                 (is_wanted(c, &r) && read_records(in, c, &r, e));
    if (!failed)
        ranges_add(all, &r);
    free(r.of);
    return failed ? -1 : 0;
}

/* A part of the checkpoint of a step, at its header, NULL: damaged. path: to be freed */
static struct st_in *checkpoint_open(const char *dir, int64_t step, int part, char **path,
                                     struct err *e)
{
    *path = checkpoint_path(dir, step, part);
    struct st_in *in = st_open(*path, e);
    const char *kind = in ? json_string_value(json_object_get(st_head(in), "kind")) : "checkpoint";
    if (kind && !strcmp(kind, "checkpoint"))
        return in;
    err_set(e, "%s is a stream of kind \"%s\", not a checkpoint", *path, kind ? kind : "?");
    st_close(in);
    return NULL;
}

static int read_other_parts(const char *dir, int64_t step, int64_t parts,
                            const struct checkpoint *c, struct part_ranges *all, struct err *e)
{
    for (int i = 1; i < parts && !e->set; i++) {
        char *path;
        struct st_in *in = checkpoint_open(dir, step, i, &path, e);
        int64_t own_step, part, count;
        if (in && (checkpoint_integer(st_head(in), "step", &own_step) || own_step != step ||
                   checkpoint_integer(st_head(in), "part", &part) || part != i ||
                   checkpoint_integer(st_head(in), "parts", &count) || count != parts))
            err_set(e, "%s is not part %d of %lld of the checkpoint of step %lld", path, i,
                    (long long)parts, (long long)step);
        else if (in)
            read_part(in, c, all, e);
        st_close(in);
        free(path);
    }
    return e->set ? -1 : 0;
}

/* The first part is open. Every rank reads what it owns, and gets the other weights from those that
 * own them. */
static int checkpoint_read(const char *dir, struct st_in *in, struct checkpoint *c, struct err *e)
{
    const json_t *head = st_head(in);
    struct shards *s = c->shards;
    struct part_ranges all = {0};
    int64_t parts = 1;
    if (checkpoint_integer(head, "step", &c->step) ||
        checkpoint_integer(head, "position", &c->position) ||
        checkpoint_integer(head, "predictions", &c->predictions))
        return err_set(e, "%s: step, position and predictions must be whole numbers", st_path(in));
    if (json_object_get(head, "parts") && checkpoint_integer(head, "parts", &parts))
        return err_set(e, "%s: parts must be a whole number", st_path(in));
    if (!read_part(in, c, &all, e) && !read_other_parts(dir, c->step, parts, c, &all, e) &&
        !ranges_are_whole(&all, s->m->n_values))
        err_set(e, "%s: its %lld parts do not hold every value once", st_path(in),
                (long long)parts);
    free(all.of);
    if (e->set)
        return -1;
    return s->x->err.set ? err_set(e, "%s", s->x->err.msg) : 0;
}

/* 1: loaded; 0: a file is damaged (e says why); -1: it belongs to another run. On every rank. */
static int checkpoint_load(const char *dir, int64_t step, struct checkpoint *c, const json_t *head,
                           char note[700], struct err *e)
{
    char *path;
    struct st_in *in = checkpoint_open(dir, step, 0, &path, e);
    int is_ours = 1;
    if (in && settings_check(path, st_head(in), json_object_get(head, "run"), e))
        is_ours = 0;
    else if (in)
        checkpoint_read(dir, in, c, e);
    int status = is_ours ? 0 : -1;
    if (!world_agree(e)) {
        settings_note(st_head(in), head, note);
        status = 1;
    }
    st_close(in);
    free(path);
    return status;
}

int checkpoint_check(const char *dir, json_t *run, char note[200], struct err *e)
{
    int64_t *steps, n = checkpoint_list(dir, &steps, e);
    int status = n < 0 ? -1 : 0, found = 0;
    note[0] = 0;
    for (int64_t i = 0; i < n && !found; i++) {
        struct err damage = {0};
        char *path;
        struct st_in *in = checkpoint_open(dir, steps[i], 0, &path, &damage);
        if (in) {
            found = 1;
            status = settings_follow(path, st_head(in), run, note, e);
            st_close(in);
        }
        free(path);
    }
    free(steps);
    return status;
}

/* As rank 0 sees them, on every rank. */
static int64_t list_agreed(const char *dir, int64_t **steps, struct err *e)
{
    int64_t n = checkpoint_list(dir, steps, e);
    if (world_agree(e) || world_broadcast(&n, sizeof n, 0, e))
        return -1;
    *steps = mem_grow(*steps, (size_t)(n + 1) * sizeof **steps);
    return world_broadcast(*steps, (size_t)n * sizeof **steps, 0, e) ? -1 : n;
}

/* All get the weights from those that own them. */
static int share_weights(struct shards *s, struct err *e)
{
    for (int64_t i = 0; i < s->n; i++)
        shards_spread(s, i);
    return shards_wait(s, e);
}

int checkpoint_resume(const char *dir, struct checkpoint *c, const json_t *head, char note[700],
                      struct err *e)
{
    int64_t *steps, n = list_agreed(dir, &steps, e);
    int status = n < 0 ? -1 : 0;
    note[0] = 0;
    for (int64_t i = 0; i < n && !status; i++) {
        struct err damage = {0};
        status = checkpoint_load(dir, steps[i], c, head, note, &damage);
        if (status < 0)
            err_set(e, "%s", damage.msg);
        else if (!status && !note[0])
            snprintf(note, 700, "skipped a damaged checkpoint: %s", damage.msg);
    }
    free(steps);
    if (status > 0 && share_weights(c->shards, e))
        return -1;
    return n > 0 && !status ? err_set(e, "%s has no intact checkpoint; %s", dir, note) : status;
}
