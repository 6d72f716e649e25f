/* A Hugging Face directory as a MODEL operand: config.json, safetensors (one file or shards with an
 * index), the files that travel. Gives canonical tensors in stream order with their dtypes kept, in
 * constant memory: straight ranges by pread, transposed ones by blocks of rows.
 *
 * Accepted from older or converted checkpoints: names without the base prefix, another name for the
 * head, rotary tables and causal masks (ignored), a head beside tied embeddings (equal: ignored;
 * different: the model is not tied), a tied model that stores only its head. Refused: missing,
 * unexpected or misshapen tensors, dtypes that are not floating point, an unreadable config.json. A
 * directory without safetensors still has a spec and a tokenizer (kd-train --init random,
 * tokenize): it is refused only when its tensors are read. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../formats/json.h"
#include "../../formats/safetensors.h"
#include "../base/file.h"
#include "../base/minmax.h"
#include "../base/text.h"
#include "transpose.h"
#include "../model/model.h"

static const struct json_limits config_limits = {4 << 20, 200000, 16};

struct hf_in {
    char *dir;
    const struct model_spec *spec;
    struct safetensors *sf; /* NULL: no weights */
    struct layout layout;
    int prefixed; /* names have the base model's prefix */
    int *found;   /* [layout.n_stored]: index in sf */
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
    layout_free(&s->layout);
    free(s->found);
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
 * stored tensor [cols, stored_rows], into block [n, cols]. */
static int read_columns(struct hf_in *s, const struct view *v, int64_t row, int64_t n, int64_t size,
                        unsigned char *block, unsigned char *tile, struct err *e)
{
    for (int64_t c = 0; c < v->cols; c += HF_TILE) {
        int64_t m = v->cols - c < HF_TILE ? v->cols - c : HF_TILE;
        for (int64_t k = 0; k < m; k++)
            if (sf_read(s->sf, s->found[v->stored], ((c + k) * v->stored_rows + row) * size,
                        tile + k * n * size, n * size, e))
                return -1;
        hf_transpose(block + c * size, v->cols, tile, n, m, n, size);
    }
    return 0;
}

