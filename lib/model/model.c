/* A model in memory: the tensors of a spec in one arena, read from a MODEL operand or drawn at
 * random. MODEL_TRAIN: every tensor f32, one contiguous range
 * in stream order without padding, so that clipping, AdamW and checkpoints see one vector.
 * MODEL_FROZEN: matrices as stored where kernels can read that dtype (bf16, f16, q8_0, f32),
 * everything else f32, each tensor aligned. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/rng.h"
#include "../base/text.h"
#include "model.h"

enum { CHUNK = 1 << 20 };

/* Learned positions are read as f32 only (ops.def), vectors are small. */
static enum dtype dtype_in_memory(const struct model_spec *h, int i, int how)
{
    enum dtype d = h->tensors[i].dtype;
    int64_t layer;
    const struct family_tensor *t = model_spec_axes(h, i, &layer);
    int is_read = d == DT_BF16 || d == DT_F16 || d == DT_Q8_0,
        as_stored = how == MODEL_FROZEN && h->tensors[i].ndim == 2 && is_read && t &&
                    t->axes[0] != AXIS_P;
    return as_stored ? d : DT_F32;
}

/* Bytes that tensor i takes in the arena. */
static int64_t bytes_in_memory(const struct model_spec *h, int i, int how)
{
    int64_t n = dtype_bytes(dtype_in_memory(h, i, how), tensor_count(&h->tensors[i]));
    return how == MODEL_FROZEN ? (int64_t)arena_round((size_t)n) : n;
}

static int64_t count_values(const struct model_spec *h)
{
    int64_t n = 0;
    for (int i = 0; i < h->n_tensors; i++)
        n += tensor_count(&h->tensors[i]);
    return n;
}

int64_t model_memory(const struct model_spec *h, int how, int grads)
{
    int64_t bytes = grads ? 4 * count_values(h) : 0;
    for (int i = 0; i < h->n_tensors; i++)
        bytes += bytes_in_memory(h, i, how);
    return bytes;
}

/* Lists the params of m->spec, without values. From then on its dtypes are those in memory. */
static void list_params(struct model *m, int how)
{
    struct model_spec *h = &m->spec;
    m->how = how;
    m->n_values = count_values(h);
    m->params = mem_alloc((size_t)h->n_tensors * sizeof *m->params);
    for (int i = 0; i < h->n_tensors; i++) {
        struct tensor *t = &h->tensors[i];
        t->dtype = dtype_in_memory(h, i, how);
        m->params[i] = (struct param){
            .dtype = t->dtype, .rows = t->shape[0], .cols = t->ndim == 2 ? t->shape[1] : 1};
    }
}

/* Opens the arena and places every tensor of m->spec. */
static int place(struct model *m, int how, struct err *e)
{
    if (arena_open(&m->weights, (size_t)model_memory(&m->spec, how, 0), e))
        return -1;
    list_params(m, how);
    for (int i = 0; i < m->spec.n_tensors; i++) {
        m->params[i].v = m->weights.base + m->weights.used;
        m->weights.used += (size_t)bytes_in_memory(&m->spec, i, how);
    }
    return 0;
}

void model_open_planned(struct model *m, const struct model_spec *h)
{
    *m = (struct model){0};
    model_spec_copy(&m->spec, h);
    list_params(m, MODEL_TRAIN);
}

void model_open_frozen(struct model *m, const struct model_spec *h)
{
    *m = (struct model){0};
    model_spec_copy(&m->spec, h);
    list_params(m, MODEL_FROZEN);
}

/* Reads one tensor, stored as `from`, converting piece by piece where the dtypes differ. */
static int read_param(const struct param *p, struct model_in *in, const struct tensor *from,
                      void *chunk)
{
    int64_t n = tensor_count(from);
    if (from->dtype == p->dtype)
        return model_read(in, p->v, tensor_bytes(from));
    int64_t step = from->dtype == DT_Q8_0 ? CHUNK / Q8_BYTES * Q8_BLOCK
                                          : CHUNK / dtype_bytes(from->dtype, 1);
    for (int64_t at = 0; at < n; at += step) {
        int64_t k = n - at < step ? n - at : step;
        if (model_read(in, chunk, dtype_bytes(from->dtype, k)))
            return -1;
        to_f32((float *)p->v + at, chunk, from->dtype, k);
    }
    return 0;
}

