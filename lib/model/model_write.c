/* Writing a model from memory: see model.h. Tensors are rounded to the dtypes of the spec that is
 * written, piece by piece where those differ from the model's. */
#include <stdlib.h>

#include "model.h"

enum { PIECE = 1 << 18 }; /* values, a multiple of Q8_BLOCK */

/* Values of a param from `at` on; of a model on a device, whose f32 weights begin at `weights`,
 * they are copied to `buffer`. */
static const void *values_at(const struct model *m, const struct param *p, const float *weights,
                             int64_t at, int64_t n, float *buffer)
{
    if (!m->x)
        return (const char *)p->v + dtype_bytes(p->dtype, at);
    exec_get(m->x, buffer, weights + at, (size_t)n * sizeof *buffer);
    return buffer;
}

static int write_param(struct model_out *out, const struct model *m, int i, const float *weights)
{
    const struct param *p = &m->params[i];
    const struct tensor *t = &out->spec.tensors[i];
    enum dtype d = m->x ? DT_F32 : p->dtype;
    if (model_out_next(out))
        return -1;
    if (!m->x && d == t->dtype)
        return model_out_write(out, p->v, tensor_bytes(t));
    float *buffer = mem_alloc(PIECE * sizeof *buffer);
    void *rounded = mem_alloc(PIECE * sizeof(double));
    int failed = 0;
    for (int64_t at = 0, k, n = tensor_count(t); at < n && !failed; at += k) {
        k = n - at < PIECE ? n - at : PIECE;
        failed = dtype_convert(rounded, t, values_at(m, p, weights, at, k, buffer), d, k,
                               out->err) ||
                 model_out_write(out, rounded, dtype_bytes(t->dtype, k));
    }
    free(buffer);
    free(rounded);
    return failed;
}

int model_write(struct model_out *out, const struct model *m)
{
    const float *weights = (const float *)m->weights.base;
    if (m->adapters)
        return adapters_write(out, m);
    for (int i = 0; i < m->spec.n_tensors; i++) {
        if (write_param(out, m, i, weights))
            return -1;
        weights += tensor_count(&m->spec.tensors[i]);
    }
    return model_out_end(out);
}
