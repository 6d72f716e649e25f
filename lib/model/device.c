/* A model on a device: see model.h. MODEL_TRAIN stays one range of f32, beside which there is one
 * of bf16 if the device computes in it; of several processes each may keep a part of the f32. */
#include <stdlib.h>
#include <string.h>

#include "model.h"

/* values copied at once; values a thread converts at a time */
enum { MOVED = 4 << 20, CONVERTED = 1 << 16 };

/* n values of type d as type `to`: `from` itself, or converted in `buffer`. */
static const void *converted(const void *from, enum dtype d, enum dtype to, int64_t n, void *buffer)
{
    if (d == to)
        return from;
#pragma omp parallel for schedule(static)
    for (int64_t at = 0; at < n; at += CONVERTED) {
        float wide[CONVERTED];
        int64_t k = n - at < CONVERTED ? n - at : CONVERTED;
        to_f32(wide, (const char *)from + dtype_bytes(d, at), d, k);
        from_f32((char *)buffer + dtype_bytes(to, at), to, wide, k);
    }
    return buffer;
}

void param_put(struct exec *x, const struct param *to, const void *from, enum dtype d)
{
    int64_t n = to->rows * to->cols;
    void *buffer = d == to->dtype ? NULL : mem_alloc(MOVED * sizeof(float));
    for (int64_t at = 0; at < n; at += MOVED) {
        int64_t k = n - at < MOVED ? n - at : MOVED;
        const void *v = converted((const char *)from + dtype_bytes(d, at), d, to->dtype, k, buffer);
        exec_put(x, (char *)to->v + dtype_bytes(to->dtype, at), v,
                 (size_t)dtype_bytes(to->dtype, k));
    }
    free(buffer);
}

int64_t model_param_bytes(const struct model *m, int i)
{
    const struct param *p = &m->params[i];
    return dtype_bytes(p->dtype, p->rows * p->cols);
}

void model_param_put(struct model *m, struct exec *x, int i, void *there, const void *values,
                     enum dtype d)
{
    m->params[i].v = there;
    param_put(x, &m->params[i], values, d);
}

/* ---- sizes */

int64_t model_vector_values(const struct model *m)
{
    int64_t n = 0;
    for (int i = 0; i < model_params(m); i++)
        n += model_is_matrix(m, i) ? 0 : m->params[i].rows;
    return n;
}

static size_t f32_bytes(int64_t n) { return arena_round((size_t)n * sizeof(float)); }

int64_t model_f32_bytes(const struct model *m)
{
    if (!m->kept.runs)
        return m->n_values * (int64_t)sizeof(float);
    return (int64_t)(f32_bytes(m->kept.n) + f32_bytes(model_vector_values(m)));
}

/* Without adapters. */
static int64_t plan_own(struct model *m, const struct exec *x)
{
    int64_t bytes = 0;
    for (int i = 0; i < model_params(m); i++) {
        struct param *p = &m->params[i];
        if (model_is_matrix(m, i) && (x->compute != DT_F32 || p->dtype == DT_Q8_0))
            p->dtype = x->compute;
        bytes += (int64_t)arena_round((size_t)model_param_bytes(m, i));
    }
    if (m->how == MODEL_TRAIN)
        return model_f32_bytes(m) + (x->compute == DT_F32 ? 0 : 2 * m->n_values);
    return bytes;
}

int64_t model_plan(struct model *m, const struct exec *x)
{
    if (x->device == DEVICE_CPU)
        return 0;
    return plan_own(m, x) + (m->adapters ? plan_own(&m->adapters->values, x) : 0);
}

/* ---- moving */

/* Frozen: each tensor on its own, matrices in the compute type; where that is f32, bf16 and f16
 * stay as they are, but q8_0, which no device kernel reads, is converted. */
static int move_frozen(struct model *m, struct exec *x, struct arena *there, struct err *e)
{
    if (exec_arena(x, there, (size_t)plan_own(m, x), e))
        return -1;
    for (int i = 0; i < m->spec.n_tensors; i++) {
        struct tensor *t = &m->spec.tensors[i];
        struct param *p = &m->params[i];
        const void *from = p->v;
        p->v = arena_take(there, (size_t)dtype_bytes(p->dtype, p->rows * p->cols));
        param_put(x, p, from, t->dtype);
        t->dtype = p->dtype;
    }
    return 0;
}

/* Params that are used in f32, all or with copies the vectors, have their values from `weights` on:
 * each in its place, or with `is_close` one after the other. */
