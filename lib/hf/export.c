/* A Hugging Face directory from a model, in constant memory: see model.h. Canonical tensors arrive
 * in stream order and are put where the family stores them: into their rows of fused tensors,
 * transposed back where the class has [in, out]. Keeps dtypes (quantised ones become f32) or rounds
 * to one; refuses what the class cannot say (hf/config.c), values that f16 cannot hold. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/safetensors.h"
#include "../base/dir.h"
#include "../base/file.h"
#include "config.h"
#include "hf.h"
#include "layout.h"

struct export
{
    struct model_in *in;
    struct hf_layout layout; /* dtypes of `stored`: those to write */
    struct safetensors_out *out;
    struct arena memory;
    /* a block as read, in the dtype to write, and some of its columns */
    unsigned char *raw, *cooked, *tile;
    float *wide;
    int64_t room; /* values a block holds */
    struct err *e;
};

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static int check_range(const struct tensor *t, const float *v, int64_t n, struct err *e)
{
    for (int64_t i = 0; i < n; i++)
        if (fabsf(v[i]) >= 65520 && isfinite(v[i]))
            return err_set(e, "tensor %s holds %g, which f16 cannot: choose another --dtype",
                           t->name, (double)v[i]);
    return 0;
}

/* The next n values of tensor t, in dtype d. NULL on error. */
static const unsigned char *next_values(struct export *x, const struct tensor *t, int64_t n,
                                        enum dtype d)
{
    if (model_read(x->in, x->raw, dtype_bytes(t->dtype, n)))
        return NULL;
    if (t->dtype == d)
        return x->raw;
    to_f32(x->wide, x->raw, t->dtype, n);
    if (d == DT_F16 && check_range(t, x->wide, n, x->e))
        return NULL;
    from_f32(x->cooked, d, x->wide, n);
    return x->cooked;
}

static int write_straight(struct export *x, const struct tensor *t, const struct hf_view *v,
                          enum dtype d)
{
    int64_t count = v->rows * v->cols, size = dtype_bytes(d, 1);
    for (int64_t at = 0; at < count;) {
        int64_t n = least(x->room, count - at), end = at + n;
        const unsigned char *values = next_values(x, t, n, d);
        if (!values)
            return -1;
        while (at < end) {
            int64_t run, row = hf_view_row(v, at / v->cols, &run),
                         part = least(end - at, run * v->cols - at % v->cols);
            if (sf_write(x->out, v->stored, (row * v->cols + at % v->cols) * size, values,
                         part * size, x->e))
                return -1;
            values += part * size;
            at += part;
        }
    }
    return 0;
}

/* Rows r .. r + n - 1, given as [n, cols], into columns of the stored tensor [cols, stored_rows].
 */
static int write_columns(struct export *x, const struct hf_view *v, const unsigned char *values,
                         int64_t r, int64_t n, int64_t size)
{
    int64_t run, row = hf_view_row(v, r, &run);
    for (int64_t c = 0; c < v->cols; c += HF_TILE) {
        int64_t m = least(HF_TILE, v->cols - c);
        hf_transpose(x->tile, n, values + c * size, v->cols, n, m, size);
        for (int64_t k = 0; k < m; k++)
            if (sf_write(x->out, v->stored, ((c + k) * v->stored_rows + row) * size,
                         x->tile + k * n * size, n * size, x->e))
                return -1;
    }
    return 0;
}

static int write_transposed(struct export *x, const struct tensor *t, const struct hf_view *v,
                            enum dtype d)
{
    int64_t size = dtype_bytes(d, 1);
    for (int64_t r = 0; r < v->rows;) {
        int64_t run, n;
        hf_view_row(v, r, &run);
        n = least(run, x->room / v->cols);
        const unsigned char *values = next_values(x, t, n * v->cols, d);
        if (!values || write_columns(x, v, values, r, n, size))
            return -1;
        r += n;
    }
    return 0;
}

/* Room for a block of HF_BLOCK bytes, or one row of the widest transposed tensor if that is more.
 */
static int open_memory(struct export *x, const struct model_spec *h)
{
    x->room = HF_BLOCK / 8;
    for (int i = 0; i < h->n_tensors; i++)
        if (x->layout.views[i].transposed && x->layout.views[i].cols > x->room)
            x->room = (x->layout.views[i].cols + Q8_BLOCK - 1) / Q8_BLOCK * Q8_BLOCK;
    size_t block = arena_round((size_t)x->room * 8);
    if (arena_open(&x->memory, 3 * block + arena_round((size_t)x->room * 4), x->e))
        return -1;
    x->raw = arena_take(&x->memory, block);
    x->cooked = arena_take(&x->memory, block);
    x->tile = arena_take(&x->memory, block);
    x->wide = arena_take(&x->memory, (size_t)x->room * 4);
    return 0;
}

