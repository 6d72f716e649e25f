/* The cut itself: rows and columns of each tensor by its axes, in constant memory (row blocks). See
 * slice.h. */
#include "merge.h"
#include "nested.h"
#include "slice.h"

#include <stdlib.h>
#include <string.h>

#include "../base/mem.h"

/* The kept units of an axis; layer: of the slice, ignored for the model's axes. NULL: the axis is
 * never cut. */
static const struct kept *kept_of(const struct slice_plan *p, enum axis axis, int64_t layer)
{
    const struct kept *k = axis < LAYER_AXES ? &p->kept[axis] : &p->layers[layer].kept[axis];
    return k->index ? k : NULL;
}

/* A tensor as rows and columns, and which of them stay. NULL lists: all, in order. dtype: while it
 * is cut, see slice_dtype. */
struct cut {
    enum dtype stored, dtype;
    int sorts;  /* rows or columns change their order */
    int merges; /* heads are merged before the cut */
    /* of a row before and after the cut */
    int64_t rows, cols, stored_bytes, row_bytes;
    const struct kept *keep_rows, *keep_cols;
};

static int is_sorted(const struct kept *k)
{
    int sorted = 0;
    for (int64_t i = 1; k && i < k->n; i++)
        sorted |= k->index[i] < k->index[i - 1];
    return sorted;
}

static const struct kept *unless_whole(const struct kept *k)
{
    return k && (k->n < k->of || is_sorted(k)) ? k : NULL;
}

static struct cut cut_of(const struct slice_plan *p, const struct tensor *t, int dest)
{
    struct cut c = {
        .stored = t->dtype, .dtype = t->dtype, .rows = 1, .cols = t->shape[t->ndim - 1]};
    int64_t layer;
    if (t->ndim == 2)
        c.rows = t->shape[0];
    if (dest >= 0) {
        const struct family_tensor *f = model_spec_axes(&p->spec, dest, &layer);
        c.merges = slice_merges(p, dest);
        c.keep_rows = t->ndim == 2 ? unless_whole(kept_of(p, f->axes[0], layer)) : NULL;
        c.keep_cols = unless_whole(kept_of(p, f->axes[t->ndim - 1], layer));
        c.sorts = is_sorted(c.keep_rows) || is_sorted(c.keep_cols);
    }
    if (c.stored == DT_Q8_0 && (c.merges || c.keep_cols))
        c.dtype = DT_F32;
    c.stored_bytes = dtype_bytes(c.stored, c.cols);
    c.row_bytes = dtype_bytes(c.dtype, c.cols);
    return c;
}

enum dtype slice_dtype(const struct slice_plan *p, const struct tensor *source, int to)
{
    return cut_of(p, source, to).dtype;
}

int slice_rounds(const struct slice_plan *p, const struct model_spec *source)
{
    int rounds = 0;
    for (int i = 0; i < source->n_tensors; i++) {
        int to = p->dest[i];
        rounds |= to >= 0 && slice_dtype(p, &source->tensors[i], to) != p->spec.tensors[to].dtype;
    }
    return rounds;
}

/* The row that comes i-th in the cut tensor; beyond the last: c->rows. */
static int64_t row_at(const struct cut *c, int64_t i)
{
    const struct kept *k = c->keep_rows;
    if (!k)
        return i;
    return i < k->n * k->width ? k->index[i / k->width] * k->width + i % k->width : c->rows;
}

/* Rows that are read at a time: sorted ones all at once, since the last may come first, and those
 * of merged heads. */
static int64_t rows_at_once(const struct cut *c)
{
    int64_t block = c->row_bytes && c->row_bytes < ST_BLOCK ? ST_BLOCK / c->row_bytes : 1;
    return block < c->rows && !is_sorted(c->keep_rows) && !c->merges ? block : c->rows;
}

/* How many consecutive units are kept from the i-th kept one on. */
static int64_t run_at(const struct kept *k, int64_t i)
{
    int64_t run = 1;
    while (i + run < k->n && k->index[i + run] == k->index[i] + run)
        run++;
    return run;
}

/* Moves the kept columns of one row to `out`; returns the end of what it wrote. out <= row is
 * allowed where nothing is sorted. */
static unsigned char *cut_row(const struct cut *c, const unsigned char *row, unsigned char *out)
{
    if (!c->keep_cols) {
        if (out != row)
            memmove(out, row, (size_t)c->row_bytes);
        return out + c->row_bytes;
    }
    const struct kept *k = c->keep_cols;
    size_t unit = (size_t)dtype_bytes(c->dtype, k->width);
    for (int64_t i = 0, run; i < k->n; i += run) {
        run = run_at(k, i);
        memmove(out, row + (size_t)k->index[i] * unit, (size_t)run * unit);
        out += (size_t)run * unit;
    }
    return out;
}

/* 0 or -1 */
typedef int read_fn(void *user, void *buf, int64_t n);
typedef int write_fn(void *user, const void *data, int64_t n);