/* A row_block_fill, for transposed tensors. */
static int fill_block(void *self, int i, int64_t at, int64_t rows, struct err *e)
{
    struct hf_in *s = self;
    const struct view *v = layout_view(&s->layout, i);
    int64_t size = dtype_bytes(s->spec->tensors[i].dtype, 1), row_bytes = v->cols * size,
            r = at / row_bytes, run, row = layout_row(&s->layout, i, r, &v, &run);
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
    const struct view *v = layout_view(&s->layout, i);
    int64_t row_bytes = v->cols * dtype_bytes(s->spec->tensors[i].dtype, 1);
    if (v->transposed)
        return row_block_read(&s->block, i, at, buf, n, rows, fill_block, s, e);
    for (int64_t done = 0, part; done < n; done += part) {
        int64_t p = at + done, run, row = layout_row(&s->layout, i, p / row_bytes, &v, &run);
        part = min64(n - done, run * row_bytes - p % row_bytes);
        if (sf_read(s->sf, s->found[v->stored], row * row_bytes + p % row_bytes, (char *)buf + done,
                    part, e))
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
    int64_t row_bytes = dtype_bytes(s->spec->tensors[i].dtype, layout_view(&s->layout, i)->cols);
    return read_bytes(s, i, 0, bytes, n, n ? (n + row_bytes - 1) / row_bytes : 0, e);
}

static const struct model_source hf_source = {hf_file, hf_next, hf_read, hf_end, hf_close};

/* ---- matching names */

/* Tables and masks that older releases saved beside the weights. */
static int is_buffer(const char *name)
{
    return text_ends(name, "rotary_emb.inv_freq") || text_ends(name, ".attn.bias") ||
           text_ends(name, ".attn.masked_bias") || text_ends(name, ".attention.bias") ||
           text_ends(name, ".attention.masked_bias");
}

static int has_prefix(const struct safetensors *sf, const char *prefix)
{
    for (int i = 0; i < sf_count(sf); i++)
        if (!strncmp(sf_tensor(sf, i)->name, prefix, strlen(prefix)))
            return 1;
    return 0;
}

/* A checkpoint saved from the base model lacks the prefix everywhere. */
static int find_stored(const struct hf_in *s, const char *name)
{
    const char *prefix = s->spec->family->base_prefix;
    int lacking = !s->prefixed && text_begins(name, prefix);
    return sf_find(s->sf, lacking ? name + strlen(prefix) : name);
}

static int has_stored(void *self, const char *name) { return find_stored(self, name) >= 0; }

/* The tensor outside the blocks that stores this canonical one alone: its index and its name in the
 * file; if absent, -1 and the expected name. */
static int find_alone(const struct hf_in *s, const char *stem, char name[TENSOR_NAME])
{
    const struct family_stored *row = s->spec->family->stored;
    int found = -1;
    *name = 0;
    for (; found < 0 && row->name; row++)
        if (!strcmp(row->layout, stem)) {
            char other[TENSOR_NAME];
            snprintf(other, TENSOR_NAME, "%s.weight", row->name);
            found = find_stored(s, other);
            if (found >= 0 || !*name)
                strcpy(name, other);
        }
    return found;
}

static int same_bytes(const struct hf_in *s, int a, int b, struct err *e)
{
    const struct tensor *x = sf_tensor(s->sf, a), *y = sf_tensor(s->sf, b);
    int64_t n = tensor_bytes(x);
    if (x->dtype != y->dtype || !tensor_same_shape(x, y))
        return 0;
    char *block = mem_alloc(2 << 20);
    int same = 1;
    for (int64_t at = 0; at < n && same; at += 1 << 20) {
        int64_t part = min64(n - at, 1 << 20);
        same = !sf_read(s->sf, a, at, block, part, e) &&
               !sf_read(s->sf, b, at, block + (1 << 20), part, e) &&
               !memcmp(block, block + (1 << 20), (size_t)part);
    }
    free(block);
    return same;
}

/* A model that says it is tied may still store its head. Returns the sf index to use for the
 * embeddings instead (-1: none); sets *ignore to a head that only repeats them; unties the model in
 * h where head and embeddings differ. */
static int resolve_tie(struct hf_in *s, struct model_spec *h, int *ignore, struct err *e)
{
    char name[TENSOR_NAME];
    *ignore = -1;
    if (!h->tie_word_embeddings)
        return -1;
    int x = find_alone(s, "lm_head", name), w = find_alone(s, "embed_tokens", name);
    if (x < 0 || w < 0)
        return x;
    if (same_bytes(s, x, w, e)) {
        *ignore = x;
        return -1;
    }
    h->tie_word_embeddings = 0;
    json_object_set_new(h->config, "tie_word_embeddings", json_false());
    model_spec_list_tensors(h, DT_F32);
    return -1;
}

static int match_tensor(const struct hf_in *s, const struct tensor *want, int k, struct err *e)
{
    if (k < 0)
        return err_set(e, "'%s' has no tensor %s, which its config.json requires", s->dir,
                       want->name);
    const struct tensor *t = sf_tensor(s->sf, k);
    char found[TENSOR_SHAPE], expected[TENSOR_SHAPE];
    if (!tensor_same_shape(t, want))
        return err_set(e, "'%s': tensor %s has shape %s; config.json requires %s", s->dir, t->name,
                       tensor_shape(t, found), tensor_shape(want, expected));
    if (t->dtype != DT_F64 && t->dtype != DT_F32 && t->dtype != DT_F16 && t->dtype != DT_BF16)
        return err_set(e, "'%s': tensor %s has dtype %s; weights must be f64, f32, f16 or bf16",
                       s->dir, t->name, dtype_name(t->dtype));
    return 0;
}

/* Dtypes of the canonical tensors: those of their views, which must all be the same. */
static int take_dtypes(struct hf_in *s, struct model_spec *h, struct err *e)
{
    for (int i = 0; i < h->n_tensors; i++) {
        const struct view_list *list = &s->layout.of[i];
        const struct tensor *first = sf_tensor(s->sf, s->found[list->views[0].stored]);
        for (int k = 1; k < list->n; k++) {
            const struct tensor *t = sf_tensor(s->sf, s->found[list->views[k].stored]);
            if (t->dtype != first->dtype)
                return err_set(e, "'%s': tensors %s and %s have different dtypes (%s, %s)", s->dir,
                               first->name, t->name, dtype_name(first->dtype),
                               dtype_name(t->dtype));
        }
        h->tensors[i].dtype = first->dtype;
    }
    return 0;
}

static int match_tensors(struct hf_in *s, struct model_spec *h, struct err *e)
{
    s->prefixed = has_prefix(s->sf, h->family->base_prefix);
    int ignore, embed = resolve_tie(s, h, &ignore, e);
    if (e->set || layout_make(&s->layout, h, h->family->stored, 0, has_stored, s, e))
        return -1;
    s->found = mem_alloc((size_t)s->layout.n_stored * sizeof *s->found);
    char *used = mem_alloc((size_t)sf_count(s->sf)), embed_name[TENSOR_NAME] = "";
    int failed = 0;
    if (embed >= 0)
        find_alone(s, "embed_tokens", embed_name);
    if (ignore >= 0)
        used[ignore] = 1;
    for (int i = 0; i < s->layout.n_stored && !failed; i++) {
        const struct tensor *want = &s->layout.stored[i];
        int k = strcmp(want->name, embed_name) ? find_stored(s, want->name) : embed;
        failed = match_tensor(s, want, k, e);
        s->found[i] = k;
        if (!failed)
            used[k] = 1;
    }
    for (int i = 0; i < sf_count(s->sf) && !failed; i++)
        if (!used[i] && !is_buffer(sf_tensor(s->sf, i)->name))
            failed = err_set(
                e, "'%s' has tensor %s, which family %s with this config.json does not know",
                s->dir, sf_tensor(s->sf, i)->name, h->family->name);
    free(used);
    return failed || take_dtypes(s, h, e) ? -1 : 0;
}

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

static int read_config(struct hf_in *s, struct model_spec *h, struct err *e)
{
    char *path = mem_format("%s/config.json", s->dir);
    if (access(path, F_OK))
        err_set(e, "'%s' is not a model directory: it has no config.json", s->dir);
    json_t *config = e->set ? NULL : json_parse_file(path, &config_limits, e);
    if (config && !json_is_object(config))
        err_set(e, "'%s' is not a JSON object", path);
    free(path);
    if (e->set) {
        json_decref(config);
        return -1;
    }
    int failed = model_spec_from_config(h, config, e);
    json_decref(config);
    if (failed) {
        char why[sizeof e->msg];
        memcpy(why, e->msg, sizeof why);
        e->set = 0;
        err_set(e, "'%s': %s", s->dir, why);
    }
    return failed;
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
    if (has_weights(s) && (!(s->sf = sf_open(s->dir, e)) || match_tensors(s, h, e)))
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

int hf_source_open(struct model_in *in, const char *dir, struct err *e)
{
    struct hf_in *s = mem_alloc(sizeof *s);
    s->dir = mem_string(dir);
    for (size_t n = strlen(s->dir); n > 1 && s->dir[n - 1] == '/'; n--)
        s->dir[n - 1] = 0;
    s->spec = &in->spec;
    if (read_config(s, &in->spec, e)) {
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
