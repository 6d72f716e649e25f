/* What each process has of a step: see share.h. */
#include "share.h"

#include <stdlib.h>

#include "../base/minmax.h"
#include "../base/world.h"

static int64_t common_divisor(int64_t a, int64_t b)
{
    while (b) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

int train_rows_of(struct train_rows *own, const struct train_options *o, struct err *e)
{
    int64_t n = world_size(), groups = common_divisor(n, o->accumulation), parts = n / groups;
    if (o->batch_size % parts)
        return err_set(
            e,
            "%lld processes cannot share the --batch-size %lld x "
            "--gradient-accumulation-steps %lld sequences of a step evenly: one of the two "
            "must be a multiple of their number",
            (long long)n, (long long)o->batch_size, (long long)o->accumulation);
    *own = (struct train_rows){
        .passes = o->accumulation / groups, .rows = o->batch_size / parts, .parts = parts};
    own->pass = world_rank() / parts * own->passes;
    own->row = world_rank() % parts * own->rows;
    return 0;
}

/* ---- who owns what */

/* Large enough to be sent at full speed, which takes more the longer the ring of processes is
 * (docs/scaling.md), and enough of them that few are left when the backward pass ends. */
static int64_t bucket_size(int64_t n)
{
    enum { SMALLEST = 1 << 22, EACH = SMALLEST / 8, FEWEST = 16 };
    int64_t full = max64(SMALLEST, (int64_t)EACH * world_size()),
            size = min64(full, (n + FEWEST - 1) / FEWEST);
    int64_t unit = (int64_t)WORLD_ALIGN * world_size(); /* so that all its pieces are equal */
    return world_size() == 1 ? n : (size + unit - 1) / unit * unit;
}

static int64_t bucket_values(const struct shards *s, int64_t i)
{
    return min64(s->size, s->m->n_values - i * s->size);
}

static void edge_add(struct shards *s, struct shard_edges *of, int64_t at)
{
    s->edges = mem_grow(s->edges, (size_t)(s->n_edges + 1) * sizeof *s->edges);
    s->edges[s->n_edges++] = at;
    of->n++;
}

/* A run that reaches the end ends there. There must be an edge, since without any all decay. */
static void find_edges(struct shards *s, const struct model_run *r, struct shard_edges *of)
{
    const struct model *m = s->m;
    int64_t at = -r->first;
    of->at = s->n_edges;
    for (int i = 0; i < model_params(m) && at < r->n; i++) {
        int64_t n = m->params[i].rows * m->params[i].cols;
        if (at + n > 0 && model_is_matrix(m, i) != of->n % 2)
            edge_add(s, of, max64(at, 0));
        at += n;
    }
    if (of->n % 2 || !of->n)
        edge_add(s, of, r->n);
}

int shards_plan(struct shards *s, struct exec *x, struct model *m, int all_whole, struct err *e)
{
    int direct = world_size() > 1 ? exec_join(x) : 0;
    if (direct < 0)
        return err_set(e, "%s", x->err.msg);

    *s = (struct shards){
        .x = x, .m = m, .size = max64(bucket_size(m->n_values), 1), .is_direct = direct};
    s->n = (m->n_values + s->size - 1) / s->size;
    s->of = mem_alloc((size_t)s->n * sizeof *s->of);
    s->edges_of = mem_alloc((size_t)s->n * sizeof *s->edges_of);
    s->open = mem_alloc((size_t)s->n * sizeof *s->open);
    for (int64_t i = 0; i < s->n; i++) {
        struct world_piece p = world_piece(bucket_values(s, i), world_rank());
        s->of[i] = (struct model_run){.first = i * s->size + p.first, .n = p.n, .at = s->owned};
        find_edges(s, &s->of[i], &s->edges_of[i]);
        s->owned += p.n;
    }
    if (world_size() > 1 && x->compute != DT_F32 && !all_whole)
        m->kept = (struct model_kept){.runs = s->of, .n_runs = s->n, .n = s->owned};
    return 0;
}

int shards_find(const struct shards *s, int64_t first, int64_t n, struct model_run *run)
{
    for (int64_t i = first / s->size; i < s->n && i * s->size < first + n; i++) {
        const struct model_run *of = &s->of[i];
        int64_t from = max64(first, of->first), end = min64(first + n, of->first + of->n);
        if (from >= end)
            continue;
        *run = (struct model_run){from, end - from, of->at + from - of->first};
        return 1;
    }
    return 0;
}

static int is_staged(const struct shards *s)
{
    return world_size() > 1 && s->x->device != DEVICE_CPU && !s->is_direct;
}

static int64_t host_bytes(const struct shards *s)
{
    return (s->m->n_values + model_vector_values(s->m)) * (int64_t)sizeof *s->host;
}

int64_t shards_bytes(const struct shards *s)
{
    if (s->is_direct)
        return 0;
    return world_reduce_bytes(s->size) + (is_staged(s) ? host_bytes(s) : 0);
}

void shards_close(struct shards *s)
{
    free(s->of);
    free(s->edges_of);
    free(s->edges);
    free(s->open);
    free(s->host);
    *s = (struct shards){0};
}

/* ---- gradients */

static float *host_of(struct shards *s)
{
    if (is_staged(s) && !s->host)
        s->host = mem_alloc((size_t)host_bytes(s));
    return s->host;
}

static void bucket_reduce(struct shards *s, int64_t i)
{
    int64_t first = i * s->size, n = bucket_values(s, i);
    float *g = (float *)s->m->grads.base + first, *host = host_of(s);
    s->open[i] = -1;
    if (s->is_direct) {
        exec_reduce(s->x, g, n);
        return;
    }
    if (host)
        exec_get(s->x, host + first, g, (size_t)n * sizeof *g);
    world_reduce(host ? host + first : g, n);
}

/* Adds to the numbers of open parameters of the buckets that parameter i reaches into. A bucket of
 * which none remains is final; the tape makes them so in the same order on every rank. */
static void param_count(struct shards *s, int i, int add)
{
    const struct param *p = &s->m->params[i];
    int64_t first = p->g - (float *)s->m->grads.base, end = first + p->rows * p->cols;
    for (int64_t k = first / s->size; k * s->size < end; k++) {
        s->open[k] += add;
        if (!s->open[k])
            bucket_reduce(s, k);
    }
}

static void on_final(void *user, int param) { param_count(user, param, -1); }

void shards_expect(struct shards *s, struct tape *t)
{
    if (world_size() == 1)
        return;
    for (int i = 0; i < model_params(s->m); i++)
        param_count(s, i, 1);
    tape_on_final(t, on_final, s);
    s->tape = t;
}

/* Devices wait for each other without a limit, so the hosts meet first. */
static int exchanged(struct shards *s, struct err *e)
{
    if (!s->is_direct)
        return world_wait(e);
    if (world_barrier(e))
        return -1;
    exec_exchanged(s->x);
    return s->x->err.set ? err_set(e, "%s", s->x->err.msg) : 0;
}

int shards_reduce(struct shards *s, struct err *e)
{
    if (world_size() == 1)
        return 0;
    if (s->tape)
        tape_on_final(s->tape, NULL, NULL);
    for (int64_t i = 0; i < s->n; i++) {
        if (s->open[i] >= 0)
            bucket_reduce(s, i);
        s->open[i] = 0;
    }
    if (exchanged(s, e))
        return -1;
    for (int64_t i = 0; s->host && i < s->n; i++) {
        const struct model_run *of = &s->of[i];
        exec_put(s->x, (float *)s->m->grads.base + of->first, s->host + of->first,
                 (size_t)of->n * sizeof(float));
    }
    return 0;
}

/* ---- weights */

/* Queues the bucket of shard i of an array of all values, each of `size` bytes, in which a rank has
 * its own piece; by the host, if that exchanges for a device. */
static void spread(struct shards *s, int64_t i, void *values, size_t size)
{
    const struct model_run *of = &s->of[i];
    int64_t first = i * s->size, n = bucket_values(s, i);
    char *all = values, *host = (char *)host_of(s);
    if (s->is_direct)
        return exec_spread(s->x, all + (size_t)first * size, n, size);
    if (host)
        exec_get(s->x, host + (size_t)of->first * size, all + (size_t)of->first * size,
                 (size_t)of->n * size);
    world_spread((host ? host : all) + (size_t)first * size, n, size);
}

void shards_spread(struct shards *s, int64_t i)
{
    const struct model *m = s->m;
    if (!m->kept.runs)
        spread(s, i, m->weights.base, sizeof(float));
    if (m->copies.base && (m->kept.runs || s->is_direct))
        spread(s, i, m->copies.base, 2);
}

/* What this rank keeps of the vectors, and 0 for the rest: all ranks' together are a sum, which is
 * exact. */
static void collect_vectors(struct shards *s)
{
    const struct model *m = s->m;
    float *to = m->kept.vectors;
    int64_t first = 0;
    exec_zero(s->x, to, (size_t)model_vector_values(m) * sizeof *to);
    for (int i = 0; i < model_params(m); i++) {
        int64_t n = m->params[i].rows * m->params[i].cols, end = first + n, at = first;
        struct model_run run;
        for (; !model_is_matrix(m, i) && shards_find(s, at, end - at, &run); at = run.first + run.n)
            exec_copy(s->x, to + (run.first - first), model_weights_of(m, &run),
                      (size_t)run.n * sizeof *to);
        to += model_is_matrix(m, i) ? 0 : n;
        first = end;
    }
}

static void spread_vectors(struct shards *s)
{
    int64_t n = model_vector_values(s->m);
    float *vectors = s->m->kept.vectors;
    if (!n) /* of adapters */
        return;
    collect_vectors(s);
    if (s->is_direct) {
        exec_reduce(s->x, vectors, n);
        exec_spread(s->x, vectors, n, sizeof *vectors);
        return;
    }
    float *host = host_of(s) + s->m->n_values;
    exec_get(s->x, host, vectors, (size_t)n * sizeof *host);
    world_reduce(host, n);
    world_spread(host, n, sizeof *host);
}

int shards_wait(struct shards *s, struct err *e)
{
    struct model *m = s->m;
    if (m->kept.runs)
        spread_vectors(s);
    if (exchanged(s, e))
        return -1;
    if (s->host && m->kept.runs) {
        exec_put(s->x, m->copies.base, s->host, 2 * (size_t)m->n_values);
        exec_put(s->x, m->kept.vectors, s->host + m->n_values,
                 (size_t)model_vector_values(m) * sizeof *s->host);
    } else if (s->host) {
        model_weights_put(m, &(struct model_run){.n = m->n_values}, s->host);
    }
    return 0;
}

int shards_join(struct shards *s, struct err *e)
{
    struct model *m = s->m;
    float *all = (float *)m->grads.base;
    if (!m->kept.runs)
        return 0;
    for (int64_t i = 0; i < s->n; i++) {
        const struct model_run *of = &s->of[i];
        exec_copy(s->x, all + of->first, model_weights_of(m, of), (size_t)of->n * sizeof *all);
        spread(s, i, all, sizeof *all);
    }
    if (exchanged(s, e))
        return -1;
    if (s->host)
        exec_put(s->x, all, s->host, (size_t)m->n_values * sizeof *all);
    model_weights_whole(m);
    return s->x->err.set ? err_set(e, "%s", s->x->err.msg) : 0;
}
