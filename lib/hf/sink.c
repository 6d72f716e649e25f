/* A Hugging Face directory as a sink, in constant memory. Canonical tensors arrive in stream order
 * and are written where the family stores them: into their rows of fused tensors, transposed back
 * where the class has [in, out]. Keeps dtypes (quantised ones become f32) or rounds all to one.
 * Refused: models the class cannot express (hf/config.c), values beyond the range of f16. */
#include <stdlib.h>
#include <string.h>

#include "../../formats/safetensors.h"
#include "../base/dir.h"
#include "../base/file.h"
#include "../base/minmax.h"
#include "config.h"
#include "hf.h"
#include "transpose.h"

struct hf_out {
    const struct model_spec *spec; /* of the incoming model */
    struct model_spec written;     /* as the directory has it: class and config */
    struct layout layout;          /* dtypes of `stored`: those to write */
    struct dir_out dir;
    struct safetensors_out *out;
    struct arena memory;
    /* a block as received, converted to the dtype to write, and some of its columns */
    unsigned char *raw, *cooked, *tile;
    int64_t room; /* values a block holds */
    /* the incoming tensor: its index, the next value not yet in a block, bytes of the block
     * received and expected */
    int tensor;
    int64_t at, held, block;
};

/* The n values of the block, in dtype d. NULL: a value is out of its range. */
static const unsigned char *cook(struct hf_out *x, int64_t n, enum dtype d, struct err *e)
{
    struct tensor t = x->spec->tensors[x->tensor];
    enum dtype from = t.dtype;
    if (from == d)
        return x->raw;
    t.dtype = d;
    return dtype_convert(x->cooked, &t, x->raw, from, n, e) ? NULL : x->cooked;
}

/* Writes values at .. at + n - 1 into the rows that store them. */
static int write_straight(struct hf_out *x, const unsigned char *values, int64_t at, int64_t n,
                          int64_t size, struct err *e)
{
    const struct view *v = layout_view(&x->layout, x->tensor);
    for (int64_t end = at + n, part; at < end; at += part) {
        int64_t run, row = layout_row(&x->layout, x->tensor, at / v->cols, &v, &run);
        part = min64(end - at, run * v->cols - at % v->cols);
        if (sf_write(x->out, v->stored, (row * v->cols + at % v->cols) * size, values, part * size,
                     e))
            return -1;
        values += part * size;
    }
    return 0;
}

/* Writes rows r .. r + n - 1, given as [n, cols], into columns of the stored tensor [cols,
 * stored_rows]. */
static int write_columns(struct hf_out *x, const unsigned char *values, int64_t r, int64_t n,
                         int64_t size, struct err *e)
{
    const struct view *v;
    int64_t run, row = layout_row(&x->layout, x->tensor, r, &v, &run);
    for (int64_t c = 0; c < v->cols; c += HF_TILE) {
        int64_t m = min64(HF_TILE, v->cols - c);
        hf_transpose(x->tile, n, values + c * size, v->cols, n, m, size);
        for (int64_t k = 0; k < m; k++)
            if (sf_write(x->out, v->stored, layout_transposed_at(v, row, c + k) * size,
                         x->tile + k * n * size, n * size, e))
                return -1;
    }
    return 0;
}

/* Room for a block of HF_BLOCK bytes, or one row of the widest transposed tensor if that is more.
 */
static int open_memory(struct hf_out *x, struct err *e)
{
    x->room = HF_BLOCK / 8;
    for (int i = 0; i < x->spec->n_tensors; i++) {
        const struct view *v = layout_view(&x->layout, i);
        if (v->transposed && v->cols > x->room)
            x->room = (v->cols + Q8_BLOCK - 1) / Q8_BLOCK * Q8_BLOCK;
    }
    size_t block = arena_round((size_t)x->room * 8);
    if (arena_open(&x->memory, 3 * block, e))
        return -1;
    x->raw = arena_take(&x->memory, block);
    x->cooked = arena_take(&x->memory, block);
    x->tile = arena_take(&x->memory, block);
    return 0;
}

/* ---- the five functions of a sink */

/* A stream's files are written to disk and could later be executed (code named by auto_map), so
 * only those that an import accepts are written. */
static int is_known_file(const char *name)
{
    for (int k = 0; model_file_names[k]; k++)
        if (!strcmp(name, model_file_names[k]))
            return 1;
    return 0;
}

static int write_file(const struct hf_out *x, const char *name, const void *data, int64_t bytes,
                      struct err *e)
{
    char *path = mem_format("%s/%s", x->dir.temporary.path, name);
    int failed = file_write(path, data, bytes, e);
    free(path);
    return failed;
}

static int hf_file(void *self, int i, const void *data, struct err *e)
{
    const struct hf_out *x = self;
    const char *name = x->spec->files[i].name;
    if (!is_known_file(name) || !strcmp(name, "README.md"))
        return 0;
    return write_file(x, name, data, x->spec->files[i].bytes, e);
}

int hf_sink_add(struct model_out *out, const char *name, const char *text)
{
    return out->err->set ? -1 : write_file(out->self, name, text, (int64_t)strlen(text), out->err);
}

const struct model_spec *hf_sink_spec(const struct model_out *out)
{
    return &((const struct hf_out *)out->self)->written;
}

/* Begins the block at value `at`: whole rows, stored side by side, for transposed tensors; else as
 * much as there is room for. */
static void block_begin(struct hf_out *x)
{
    const struct view *v = layout_view(&x->layout, x->tensor);
    int64_t n = min64(x->room, tensor_count(&x->spec->tensors[x->tensor]) - x->at), run;
    if (v->transposed && n) {
        layout_row(&x->layout, x->tensor, x->at / v->cols, &v, &run);
        n = min64(run, x->room / v->cols) * v->cols;
    }
    x->held = 0;
    x->block = dtype_bytes(x->spec->tensors[x->tensor].dtype, n);
}