int model_load(struct model *m, struct model_in *in, int how, struct err *e)
{
    *m = (struct model){0};
    model_spec_copy(&m->spec, model_in_spec(in));
    struct tensor t;
    void *chunk = mem_alloc(CHUNK);
    int i = 0, rc = place(m, how, e), more = 0;
    model_digest(in);
    while (!rc && (more = model_next(in, &t)) > 0) {
        if (i == m->spec.n_tensors || strcmp(t.name, m->spec.tensors[i].name) ||
            tensor_count(&t) != m->params[i].rows * m->params[i].cols)
            rc = err_set(e, "found tensor %.100s where the header lists %.100s", t.name,
                         i < m->spec.n_tensors ? m->spec.tensors[i].name : "no more");
        else
            rc = read_param(&m->params[i++], in, &t, chunk);
    }
    free(chunk);
    if (!rc && !more && i < m->spec.n_tensors)
        rc = err_set(e, "the model ends before tensor %s", m->spec.tensors[i].name);
    if (rc || more < 0) {
        model_free(m);
        return -1;
    }
    memcpy(m->spec.digest, model_in_spec(in)->digest, sizeof m->spec.digest);
    return 0;
}

/* Matrices: normal; those that write to the residual stream smaller by sqrt(2 L), so that its
 * variance does not grow with depth (Radford et al. 2019, GPT-2, section 2.3). Each value has its
 * own position in the generator, so it does not depend on the number of threads. */
static void draw(const struct model *m, int i, double std, struct rng rng)
{
    int64_t layer;
    const struct param *p = &m->params[i];
    const struct family_tensor *t = model_spec_axes(&m->spec, i, &layer);
    float *v = p->v;
    if (layer >= 0 && t->axes[0] == AXIS_E)
        std /= sqrt(2 * (double)m->spec.num_hidden_layers);
#pragma omp parallel for schedule(static)
    for (int64_t j = 0; j < p->rows * p->cols; j++) {
        struct rng r = {rng.key, 2 * (uint64_t)j};
        v[j] = (float)(std * rng_normal(&r));
    }
}

int model_init_random(struct model *m, const struct model_spec *h, uint64_t seed, struct err *e)
{
    *m = (struct model){0};
    const json_t *range = json_object_get(h->config, "initializer_range");
    double std = range && !json_is_null(range) ? json_number_value(range) : 0.02;
    if (!(std > 0 && std <= 1))
        return err_set(e, "config.json: initializer_range must be above 0 and at most 1, not %g",
                       std);
    model_spec_copy(&m->spec, h);
    model_spec_list_tensors(&m->spec, DT_F32);
    if (place(m, MODEL_TRAIN, e)) {
        model_free(m);
        return -1;
    }
    for (int i = 0; i < m->spec.n_tensors; i++) {
        const struct param *p = &m->params[i];
        const char *name = m->spec.tensors[i].name;
        if (m->spec.tensors[i].ndim == 2)
            draw(m, i, std, rng_open(seed, (uint64_t)i));
        else if (text_ends(name, ".weight") && !h->family->norm_plus1)
            for (int64_t j = 0; j < p->rows; j++)
                /* norms multiply by 1; biases, and norms that use 1 + w, stay 0 */
                ((float *)p->v)[j] = 1;
    }
    return 0;
}

/* ---- a matrix of its own */

int model_params(const struct model *m) { return m->spec.n_tensors + m->n_added; }

int model_is_matrix(const struct model *m, int i)
{
    return i >= m->spec.n_tensors || m->spec.tensors[i].ndim == 2;
}

struct param *model_add_matrix(struct model *m, int64_t rows, int64_t cols, struct err *e)
{
    int n = model_params(m);
    int64_t at = 0;
    if (arena_grow(&m->weights, (size_t)(m->n_values + rows * cols) * sizeof(float), e))
        return NULL;
    m->params = mem_grow(m->params, (size_t)(n + 1) * sizeof *m->params);
    m->params[n] = (struct param){.dtype = DT_F32, .rows = rows, .cols = cols};
    m->n_added++;
    m->n_values += rows * cols;
    m->weights.used = (size_t)m->n_values * sizeof(float);
    for (int i = 0; i <= n; i++) {
        m->params[i].v = (float *)m->weights.base + at;
        at += m->params[i].rows * m->params[i].cols;
    }
    return &m->params[n];
}

struct param *model_param(struct model *m, int64_t layer, const char *stem_and_suffix)
{
    char name[TENSOR_NAME];
    if (layer >= 0)
        snprintf(name, sizeof name, "layers.%lld.%s", (long long)layer, stem_and_suffix);
    else
        snprintf(name, sizeof name, "%s", stem_and_suffix);
    int i = model_spec_find(&m->spec, name);
    return i < 0 ? NULL : &m->params[i];
}

void model_free(struct model *m)
{
    free(m->sections);
    model_spec_free(&m->spec);
    free(m->params);
    arena_close(&m->weights);
    arena_close(&m->grads);
    arena_close(&m->copies);
    *m = (struct model){0};
}