/* Reads the whole tensor `source` and writes what is kept of it, in the dtype in which it was cut
 * (write NULL: nothing). */
static int cut_tensor(const struct slice_plan *p, const struct tensor *source, int dest,
                      read_fn *read, write_fn *write, void *user)
{
    struct cut c = cut_of(p, source, dest);
    int64_t block = rows_at_once(&c), next = 0;
    unsigned char *buf = mem_alloc((size_t)(block * c.row_bytes) + 1);
    unsigned char *raw = c.stored == c.dtype ? NULL : mem_alloc((size_t)(block * c.stored_bytes));
    unsigned char *made = c.sorts ? mem_alloc((size_t)(block * c.row_bytes)) : NULL;
    int bad = 0;
    for (int64_t from = 0; from < c.rows && !bad; from += block) {
        int64_t n = c.rows - from < block ? c.rows - from : block;
        unsigned char *first = made ? made : buf, *out = first;
        if ((bad = read(user, raw ? raw : buf, n * c.stored_bytes)))
            break;
        if (raw)
            to_f32((float *)buf, raw, c.stored, n * c.cols);
        if (c.merges)
            slice_merge(p, dest, c.dtype, c.rows, c.cols, buf);
        for (int64_t r; write && (r = row_at(&c, next)) < from + n; next++)
            out = cut_row(&c, buf + (r - from) * c.row_bytes, out);
        bad = out > first && write(user, first, out - first);
    }
    free(made);
    free(raw);
    free(buf);
    return bad ? -1 : 0;
}

/* ---- from a source to a sink */

/* to: the tensor that is written; from: the dtype in which it was cut. */
struct pipe {
    struct model_in *in;
    struct model_out *out;
    const struct tensor *to;
    enum dtype from;
};

static int pipe_read(void *user, void *buf, int64_t n)
{
    return model_read(((struct pipe *)user)->in, buf, n);
}

static int pipe_write(void *user, const void *data, int64_t n)
{
    const struct pipe *p = user;
    int64_t values = dtype_count(p->from, n), bytes;
    if (p->from == p->to->dtype)
        return model_out_write(p->out, data, n);
    bytes = dtype_bytes(p->to->dtype, values);
    void *rounded = mem_alloc((size_t)bytes);
    int failed = dtype_convert(rounded, p->to, data, p->from, values, p->out->err) ||
                 model_out_write(p->out, rounded, bytes);
    free(rounded);
    return failed;
}

int slice_copy(const struct slice_plan *p, struct model_in *in, const struct tensor *source, int i,
               struct model_out *out)
{
    int to = p->dest[i];
    struct pipe pipe = {in, out, to < 0 ? NULL : &p->spec.tensors[to], slice_dtype(p, source, to)};
    if (to >= 0 && model_out_next(out))
        return -1;
    return cut_tensor(p, source, to, pipe_read, to < 0 ? NULL : pipe_write, &pipe);
}

/* ---- both in memory */

/* A model without values. */
static void params_plan(struct model *m, const struct model_spec *h)
{
    *m = (struct model){0};
    model_spec_copy(&m->spec, h);
    m->params = mem_alloc((size_t)h->n_tensors * sizeof *m->params);
    for (int i = 0; i < h->n_tensors; i++) {
        const struct tensor *t = &h->tensors[i];
        m->params[i] = (struct param){
            .dtype = t->dtype, .rows = t->shape[0], .cols = t->ndim == 2 ? t->shape[1] : 1};
        m->n_values += tensor_count(t);
    }
}

/* Memory for all of them. */
static int params_open(struct model *m, struct err *e)
{
    const struct model_spec *h = &m->spec;
    size_t bytes = 0;
    for (int i = 0; i < h->n_tensors; i++)
        bytes += arena_round((size_t)tensor_bytes(&h->tensors[i]));
    if (arena_open(&m->weights, bytes, e))
        return -1;
    for (int i = 0; i < h->n_tensors; i++)
        m->params[i].v = arena_take(&m->weights, (size_t)tensor_bytes(&h->tensors[i]));
    return 0;
}

struct both {
    struct model_in *in;
    unsigned char *source, *slice;
    const struct tensor *to;
    enum dtype from;
};

static int both_read(void *user, void *buf, int64_t n)
{
    struct both *b = user;
    if (model_read(b->in, buf, n))
        return -1;
    memcpy(b->source, buf, (size_t)n);
    b->source += n;
    return 0;
}

static int both_write(void *user, const void *data, int64_t n)
{
    struct both *b = user;
    int64_t values = dtype_count(b->from, n);
    if (dtype_convert(b->slice, b->to, data, b->from, values, b->in->err))
        return -1;
    b->slice += dtype_bytes(b->to->dtype, values);
    return 0;
}

static int take(const struct slice_plan *p, struct model_in *in, const struct tensor *source, int i,
                const struct model_spec *to, void *whole, void *kept)
{
    int dest = p->dest[i];
    struct both b = {in, whole, kept, dest < 0 ? NULL : &to->tensors[dest],
                     slice_dtype(p, source, dest)};
    return cut_tensor(p, source, dest, both_read, kept ? both_write : NULL, &b);
}