static int block_end(struct hf_out *x, struct err *e)
{
    const struct view *v = layout_view(&x->layout, x->tensor);
    enum dtype from = x->spec->tensors[x->tensor].dtype, d = x->layout.stored[v->stored].dtype;
    int64_t size = dtype_bytes(d, 1), at = x->at, n = dtype_count(from, x->block);
    const unsigned char *values = cook(x, n, d, e);
    x->at += n;
    block_begin(x);
    if (!values)
        return -1;
    return v->transposed ? write_columns(x, values, at / v->cols, n / v->cols, size, e)
                         : write_straight(x, values, at, n, size, e);
}

static int hf_next(void *self, int i, struct err *e)
{
    struct hf_out *x = self;
    (void)e;
    x->tensor = i;
    x->at = 0;
    block_begin(x);
    return 0;
}

static int hf_write(void *self, const void *data, int64_t n, struct err *e)
{
    struct hf_out *x = self;
    for (int64_t done = 0, part; done < n; done += part) {
        part = min64(n - done, x->block - x->held);
        memcpy(x->raw + x->held, (const char *)data + done, (size_t)part);
        x->held += part;
        if (x->held == x->block && block_end(x, e))
            return -1;
    }
    return 0;
}

static int hf_end(void *self, struct err *e)
{
    struct hf_out *x = self;
    struct safetensors_out *out = x->out;
    x->out = NULL;
    if (sf_finish(out, e))
        return -1;
    return dir_publish(&x->dir, e);
}

static void hf_close(void *self)
{
    struct hf_out *x = self;
    struct err given_up = {.set = 1};
    if (x->out)
        sf_finish(x->out, &given_up);
    dir_abandon(&x->dir);
    layout_free(&x->layout);
    model_spec_free(&x->written);
    arena_close(&x->memory);
    free(x);
}

static const struct model_sink hf_sink = {hf_file, hf_next, hf_write, hf_end, hf_close};

/* ---- opening */

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

/* Sets the dtypes to write in the layout; returns that of most values. */
static enum dtype choose_dtypes(struct layout *l, const struct hf_sink_options *o)
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

/* Notes that values were rounded: matrices wider than the dtype written. */
static void add_rounding(const struct model_spec *h, const struct layout *l, char note[400])
{
    for (int i = 0; i < h->n_tensors; i++) {
        enum dtype from = h->tensors[i].dtype, to = l->stored[layout_view(l, i)->stored].dtype;
        size_t used = strlen(note);
        if (from == to || to == DT_F64 || (to == DT_F32 && from != DT_F64))
            continue;
        snprintf(note + used, 400 - used, "%svalues were rounded from %s to %s", used ? "; " : "",
                 dtype_name(from), dtype_name(to));
        return;
    }
}

/* Code is not written, so the config must not refer to it, unless it is known to be on the Hub.
 * Other files that only a stream can carry are left out too; the note names them. */
static void add_left_out(struct model_spec *h, char note[400])
{
    size_t used = strlen(note);
    if (!h->family->auto_map[0] && !json_object_del(h->config, "auto_map"))
        snprintf(note + used, 400 - used, "%sleft out auto_map, whose code is not exported",
                 used ? "; " : "");
    for (int i = 0; i < h->n_files; i++) {
        used = strlen(note);
        if (!is_known_file(h->files[i].name))
            snprintf(note + used, 400 - used, "%sleft out the file %.60s", used ? "; " : "",
                     h->files[i].name);
    }
}

/* The layout, and the config to write with it. */
static int plan(struct hf_out *x, struct model_spec *h, const struct hf_sink_options *o,
                char note[400], struct err *e)
{
    const struct family *before = h->family;
    if (layout_make(&x->layout, h, before->stored, 0, NULL, NULL, e) ||
        hf_config_write(h, choose_dtypes(&x->layout, o), note, e))
        return -1;
    if (h->family != before) { /* a twin may store the same tensors differently */
        layout_free(&x->layout);
        if (layout_make(&x->layout, h, h->family->stored, 0, NULL, NULL, e))
            return -1;
        choose_dtypes(&x->layout, o);
    }
    add_rounding(h, &x->layout, note);
    add_left_out(h, note);
    return 0;
}

static int open_parts(struct hf_out *x, const char *dir, const struct hf_sink_options *o,
                      char note[400], struct err *e)
{
    struct model_spec *h = &x->written;
    model_spec_copy(h, x->spec);
    return plan(x, h, o, note, e) || dir_create(&x->dir, dir, o->overwrite, "config.json", e) ||
           write_config(h->config, x->dir.temporary.path, e) || open_memory(x, e) ||
           !(x->out = sf_create(x->dir.temporary.path, x->layout.stored, x->layout.n_stored,
                                o->max_shard_size, e));
}

int hf_sink_check(const char *dir, const struct hf_sink_options *o, struct err *e)
{
    struct dir_out probe;
    if (dir_create(&probe, dir, o->overwrite, "config.json", e))
        return -1;
    dir_abandon(&probe);
    return 0;
}

struct model_out *hf_sink_open(const struct model_spec *spec, const char *dir,
                               const struct hf_sink_options *o, struct err *e)
{
    char note[400] = "";
    struct model_out *out = model_out_new(spec, e);
    struct hf_out *x = mem_alloc(sizeof *x);
    x->spec = &out->spec;
    out->sink = &hf_sink;
    out->self = x;
    if (open_parts(x, dir, o, note, e)) {
        model_out_close(out);
        return NULL;
    }
    out->note = *note ? mem_string(note) : NULL;
    return out;
}
