/* A model that has some tokens of another's vocabulary: a source over a source. In: the other's
 * files and tensors. Out: the same, but of the tensors with a row for every token (embeddings, a
 * head that is not tied) only the rows of the kept ids, in their order. Refused: such a vector in
 * blocks of q8_0. See source.h. */
#include <stdlib.h>
#include <string.h>

#include "../base/minmax.h"
#include "model.h"

struct rows_in {
    struct model_in *from;
    const struct model_spec *spec; /* of the rows that are kept */
    int64_t *ids;
    int64_t row, row_bytes; /* of the tensor at hand: rows of `from` taken so far; 0: it is whole */
    unsigned char *lost;    /* a row that is left out */
};

static const char *rows_file(void *self, const char *name, int64_t *bytes, struct err *e)
{
    (void)e; /* `from` has the same */
    return model_in_file(((struct rows_in *)self)->from, name, bytes);
}

static int has_rows(const struct model_spec *h, int i)
{
    int64_t layer;
    return model_spec_axes(h, i, &layer)->axes[0] == AXIS_V;
}

static int rows_next(void *self, int i, struct err *e)
{
    struct rows_in *s = self;
    struct tensor t;
    if (model_next(s->from, &t) < 0)
        return -1;
    s->row = 0;
    s->row_bytes = has_rows(s->spec, i) ? tensor_bytes(&t) / t.shape[0] : 0;
    if (s->row_bytes && t.ndim == 1 && t.dtype == DT_Q8_0)
        return err_set(e,
                       "tensor %s is a vector of q8_0, whose blocks are of several tokens: write "
                       "the model anew with slice-model --dtype f32",
                       t.name);
    return 0;
}

/* Reads past the rows before that of the k-th id. */
static int skip_to(struct rows_in *s, int64_t k)
{
    s->lost = mem_grow(s->lost, (size_t)s->row_bytes);
    for (; s->row < s->ids[k]; s->row++)
        if (model_read(s->from, s->lost, s->row_bytes))
            return -1;
    s->row++;
    return 0;
}

static int rows_read(void *self, int i, int64_t at, void *buf, int64_t n, struct err *e)
{
    struct rows_in *s = self;
    (void)i, (void)e;
    if (!s->row_bytes)
        return model_read(s->from, buf, n);
    for (int64_t end = at + n, part; at < end; at += part) {
        if (at % s->row_bytes == 0 && skip_to(s, at / s->row_bytes))
            return -1;
        part = min64(end - at, s->row_bytes - at % s->row_bytes);
        if (model_read(s->from, buf, part))
            return -1;
        buf = (char *)buf + part;
    }
    return 0;
}

static int rows_end(void *self, struct err *e)
{
    struct tensor t;
    (void)e;
    return model_next(((struct rows_in *)self)->from, &t) < 0 ? -1 : 0;
}

static void rows_close(void *self)
{
    struct rows_in *s = self;
    model_close(s->from);
    free(s->ids);
    free(s->lost);
    free(s);
}

struct model_in *model_take_rows(struct model_in *from, const int64_t *ids, int64_t n)
{
    static const struct model_source source = {rows_file, rows_next, rows_read, rows_end,
                                               rows_close};
    struct rows_in *self = mem_alloc(sizeof *self);
    struct model_in *in = mem_alloc(sizeof *in);
    *self = (struct rows_in){.from = from, .spec = &in->spec};
    *in = (struct model_in){.source = &source, .self = self, .err = from->err, .current = -1};
    self->ids = mem_alloc((size_t)n * sizeof *ids);
    memcpy(self->ids, ids, (size_t)n * sizeof *ids);
    model_spec_copy(&in->spec, model_in_spec(from));
    in->spec.vocab_size = n;
    model_spec_update_config(&in->spec);
    for (int i = 0; i < in->spec.n_tensors; i++)
        if (has_rows(&in->spec, i))
            in->spec.tensors[i].shape[0] = n;
    return in;
}
