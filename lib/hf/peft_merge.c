/* A model with the sums of its weights and adapters, as a source of its own: a row at a time, in
 * constant memory. See peft.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../base/minmax.h"
#include "peft.h"

struct merge {
    struct model_in *in; /* the model without */
    const struct adapters *s;
    const struct model_spec *spec; /* of the sums */
    unsigned char *raw, *row;      /* a row as `in` has it, and as it is given */
    float *wide;
    int64_t at; /* number of the row at hand, -1 none */
};

static const char *merge_file(void *self, const char *name, int64_t *bytes, struct err *e)
{
    const struct merge *m = self;
    (void)e; /* `in` has the same */
    return model_in_file(m->in, name, bytes);
}

static int merge_next(void *self, int i, struct err *e)
{
    struct merge *m = self;
    struct tensor t;
    (void)i, (void)e;
    m->at = -1;
    return model_next(m->in, &t) > 0 ? 0 : -1;
}

/* The next row of tensor i. */
static int row_make(struct merge *m, int i)
{
    const struct tensor *t = &m->spec->tensors[i], *from = &m->in->spec.tensors[i];
    const struct adapter *a = &m->s->of[i];
    const struct param *p = adapter_params(m->s, a);
    int64_t cols = t->shape[1];
    if (model_read(m->in, m->raw, dtype_bytes(from->dtype, cols)))
        return -1;
    m->at++;
    to_f32(m->wide, m->raw, from->dtype, cols);
    adapter_add_row(m->wide, (const float *)p[1].v + m->at * a->rank, p[0].v, a->rank, cols,
                    a->scale);
    for (int64_t c = 0; c < cols; c++)
        if (!isfinite(m->wide[c]))
            return err_set(m->in->err,
                           "tensor %s and its adapter have a sum that is not finite: the values of "
                           "one of them, or lora_alpha, are too large",
                           t->name);
    return dtype_convert(m->row, t, m->wide, DT_F32, cols, m->in->err);
}

static int merge_read(void *self, int i, int64_t at, void *buf, int64_t n, struct err *e)
{
    struct merge *m = self;
    (void)e;
    if (!m->s->of[i].rank)
        return model_read(m->in, buf, n);
    const struct tensor *t = &m->spec->tensors[i];
    int64_t bytes = dtype_bytes(t->dtype, t->shape[1]);
    for (int64_t done = 0, part; done < n; done += part) {
        int64_t begin = (at + done) % bytes;
        if (m->at != (at + done) / bytes && row_make(m, i))
            return -1;
        part = min64(bytes - begin, n - done);
        memcpy((char *)buf + done, m->row + begin, (size_t)part);
    }
    return 0;
}

static int merge_end(void *self, struct err *e)
{
    const struct merge *m = self;
    struct tensor t;
    (void)e;
    return model_next(m->in, &t);
}

static void merge_close(void *self)
{
    struct merge *m = self;
    model_close(m->in);
    free(m->raw);
    free(m->row);
    free(m->wide);
    free(m);
}

static const struct model_source merge_source = {merge_file, merge_next, merge_read, merge_end,
                                                 merge_close};

struct model_in *peft_merge(struct model_in *in, const struct adapters *s, int wide)
{
    struct merge *m = mem_alloc(sizeof *m);
    struct model_in *out = mem_alloc(sizeof *out);
    int64_t most = 0;
    *out = (struct model_in){.source = &merge_source, .self = m, .err = in->err, .current = -1};
    model_spec_copy(&out->spec, &in->spec);
    for (int i = 0; i < s->n; i++) {
        struct tensor *t = &out->spec.tensors[i];
        if (!s->of[i].rank)
            continue;
        if (wide || t->dtype == DT_Q8_0)
            t->dtype = DT_F32;
        most = max64(most, t->shape[1]);
    }
    *m = (struct merge){.in = in, .s = s, .spec = &out->spec};
    m->raw = mem_alloc((size_t)most * 8);
    m->row = mem_alloc((size_t)most * 8);
    m->wide = mem_alloc((size_t)most * sizeof *m->wide);
    return out;
}
