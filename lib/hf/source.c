/* A Hugging Face directory as a MODEL operand: config.json, safetensors (one file or shards with an
 * index), the files that travel. Gives canonical tensors in stream order with their dtypes kept, in
 * constant memory: straight ranges by pread, transposed ones by blocks of rows.
 *
 * Refused: an unreadable config.json, and what hf/tensors.c refuses. A directory without
 * safetensors still has a spec and a tokenizer (kd-train --init random, tokenize): it is refused
 * only when its tensors are read. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../formats/json.h"
#include "../base/file.h"
#include "../base/minmax.h"
#include "tensors.h"
#include "transpose.h"
#include "../model/model.h"

static const struct json_limits config_limits = {4 << 20, 200000, 16};

struct hf_in {
    char *dir;
    const struct model_spec *spec;
    struct safetensors *sf; /* NULL: no weights */
    struct hf_layout tensors;
    char **files; /* [n_files] texts of spec->files, read when asked for */
    int n_files;
    struct row_block block; /* of transposed tensors */
};

static void hf_close(void *self)
{
    struct hf_in *s = self;
    for (int i = 0; i < s->n_files; i++)
        free(s->files[i]);
    free(s->files);
    row_block_close(&s->block);
    hf_layout_free(&s->tensors);
    sf_close(s->sf);
    free(s->dir);
    free(s);
}

static const char *hf_file(void *self, const char *name, int64_t *bytes, struct err *e)
{
    struct hf_in *s = self;
    for (int i = 0; i < s->spec->n_files; i++) {
        if (strcmp(s->spec->files[i].name, name))
            continue;
        if (!s->files[i]) {
            char *path = mem_format("%s/%s", s->dir, name);
            int64_t n;
            s->files[i] = file_read(path, MODEL_FILE_MAX, &n, e);
            if (s->files[i] && n != s->spec->files[i].bytes) {
                err_set(e, "'%s' changed while it was read", path);
                free(s->files[i]);
                s->files[i] = NULL;
            }
            free(path);
        }
        if (bytes)
            *bytes = s->spec->files[i].bytes;
        return s->files[i];
    }
    return NULL;
}

/* ---- tensors */

/* Reads n canonical rows of a transposed tensor, which are columns `row` .. row + n - 1 of the
 * stored block [cols, rows], into block [n, cols]. */
static int read_columns(struct hf_in *s, const struct view *v, int64_t row, int64_t n, int64_t size,
                        unsigned char *block, unsigned char *tile, struct err *e)
{
    for (int64_t c = 0; c < v->cols; c += HF_TILE) {
        int64_t m = v->cols - c < HF_TILE ? v->cols - c : HF_TILE;
        for (int64_t k = 0; k < m; k++)
            if (sf_read(s->sf, s->tensors.found[v->stored],
                        layout_transposed_at(v, row, c + k) * size, tile + k * n * size, n * size,
                        e))
                return -1;
        hf_transpose(block + c * size, v->cols, tile, n, m, n, size);
    }
    return 0;
}

/* A row_block_fill, for transposed tensors. */
static int fill_block(void *self, int i, int64_t at, int64_t rows, struct err *e)
{
    struct hf_in *s = self;
    const struct view *v = layout_view(&s->tensors.layout, i);
    int64_t size = dtype_bytes(s->spec->tensors[i].dtype, 1), row_bytes = v->cols * size,
            r = at / row_bytes, run, row = layout_row(&s->tensors.layout, i, r, &v, &run);
    int64_t n = min64(min64(run, rows), HF_BLOCK / row_bytes);
    n = n < 1 ? 1 : n;
    unsigned char *tile;
    if (row_block_room(&s->block, n * row_bytes, min64(HF_TILE, v->cols) * n * size, &tile, e) ||
        read_columns(s, v, row, n, size, s->block.memory.base, tile, e))
        return -1;
    s->block.at = r * row_bytes;
    s->block.bytes = n * row_bytes;
    return 0;
}

/* Reads n bytes from canonical byte `at` of tensor i. `rows`: how many to read at a time if it is
 * transposed. */
static int read_bytes(struct hf_in *s, int i, int64_t at, void *buf, int64_t n, int64_t rows,
                      struct err *e)
{
    const struct view *v = layout_view(&s->tensors.layout, i);
    int64_t row_bytes = v->cols * dtype_bytes(s->spec->tensors[i].dtype, 1);
    if (v->transposed)
        return row_block_read(&s->block, i, at, buf, n, rows, fill_block, s, e);
    for (int64_t done = 0, part; done < n; done += part) {
        int64_t p = at + done, run,
                row = layout_row(&s->tensors.layout, i, p / row_bytes, &v, &run);
        part = min64(n - done, run * row_bytes - p % row_bytes);
        if (sf_read(s->sf, s->tensors.found[v->stored], row * row_bytes + p % row_bytes,
                    (char *)buf + done, part, e))
            return -1;
    }
    return 0;
}