static void lend(struct model *m, float *weights, char *copies, int is_close)
{
    int64_t at = 0, used = 0;
    for (int i = 0; i < model_params(m); i++) {
        struct param *p = &m->params[i];
        int64_t n = p->rows * p->cols;
        int is_copy = copies && model_is_matrix(m, i);
        p->dtype = is_copy ? DT_BF16 : DT_F32;
        float *own = weights + (is_close ? used : at);
        p->v = is_copy ? (void *)(copies + 2 * at) : own;
        at += n;
        used += is_copy ? 0 : n;
    }
}

void model_lend(struct model *m, void *weights, void *copies) { lend(m, weights, copies, 0); }

void model_lend_grads(struct model *m, float *grads)
{
    for (int i = 0; i < model_params(m); i++) {
        m->params[i].g = grads;
        grads += m->params[i].rows * m->params[i].cols;
    }
}

static void put_values(struct exec *x, void *to, enum dtype d, const float *from, int64_t n)
{
    struct param p = {.v = to, .dtype = d, .rows = n, .cols = 1};
    param_put(x, &p, from, DT_F32);
}

/* The f32 weights that are kept, the vectors, and all copies. */
static void fill_parts(struct model *m, const float *host)
{
    int64_t at = 0;
    for (int64_t i = 0; i < m->kept.n_runs; i++) {
        const struct model_run *r = &m->kept.runs[i];
        put_values(m->x, model_weights_of(m, r), DT_F32, host + r->first, r->n);
    }
    put_values(m->x, m->copies.base, DT_BF16, host, m->n_values);
    for (int i = 0; i < model_params(m); i++) {
        struct param *p = &m->params[i];
        if (!model_is_matrix(m, i))
            param_put(m->x, p, host + at, DT_F32);
        at += p->rows * p->cols;
    }
}

static int move_trained(struct model *m, struct exec *x, struct arena *there, struct err *e)
{
    struct arena host = m->weights;
    if (exec_arena(x, there, (size_t)model_f32_bytes(m), e) ||
        (x->compute != DT_F32 && exec_arena(x, &m->copies, (size_t)m->n_values * 2, e)))
        return -1;
    m->weights = *there;
    if (m->kept.runs) {
        arena_take(there, f32_bytes(m->kept.n));
        m->kept.vectors = arena_take(there, f32_bytes(model_vector_values(m)));
        lend(m, m->kept.vectors, (char *)m->copies.base, 1);
        fill_parts(m, (const float *)host.base);
    } else {
        model_weights_put(m, &(struct model_run){.n = m->n_values}, (const float *)host.base);
        model_lend(m, there->base, m->copies.base);
    }
    there->used = there->size;
    m->weights = host;
    return 0;
}

int model_move(struct model *m, struct exec *x, struct err *e)
{
    struct arena there = {0};
    if (x->device == DEVICE_CPU)
        return 0;
    m->x = x;
    if (m->how == MODEL_TRAIN ? move_trained(m, x, &there, e) : move_frozen(m, x, &there, e)) {
        arena_close(&there);
        return -1;
    }
    arena_close(&m->weights);
    m->weights = there;
    if (m->adapters && model_move(&m->adapters->values, x, e))
        return -1;
    return x->err.set ? err_set(e, "%s", x->err.msg) : 0;
}

float *model_weights_of(const struct model *m, const struct model_run *r)
{
    return (float *)m->weights.base + (m->kept.runs ? r->at : r->first);
}

void model_weights_put(struct model *m, const struct model_run *r, const float *values)
{
    float *weights = model_weights_of(m, r);
    if (!m->x) {
        memcpy(weights, values, (size_t)r->n * sizeof *values);
        return;
    }
    put_values(m->x, weights, DT_F32, values, r->n);
    if (m->copies.base)
        put_values(m->x, m->copies.base + 2 * r->first, DT_BF16, values, r->n);
}

int model_add_grads(struct model *m, struct err *e)
{
    size_t bytes = (size_t)m->n_values * sizeof(float);
    if (m->x ? exec_arena(m->x, &m->grads, bytes, e) : arena_open(&m->grads, bytes, e))
        return -1;
    model_lend_grads(m, arena_take(&m->grads, bytes));
    return 0;
}

void model_weights_whole(struct model *m)
{
    struct arena parts = m->weights;
    m->weights = m->grads;
    m->grads = (struct arena){0};
    m->kept = (struct model_kept){0};
    model_lend(m, m->weights.base, m->copies.base);
    arena_close(&parts);
}
