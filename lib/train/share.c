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
        return err_set(e,
                       "%lld processes cannot share the --batch-size %lld x "
                       "--gradient-accumulation-steps %lld sequences of a step evenly: one of both "
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

/* Matrices decay, vectors (norms, biases) do not. */
static int decays(const struct model *m, int i)
{
    return i >= m->spec.n_tensors || m->spec.tensors[i].ndim >= 2;
}

static void edge_add(struct shards *s, struct shard *of, int64_t at)
{
    s->edges = mem_grow(s->edges, (size_t)(s->n_edges + 1) * sizeof *s->edges);
    s->edges[s->n_edges++] = at;
    of->n_edges++;
}

/* A run that reaches the end ends there. There must be an edge, since without any all decay. */
static void shard_edges(struct shards *s, struct shard *of)
{
    const struct model *m = s->m;
    int64_t at = -of->first;
    of->edge = s->n_edges;
    for (int i = 0; i < m->spec.n_tensors + m->n_added && at < of->n; i++) {
        int64_t n = m->params[i].rows * m->params[i].cols;
        if (at + n > 0 && decays(m, i) != of->n_edges % 2)
            edge_add(s, of, max64(at, 0));
        at += n;
    }
    if (of->n_edges % 2 || !of->n_edges)
        edge_add(s, of, of->n);
}

int shards_plan(struct shards *s, struct exec *x, struct model *m, struct err *e)
{
    int direct = world_size() > 1 ? exec_join(x) : 0;
    if (direct < 0)
        return err_set(e, "%s", x->err.msg);

    *s = (struct shards){
        .x = x, .m = m, .size = max64(bucket_size(m->n_values), 1), .is_direct = direct};
    s->n = (m->n_values + s->size - 1) / s->size;
    s->of = mem_alloc((size_t)s->n * sizeof *s->of);
    s->open = mem_alloc((size_t)s->n * sizeof *s->open);
    for (int64_t i = 0; i < s->n; i++) {
        struct world_piece p = world_piece(bucket_values(s, i), world_rank());
        s->of[i] = (struct shard){.first = i * s->size + p.first, .n = p.n, .at = s->owned};
        shard_edges(s, &s->of[i]);
        s->owned += p.n;
    }
    return 0;
}

int shards_find(const struct shards *s, int64_t first, int64_t n, struct shard_run *run)
{
    for (int64_t i = first / s->size; i < s->n && i * s->size < first + n; i++) {
        const struct shard *of = &s->of[i];
        int64_t from = max64(first, of->first), end = min64(first + n, of->first + of->n);
        if (from >= end)
            continue;
        *run = (struct shard_run){from, end - from, of->at + from - of->first};
        return 1;
    }
    return 0;
}

static int is_staged(const struct shards *s)
{
    return world_size() > 1 && s->x->device != DEVICE_CPU && !s->is_direct;
}

int64_t shards_bytes(const struct shards *s)
{
    if (s->is_direct)
        return 0;
    return world_reduce_bytes(s->size) + (is_staged(s) ? 4 * s->m->n_values : 0);
}

void shards_close(struct shards *s)
{
    free(s->of);
    free(s->edges);
    free(s->open);
    free(s->host);
    *s = (struct shards){0};
}

/* ---- gradients */

static float *host_of(struct shards *s)
{
    if (is_staged(s) && !s->host)
        s->host = mem_alloc((size_t)s->m->n_values * sizeof *s->host);
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
    for (int i = 0; i < s->m->spec.n_tensors + s->m->n_added; i++)
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
        const struct shard *of = &s->of[i];
        exec_put(s->x, (float *)s->m->grads.base + of->first, s->host + of->first,
                 (size_t)of->n * sizeof(float));
    }
    return 0;
}

/* ---- weights */

static void spread_direct(struct shards *s, int64_t i)
{
    int64_t first = i * s->size, n = bucket_values(s, i);
    const struct model *m = s->m;
    exec_spread(s->x, (float *)m->weights.base + first, n, sizeof(float));
    if (m->copies.base)
        exec_spread(s->x, m->copies.base + dtype_bytes(DT_BF16, first), n, 2);
}

void shards_spread(struct shards *s, int64_t i)
{
    const struct shard *of = &s->of[i];
    float *w = (float *)s->m->weights.base, *host = host_of(s), *all = host ? host : w;
    if (s->is_direct)
        return spread_direct(s, i);
    if (host)
        exec_get(s->x, host + of->first, w + of->first, (size_t)of->n * sizeof *w);
    world_spread(all + i * s->size, bucket_values(s, i), sizeof *all);
}

int shards_wait(struct shards *s, struct err *e)
{
    if (exchanged(s, e))
        return -1;
    if (s->host)
        model_weights_put(s->m, 0, s->host, s->m->n_values);
    return 0;
}
