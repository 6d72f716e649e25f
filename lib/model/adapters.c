/* Low-rank adapters: see model.h. */
#include "model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../base/rng.h"

/* The MLP of a layer without experts in a mixture, whose matrices PEFT takes for those of experts,
 * by their names. */
static int is_dense_among_experts(const struct model_spec *h, const struct family_tensor *t,
                                  int64_t layer)
{
    int any = 0;
    for (int64_t l = 0; l < h->num_hidden_layers; l++)
        any |= h->layers[l].num_experts > 0;
    return any && !h->layers[layer].num_experts && family_tensor_kinds(h->family, t) == KIND_mlp;
}

/* The matrix that a Mamba mixer ends in: its fused kernels multiply by it without the module that
 * PEFT would wrap, so PEFT refuses it. */
static int is_mamba_output(const struct model_spec *h, const struct family_tensor *t)
{
    return t->axes[0] == AXIS_E && family_tensor_kinds(h->family, t) == KIND_mamba;
}

const char *adapters_stem(const struct model_spec *h, int i)
{
    struct tensor_parts name = tensor_take_apart(h->tensors[i].name);
    int64_t layer;
    const struct family_tensor *t = model_spec_axes(h, i, &layer);
    if (name.layer < 0 || strcmp(name.suffix, ".weight") || t->axes[0] == AXIS_X ||
        is_dense_among_experts(h, t, layer) || is_mamba_output(h, t))
        return NULL;
    for (const struct family_line *l = h->family->block; l->out; l++)
        if (l->op == OP_linear && !strcmp(l->weight, name.stem))
            return l->weight;
    return NULL;
}

void adapters_open(struct adapters *s, const struct model_spec *h)
{
    *s = (struct adapters){.values.how = MODEL_TRAIN, .n = h->n_tensors};
    s->of = mem_alloc((size_t)h->n_tensors * sizeof *s->of);
}

static size_t values_bytes(const struct adapters *s, const struct model_spec *h)
{
    int64_t n = 0;
    for (int i = 0; i < s->n; i++)
        if (s->of[i].rank)
            n += s->of[i].rank * (h->tensors[i].shape[0] + h->tensors[i].shape[1]);
    return (size_t)n * sizeof(float);
}

int adapters_allocate(struct adapters *s, const struct model_spec *h, struct err *e)
{
    if (arena_open(&s->values.weights, values_bytes(s, h), e))
        return -1;
    for (int i = 0; i < s->n; i++) {
        struct adapter *a = &s->of[i];
        const struct tensor *t = &h->tensors[i];
        if (!a->rank)
            continue;
        a->at = s->values.n_added;
        if (!model_add_matrix(&s->values, a->rank, t->shape[1], e) ||
            !model_add_matrix(&s->values, t->shape[0], a->rank, e))
            return -1;
    }
    return 0;
}

/* Streams of the seed that no tensor, lift or epoch has. */
void adapters_draw(struct adapters *s, uint64_t seed)
{
    for (int i = 0; i < s->n; i++) {
        if (!s->of[i].rank)
            continue;
        const struct param *p = adapter_params(s, &s->of[i]);
        struct rng r = rng_open(seed, ((uint64_t)1 << 62) + (uint64_t)i);
        double most = 1 / sqrt((double)p->cols);
        for (int64_t k = 0; k < p->rows * p->cols; k++)
            ((float *)p->v)[k] = (float)((2 * rng_uniform(&r) - 1) * most);
    }
}

void adapters_close(struct adapters *s)
{
    model_free(&s->values);
    free(s->of);
    *s = (struct adapters){0};
}

const struct adapter *adapter_of(const struct model *m, const struct param *p)
{
    if (!m->adapters || !p)
        return NULL;
    int64_t i = p - m->params;
    return i < m->adapters->n && m->adapters->of[i].rank ? &m->adapters->of[i] : NULL;
}

struct param *adapter_params(const struct adapters *s, const struct adapter *a)
{
    return &s->values.params[a->at];
}

void adapter_add_row(float *row, const float *b, const float *A, int64_t rank, int64_t cols,
                     double scale)
{
    for (int64_t k = 0; k < rank; k++) {
        float factor = (float)(scale * (double)b[k]);
        for (int64_t j = 0; j < cols; j++)
            row[j] += factor * A[k * cols + j];
    }
}

struct model *model_trained(struct model *m) { return m->adapters ? &m->adapters->values : m; }

void adapter_values(const struct adapters *s, const struct adapter *a, int is_b, float *to)
{
    const struct param *p = adapter_params(s, a);
    const float *from = (const float *)s->values.weights.base;
    for (const struct param *q = s->values.params; q < p + is_b; q++)
        from += q->rows * q->cols;
    size_t bytes = (size_t)(p[is_b].rows * p[is_b].cols) * sizeof *to;
    if (s->values.x)
        exec_get(s->values.x, to, from, bytes);
    else
        memcpy(to, from, bytes);
}

/* ---- the model with the sums */

/* n values of a param from `at` on, as f32; raw: room for them in any dtype. */
static void values_read(const struct model *m, const struct param *p, int64_t at, int64_t n,
                        void *raw, float *to)
{
    const char *from = (const char *)p->v + dtype_bytes(p->dtype, at);
    if (m->x)
        exec_get(m->x, raw, from, (size_t)dtype_bytes(p->dtype, n));
    to_f32(to, m->x ? raw : from, p->dtype, n);
}

/* A and B of the adapter of a param, on the host, to be freed; NULL without one. */
static float *factors_of(const struct model *m, const struct adapter *a)
{
    if (!a)
        return NULL;
    const struct param *p = adapter_params(m->adapters, a);
    int64_t n = p[0].rows * p[0].cols;
    float *v = mem_alloc((size_t)(n + p[1].rows * p[1].cols) * sizeof *v);
    adapter_values(m->adapters, a, 0, v);
    adapter_values(m->adapters, a, 1, v + n);
    return v;
}

/* A vector is one row. */
static int write_param(struct model_out *out, const struct model *m, int i)
{
    const struct param *p = &m->params[i];
    const struct tensor *t = &out->spec.tensors[i];
    const struct adapter *a = adapter_of(m, p);
    int64_t cols = t->shape[t->ndim - 1], rows = tensor_count(t) / cols;
    float *v = factors_of(m, a), *row = mem_alloc((size_t)cols * sizeof *row);
    void *raw = mem_alloc((size_t)cols * sizeof *row);
    int failed = model_out_next(out);
    for (int64_t r = 0; r < rows && !failed; r++) {
        values_read(m, p, r * cols, cols, raw, row);
        if (a)
            adapter_add_row(row, v + a->rank * cols + r * a->rank, v, a->rank, cols, a->scale);
        failed = dtype_convert(raw, t, row, DT_F32, cols, out->err) ||
                 model_out_write(out, raw, dtype_bytes(t->dtype, cols));
    }
    free(v);
    free(row);
    free(raw);
    return failed;
}

int adapters_write(struct model_out *out, const struct model *m)
{
    for (int i = 0; i < m->spec.n_tensors; i++)
        if (write_param(out, m, i))
            return -1;
    return model_out_end(out);
}