static int no_weights(const struct hf_in *s, struct err *e)
{
    static const char *const other[] = {"pytorch_model.bin", "pytorch_model.bin.index.json",
                                        "tf_model.h5", "flax_model.msgpack", "consolidated.00.pth"};
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
        char *path = mem_format("%s/%s", s->dir, other[i]);
        int there = !access(path, F_OK);
        free(path);
        if (there)
            return err_set(e,
                           "'%s' has weights only in %s: load it in transformers and write "
                           "model.safetensors with save_pretrained",
                           s->dir, other[i]);
    }
    return err_set(
        e, "'%s' has no weights: neither model.safetensors nor model.safetensors.index.json",
        s->dir);
}

static int hf_next(void *self, int i, struct err *e)
{
    const struct hf_in *s = self;
    (void)i;
    return s->sf ? 0 : no_weights(s, e);
}

static int hf_read(void *self, int i, int64_t at, void *buf, int64_t n, struct err *e)
{
    return read_bytes(self, i, at, buf, n, INT64_MAX, e);
}

static int hf_end(void *self, struct err *e)
{
    (void)self, (void)e;
    return 0; /* sizes were checked at open; there is nothing after the last tensor */
}

static int hf_peek(void *self, int i, void *bytes, int64_t n, struct err *e)
{
    struct hf_in *s = self;
    int64_t row_bytes = dtype_bytes(s->spec->tensors[i].dtype,
                                    layout_view(&s->tensors.layout, i)->cols);
    return read_bytes(s, i, 0, bytes, n, n ? (n + row_bytes - 1) / row_bytes : 0, e);
}

static const struct model_source hf_source = {hf_file, hf_next, hf_read, hf_end, hf_close};

/* ---- opening */

static void list_files(struct hf_in *s, struct model_spec *h)
{
    int n = 0;
    while (model_file_names[n])
        n++;
    h->files = mem_alloc((size_t)n * sizeof *h->files);
    for (int i = 0; i < n; i++) {
        struct stat st;
        char *path = mem_format("%s/%s", s->dir, model_file_names[i]);
        if (!stat(path, &st) && S_ISREG(st.st_mode)) {
            h->files[h->n_files].name = mem_string(model_file_names[i]);
            h->files[h->n_files].bytes = st.st_size;
            h->n_files++;
        }
        free(path);
    }
    s->n_files = h->n_files;
    s->files = mem_alloc((size_t)h->n_files * sizeof *s->files);
}

int hf_read_config(struct model_spec *h, const char *path, const char *name,
                   const char *const *ignored, struct err *e)
{
    json_t *config = json_parse_file(path, &config_limits, e);
    if (config && !json_is_object(config))
        err_set(e, "'%s' is not a JSON object", path);
    if (e->set) {
        json_decref(config);
        return -1;
    }
    for (; ignored && *ignored; ignored++)
        json_object_del(config, *ignored);
    int failed = model_spec_from_config(h, config, e);
    json_decref(config);
    if (failed) {
        char why[sizeof e->msg];
        memcpy(why, e->msg, sizeof why);
        e->set = 0;
        err_set(e, "'%s': %s", name, why);
    }
    return failed;
}

static int read_config(struct hf_in *s, struct model_spec *h, const char *const *ignored,
                       struct err *e)
{
    char *path = mem_format("%s/config.json", s->dir);
    if (access(path, F_OK))
        err_set(e, "'%s' is not a model directory: it has no config.json", s->dir);
    int failed = e->set || hf_read_config(h, path, s->dir, ignored, e);
    free(path);
    return failed ? -1 : 0;
}

static int has_weights(const struct hf_in *s)
{
    char *one = mem_format("%s/model.safetensors", s->dir),
         *index = mem_format("%s/model.safetensors.index.json", s->dir);
    int there = !access(one, F_OK) || !access(index, F_OK);
    free(one);
    free(index);
    return there;
}

static int open_parts(struct hf_in *s, struct model_spec *h, struct err *e)
{
    list_files(s, h);
    model_spec_list_tensors(h, DT_F32);
    if (has_weights(s) &&
        (!(s->sf = sf_open(s->dir, e)) || hf_layout_make(&s->tensors, h, s->sf, s->dir, e)))
        return -1;
    int64_t n;
    const char *tokenizer = hf_file(s, "tokenizer.json", &n, e);
    if (e->set)
        return -1;
    h->tokenizer_id[0] = 0;
    if (tokenizer)
        model_tokenizer_id(h->tokenizer_id, tokenizer, n);
    return model_root_id(h, s->sf ? hf_peek : NULL, s, e);
}

int hf_source_open(struct model_in *in, const char *dir, const char *const *ignored, struct err *e)
{
    struct hf_in *s = mem_alloc(sizeof *s);
    s->dir = mem_string(dir);
    for (size_t n = strlen(s->dir); n > 1 && s->dir[n - 1] == '/'; n--)
        s->dir[n - 1] = 0;
    s->spec = &in->spec;
    if (read_config(s, &in->spec, ignored, e)) {
        hf_close(s);
        return -1;
    }
    if (open_parts(s, &in->spec, e)) {
        hf_close(s);
        model_spec_free(&in->spec);
        return -1;
    }
    in->source = &hf_source;
    in->self = s;
    return 0;
}
