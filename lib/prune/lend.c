/* A slice that borrows from the model in memory what it keeps whole: see slice.h. */
#include "nested.h"
#include "slice.h"

#include <stdlib.h>

#include "../base/minmax.h"

static size_t param_bytes(const struct param *p)
{
    return (size_t)dtype_bytes(p->dtype, p->rows * p->cols);
}

/* The parts of a tensor, copied one by one. */
static int copy_parts(struct exec *x, const struct param *from, const struct param *to,
                      const struct gather_part *parts, int64_t n, struct err *e)
{
    struct arena there = {0};
    size_t bytes = (size_t)n * sizeof *parts;
    if (exec_arena(x, &there, bytes, e))
        return -1;
    struct op_args c = {.x = x, .rows = 1, .p.gather = {arena_take(&there, bytes), n, 0}};
    c.in[0] = (struct operand){
        .v = from->v, .dtype = from->dtype, .rows = 1, .cols = from->rows * from->cols};
    c.out = (struct operand){
        .v = to->v, .dtype = to->dtype, .rows = 1, .cols = to->rows * to->cols};
    for (int64_t i = 0; i < n; i++)
        c.p.gather.most = max64(c.p.gather.most, parts[i].rows * parts[i].cols);
    exec_put(x, (void *)c.p.gather.parts, parts, bytes);
    op_forward(OP_gather, &c);
    arena_close(&there);
    return x->err.set ? err_set(e, "%s", x->err.msg) : 0;
}

/* The same of a tensor that may be q8_0, whose blocks cannot be cut: it is widened first. Only the
 * CPU holds such tensors. */
static int copy_kept(struct exec *x, const struct param *from, const struct param *to,
                     const struct gather_part *parts, int64_t n, struct err *e)
{
    if (from->dtype == to->dtype)
        return copy_parts(x, from, to, parts, n, e);
    struct param wide = *from;
    int64_t values = from->rows * from->cols;
    wide.dtype = DT_F32;
    wide.v = mem_alloc(param_bytes(&wide));
    to_f32(wide.v, from->v, from->dtype, values);
    int failed = copy_parts(x, &wide, to, parts, n, e);
    free(wide.v);
    return failed;
}

/* Lists the params of the slice; returns the bytes of those that are not the model's. */
static size_t list_params(const struct slice_plan *p, const struct model *m, struct model *slice,
                          struct gather_part **parts, int64_t *n)
{
    size_t bytes = 0;
    for (int i = 0; i < m->spec.n_tensors; i++) {
        if (p->dest[i] < 0)
            continue;
        struct param *to = &slice->params[p->dest[i]];
        const struct tensor *t = &p->spec.tensors[p->dest[i]];
        *to = m->params[i];
        parts[i] = slice_tensor_parts(p, &m->spec, i, &n[i]);
        if (!parts[i])
            continue;
        to->dtype = to->dtype == DT_Q8_0 ? DT_F32 : to->dtype;
        to->rows = t->shape[0];
        to->cols = t->ndim == 2 ? t->shape[1] : 1;
        bytes += arena_round(param_bytes(to));
    }
    return bytes;
}

int slice_lend(const struct slice_plan *p, const struct model *m, struct exec *x,
               struct model *slice, struct err *e)
{
    int tensors = m->spec.n_tensors;
    struct gather_part **parts = mem_alloc((size_t)tensors * sizeof *parts);
    int64_t *n = mem_alloc((size_t)tensors * sizeof *n);
    *slice = (struct model){.how = MODEL_FROZEN};
    model_spec_copy(&slice->spec, &p->spec);
    slice->params = mem_alloc((size_t)p->spec.n_tensors * sizeof *slice->params);
    size_t bytes = list_params(p, m, slice, parts, n);
    int failed = bytes && exec_arena(x, &slice->weights, bytes, e);
    for (int i = 0; i < tensors; i++) {
        if (parts[i] && !failed) {
            struct param *to = &slice->params[p->dest[i]];
            to->v = arena_take(&slice->weights, param_bytes(to));
            failed = copy_kept(x, &m->params[i], to, parts[i], n[i], e);
        }
        free(parts[i]);
    }
    free(parts);
    free(n);
    return failed ? -1 : 0;
}