static int write_tensors(struct export *x, const struct model_spec *h, const char *dir,
                         int64_t max_shard_size)
{
    struct tensor t;
    int more, i = 0;
    if (open_memory(x, h) ||
        !(x->out = sf_create(dir, x->layout.stored, x->layout.n_stored, max_shard_size, x->e)))
        return -1;
    while ((more = model_next(x->in, &t)) > 0) {
        const struct hf_view *v = &x->layout.views[i++];
        enum dtype d = x->layout.stored[v->stored].dtype;
        if (v->transposed ? write_transposed(x, &t, v, d) : write_straight(x, &t, v, d))
            break;
    }
    int failed = sf_finish(x->out, x->e);
    return more ? -1 : failed;
}

static int write_files(struct export *x, const struct model_spec *h, const char *dir)
{
    for (int i = 0; i < h->n_files; i++) {
        const char *name = h->files[i].name;
        int64_t n;
        if (!strcmp(name, "config.json") || !strncmp(name, "model", 5))
            return err_set(x->e, "the model carries a file called %s, which belongs to the weights",
                           name);
        const char *bytes = model_in_file(x->in, name, &n);
        if (!bytes)
            return err_set(x->e, "the model lists a file %s but does not hold it", name);
        char *path = mem_format("%s/%s", dir, name);
        int failed = file_write(path, bytes, n, x->e);
        free(path);
        if (failed)
            return -1;
    }
    return 0;
}

static int write_config(const json_t *config, const char *dir, struct err *e)
{
    char *path = mem_format("%s/config.json", dir),
         *body = json_dumps(config, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_REAL_PRECISION(15));
    char *text = mem_format("%s\n", body ? body : "{}");
    int failed = file_write(path, text, (int64_t)strlen(text), e);
    free(path);
    free(body);
    free(text);
    return failed;
}

/* Dtypes to write, into the layout; the one that most values have. */
static enum dtype choose_dtypes(struct hf_layout *l, const struct hf_export_opts *o)
{
    int64_t count[DT_COUNT] = {0};
    int most = DT_F32;
    for (int i = 0; i < l->n_stored; i++) {
        struct tensor *t = &l->stored[i];
        if (!o->keep_dtype)
            t->dtype = o->dtype;
        else if (t->dtype == DT_Q8_0)
            t->dtype = DT_F32;
        count[t->dtype] += tensor_count(t);
    }
    for (int d = 0; d < DT_COUNT; d++)
        most = count[d] > count[most] ? d : most;
    return (enum dtype)most;
}

/* Says when values were rounded: matrices that were wider than what is written. */
static void add_rounding(const struct model_spec *h, const struct hf_layout *l, char note[400])
{
    for (int i = 0; i < h->n_tensors; i++) {
        enum dtype from = h->tensors[i].dtype, to = l->stored[l->views[i].stored].dtype;
        size_t used = strlen(note);
        if (from == to || to == DT_F64 || (to == DT_F32 && from != DT_F64))
            continue;
        snprintf(note + used, 400 - used, "%svalues were rounded from %s to %s", used ? "; " : "",
                 dtype_name(from), dtype_name(to));
        return;
    }
}

static int export_into(struct export *x, struct model_spec *h, const char *dir,
                       const struct hf_export_opts *o)
{
    return write_config(h->config, dir, x->e) || write_files(x, h, dir) ||
                   write_tensors(x, h, dir, o->max_shard_size)
               ? -1
               : 0;
}

int hf_export(struct model_in *in, const char *dir, const struct hf_export_opts *o, char note[400],
              struct err *e)
{
    struct export x = {.in = in, .e = e};
    struct model_spec h;
    struct dir_out place;
    model_spec_copy(&h, model_in_spec(in));
    int failed = hf_layout_make(&x.layout, &h, e);
    const struct family *before = h.family;
    if (!failed)
        failed = hf_config_write(&h, choose_dtypes(&x.layout, o), note, e);
    if (!failed && h.family != before) { /* a twin may store the same tensors otherwise */
        hf_layout_free(&x.layout);
        failed = hf_layout_make(&x.layout, &h, e);
        if (!failed)
            choose_dtypes(&x.layout, o);
    }
    if (!failed)
        failed = dir_create(&place, dir, o->overwrite, "config.json", e);
    if (!failed) {
        add_rounding(&h, &x.layout, note);
        failed = export_into(&x, &h, place.temporary, o);
        if (failed)
            dir_abandon(&place);
        else
            failed = dir_publish(&place, e);
    }
    hf_layout_free(&x.layout);
    arena_close(&x.memory);
    model_spec_free(&h);
    return failed;
}