int slice_take(const struct slice_plan *p, struct model_in *in, const struct tensor *source, int i,
               void *whole, void *kept)
{
    return take(p, in, source, i, &p->spec, whole, kept);
}

void slice_load_plan(const struct slice_plan *p, const struct model_spec *from,
                     struct model *source, struct model *slice)
{
    params_plan(source, from);
    params_plan(slice, &p->spec);
    for (int i = 0; i < from->n_tensors; i++)
        if (p->dest[i] >= 0)
            slice->params[p->dest[i]].dtype = slice->spec.tensors[p->dest[i]].dtype = slice_dtype(
                p, &from->tensors[i], p->dest[i]);
}

int slice_load_tensor(const struct slice_plan *p, struct model_in *in, int i,
                      const struct model *source, const struct model *slice)
{
    int dest = p->dest[i];
    return take(p, in, &source->spec.tensors[i], i, &slice->spec, source->params[i].v,
                dest < 0 ? NULL : slice->params[dest].v);
}

int slice_load(const struct slice_plan *p, struct model_in *in, struct model *source,
               struct model *slice, struct err *e)
{
    struct tensor t;
    int more = 1;
    slice_load_plan(p, model_in_spec(in), source, slice);
    if (params_open(source, e) || params_open(slice, e))
        return -1;
    model_digest(in);
    for (int i = 0; (more = model_next(in, &t)) > 0; i++)
        if (slice_load_tensor(p, in, i, source, slice))
            return -1;
    return more;
}

int slice_round(const struct slice_plan *p, struct model *slice, struct err *e)
{
    struct model rounded;
    params_plan(&rounded, &p->spec);
    int failed = params_open(&rounded, e);
    for (int i = 0; i < p->spec.n_tensors && !failed; i++)
        failed = dtype_convert(rounded.params[i].v, &p->spec.tensors[i], slice->params[i].v,
                               slice->params[i].dtype, tensor_count(&p->spec.tensors[i]), e);
    model_free(failed ? &rounded : slice);
    if (!failed)
        *slice = rounded;
    return failed;
}

/* ---- as parts of the values of a model */

struct parts {
    struct gather_part *list;
    int64_t n;
};

/* The run of kept channels that begins with the i-th kept unit; k NULL: all n of them. */
struct run {
    int64_t units, from, to, n;
};
static struct run run_of(const struct kept *k, int64_t i, int64_t n)
{
    if (!k)
        return (struct run){1, 0, 0, n};
    int64_t units = run_at(k, i);
    return (struct run){units, k->index[i] * k->width, i * k->width, units * k->width};
}

/* A tensor whose values begin at `from` in the source and at `to` in the slice. */
static void add_parts(struct parts *to_list, const struct cut *c, int64_t from, int64_t to)
{
    const struct kept *rows = c->keep_rows, *cols = c->keep_cols;
    int64_t width = cols ? cols->n * cols->width : c->cols;
    for (int64_t i = 0; i < (rows ? rows->n : 1);) {
        struct run r = run_of(rows, i, c->rows);
        for (int64_t j = 0; j < (cols ? cols->n : 1);) {
            struct run s = run_of(cols, j, c->cols);
            to_list->list = mem_grow(to_list->list,
                                     (size_t)(to_list->n + 1) * sizeof *to_list->list);
            to_list->list[to_list->n++] = (struct gather_part){from + r.from * c->cols + s.from,
                                                               to + r.to * width + s.to,
                                                               r.n,
                                                               s.n,
                                                               c->cols,
                                                               width};
            j += s.units;
        }
        i += r.units;
    }
}

struct gather_part *slice_tensor_parts(const struct slice_plan *p, const struct model_spec *source,
                                       int i, int64_t *n)
{
    struct parts parts = {0};
    struct cut c = cut_of(p, &source->tensors[i], p->dest[i]);
    if (c.keep_rows || c.keep_cols)
        add_parts(&parts, &c, 0, 0);
    *n = parts.n;
    return parts.list;
}

struct gather_part *slice_parts(const struct slice_plan *p, const struct model_spec *source,
                                int64_t *n)
{
    struct parts parts = {0};
    int whole = 1;
    int64_t from = 0, to = 0;
    for (int i = 0; i < source->n_tensors; from += tensor_count(&source->tensors[i++])) {
        int dest = p->dest[i];
        if (dest >= 0) {
            struct cut c = cut_of(p, &source->tensors[i], dest);
            whole &= !c.keep_rows && !c.keep_cols;
            add_parts(&parts, &c, from, to);
            to += tensor_count(&p->spec.tensors[dest]);
        } else
            whole = 0;
    }
    if (whole) {
        free(parts.list);
        parts = (struct parts){0};
    }
    *n = parts.n;
    return parts.list;
}
