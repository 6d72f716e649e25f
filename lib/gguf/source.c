/* A GGUF file as a MODEL operand. Gives canonical tensors in stream order: fused ones split, q and
 * k rows restored to half-split order where the architecture permutes them, 1 subtracted from norms
 * stored as 1 + w, logarithms taken of Mamba's A; unquantised tensors and Q8_0 keep their bytes,
 * the others become f32. Constant memory: blocks of rows, or one expert's matrix. config.json and
 * the tokenizer's files are made from the metadata; a tokenizer that cannot be rebuilt is an error
 * only when tokenizer.json is asked for. Refused: whatever formats/gguf.c, gguf/config.c and
 * gguf/tensors.c refuse, and architectures without a family. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../base/minmax.h"
#include "gguf_private.h"
#include "../model/model.h"

enum { BLOCK = 4 << 20 }; /* bytes of canonical rows held at once; at least one row */

struct gguf_in {
    struct gguf *g;
    struct model_spec *spec;
    struct gguf_layout tensors;
    char *files[4];          /* texts of spec->files, see make_files */
    struct err no_tokenizer; /* why there is no tokenizer.json */
    struct row_block block;
};

static void gguf_in_close(void *self)
{
    struct gguf_in *s = self;
    for (size_t i = 0; i < sizeof s->files / sizeof *s->files; i++)
        free(s->files[i]);
    gguf_layout_free(&s->tensors);
    row_block_close(&s->block);
    gguf_close(s->g);
    free(s);
}

static const char *gguf_in_file(void *self, const char *name, int64_t *bytes, struct err *e)
{
    const struct gguf_in *s = self;
    for (int i = 0; i < s->spec->n_files; i++)
        if (!strcmp(s->spec->files[i].name, name)) {
            if (bytes)
                *bytes = s->spec->files[i].bytes;
            return s->files[i];
        }
    if (!strcmp(name, "tokenizer.json") && s->no_tokenizer.set)
        err_set(e, "%s", s->no_tokenizer.msg);
    return NULL;
}

/* ---- tensors */

/* The stored bytes of rows r .. r + n - 1 of canonical tensor i. */
static int read_rows(struct gguf_in *s, int i, int64_t r, int64_t n, int64_t row_bytes,
                     unsigned char *to, struct err *e)
{
    const struct view *v;
    for (int64_t end = r + n, run; r < end; r += run) {
        int64_t row = layout_row(&s->tensors.layout, i, r, &v, &run);
        run = min64(run, end - r);
        if (gguf_read(s->g, s->tensors.found[v->stored], row * row_bytes, to, run * row_bytes, e))
            return -1;
        to += run * row_bytes;
    }
    return 0;
}

/* A whole block of a transposed tensor, [block, cols] from the stored [cols, block]: of unit r /
 * block. Its type is unquantised, or it becomes f32. */
static int fill_transposed(struct gguf_in *s, int i, int64_t r, struct err *e)
{
    const struct view *v = layout_view(&s->tensors.layout, i);
    const struct tensor *t = &s->spec->tensors[i];
    int stored = s->tensors.found[v->stored];
    enum gguf_type type = gguf_tensor(s->g, stored)->type;
    int64_t n = v->block * v->cols, raw_bytes = v->cols * gguf_bytes(type, v->block),
            unit = r / v->block;
    unsigned char *raw;
    if (row_block_room(&s->block, dtype_bytes(t->dtype, n), raw_bytes + 8 * n, &raw, e) ||
        gguf_read(s->g, stored, unit * raw_bytes, raw + 8 * n, raw_bytes, e))
        return -1;
    float *values = (float *)raw, *turned = values + n;
    gguf_dequantize(type, values, raw + 8 * n, n);
    for (int64_t k = 0; k < v->block; k++)
        for (int64_t c = 0; c < v->cols; c++)
            turned[k * v->cols + c] = values[c * v->block + k];
    from_f32(s->block.memory.base, t->dtype, turned, n);
    s->block.at = unit * dtype_bytes(t->dtype, n);
    s->block.bytes = dtype_bytes(t->dtype, n);
    return 0;
}

/* A row_block_fill. */
static int fill_block(void *self, int i, int64_t at, int64_t rows, struct err *e)
{
    struct gguf_in *s = self;
    const struct view *v = layout_view(&s->tensors.layout, i);
    const struct tensor *t = &s->spec->tensors[i];
    enum gguf_type type = gguf_tensor(s->g, s->tensors.found[v->stored])->type;
    int64_t raw_bytes = gguf_bytes(type, v->cols), row_bytes = dtype_bytes(t->dtype, v->cols),
            r = at / row_bytes, left = tensor_count(t) / v->cols - r;
    int64_t fit = BLOCK / row_bytes, n = min64(min64(rows, left), fit ? fit : 1);
    int plus1 = gguf_is_plus1(s->spec, i), decay = gguf_is_decay(s->spec, i),
        same = raw_bytes == row_bytes && !plus1 && !decay;
    unsigned char *raw;
    if (v->transposed)
        return fill_transposed(s, i, r, e);
    if (row_block_room(&s->block, n * row_bytes, same ? 0 : n * raw_bytes, &raw, e) ||
        read_rows(s, i, r, n, raw_bytes, same ? s->block.memory.base : raw, e))
        return -1;
    float *values = (float *)s->block.memory.base;
    if (!same)
        gguf_dequantize(type, values, raw, n * v->cols);
    for (int64_t k = 0; plus1 && k < n * v->cols; k++)
        values[k] -= 1;
    for (int64_t k = 0; decay && k < n * v->cols; k++)
        values[k] = logf(-values[k]);
    s->block.at = r * row_bytes;
    s->block.bytes = n * row_bytes;
    return 0;
}

static int gguf_in_next(void *self, int i, struct err *e)
{
    (void)self, (void)i, (void)e;
    return 0;
}

static int gguf_in_read(void *self, int i, int64_t at, void *buf, int64_t n, struct err *e)
{
    struct gguf_in *s = self;
    return row_block_read(&s->block, i, at, buf, n, INT64_MAX, fill_block, s, e);
}

static int gguf_in_end(void *self, struct err *e)
{
    (void)self, (void)e;
    return 0; /* sizes were checked at open */
}

static int gguf_in_peek(void *self, int i, void *bytes, int64_t n, struct err *e)
{
    struct gguf_in *s = self;
    int64_t row_bytes = dtype_bytes(s->spec->tensors[i].dtype,
                                    layout_view(&s->tensors.layout, i)->cols);
    return row_block_read(&s->block, i, 0, bytes, n, (n + row_bytes - 1) / row_bytes, fill_block, s,
                          e);
}

static const struct model_source gguf_source = {gguf_in_file, gguf_in_next, gguf_in_read,
                                                gguf_in_end, gguf_in_close};

/* ---- opening */

/* Is the output head missing, or a copy of the embedding (some architectures demand a head)? */
static int is_tied(struct gguf_in *s, struct err *e)
{
    int head = gguf_find(s->g, "output.weight"), embed = gguf_find(s->g, "token_embd.weight");
    if (head < 0 || embed < 0)
        return head < 0;
    const struct gguf_tensor *a = gguf_tensor(s->g, head), *b = gguf_tensor(s->g, embed);
    int same = a->type == b->type && a->bytes == b->bytes;
    char *block = mem_alloc(2 << 20);
    for (int64_t at = 0; same && at < a->bytes; at += 1 << 20) {
        int64_t n = a->bytes - at < 1 << 20 ? a->bytes - at : 1 << 20;
        same = !gguf_read(s->g, head, at, block, n, e) &&
               !gguf_read(s->g, embed, at, block + (1 << 20), n, e) &&
               !memcmp(block, block + (1 << 20), (size_t)n);
    }
    free(block);
    return same;
}

static void add_file(struct gguf_in *s, const char *name, char *text)
{
    struct model_spec *h = s->spec;
    if (!text)
        return;
    assert(h->n_files < (int)(sizeof s->files / sizeof *s->files));
    h->files[h->n_files].name = mem_string(name);
    h->files[h->n_files].bytes = (int64_t)strlen(text);
    s->files[h->n_files++] = text;
}

static void make_files(struct gguf_in *s)
{
    s->spec->files = mem_alloc(sizeof s->files / sizeof *s->files * sizeof *s->spec->files);
    add_file(s, "tokenizer.json", gguf_tokenizer_json(s->g, &s->no_tokenizer));
    if (s->spec->n_files)
        model_tokenizer_id(s->spec->tokenizer_id, s->files[0], s->spec->files[0].bytes);
    add_file(s, "tokenizer_config.json", gguf_tokenizer_config(s->g));
    add_file(s, "generation_config.json", gguf_generation_config(s->g));
    add_file(s, "README.md", gguf_card(s->g));
}

/* "tensors become f32: 210 of type Q4_1, 1 of type Q6_K", and why there is no tokenizer. */
static char *make_note(const struct gguf_in *s)
{
    int count[GGUF_TYPE_COUNT] = {0};
    char *note = mem_string("");
    for (int i = 0; i < gguf_count(s->g); i++)
        count[gguf_tensor(s->g, i)->type]++;
    for (int t = 0; t < GGUF_TYPE_COUNT; t++)
        if (count[t] && gguf_dtype((enum gguf_type)t) < 0)
            note = mem_append(note, "%s%d of type %s",
                              *note ? ", " : "tensors become f32: ", count[t],
                              gguf_type_name((enum gguf_type)t));
    if (s->no_tokenizer.set)
        note = mem_append(note, "%sno tokenizer.json: %s", *note ? "; " : "", s->no_tokenizer.msg);
    return note;
}

enum gguf_fit gguf_read_as(struct gguf *g, const struct family *f, const struct family_gguf *row,
                           int tied, struct model_spec *spec, struct gguf_layout *tensors,
                           struct err *e)
{
    json_t *config = gguf_config(g, f, row, tied, e);
    if (e->set || model_spec_from_config(spec, config, e)) {
        char why[sizeof e->msg];
        memcpy(why, e->msg, sizeof why);
        if (config) { /* the user never saw this config: name the metadata it came from */
            e->set = 0;
            err_set(e, "'%s': %s", gguf_path(g), why);
        }
        json_decref(config);
        return GGUF_OTHER_METADATA;
    }
    json_decref(config);
    model_spec_list_tensors(spec, DT_F32);
    if (!gguf_layout_make(tensors, spec, g, row, e))
        return GGUF_FITS;
    model_spec_free(spec);
    return GGUF_OTHER_TENSORS;
}

/* "llama, qwen2, ...": the architectures of all families, each once; free() it. */
static char *list_architectures(void)
{
    char *list = mem_string("");
    for (int i = 0; families[i]; i++) {
        const char *arch = families[i]->gguf->arch;
        int seen = 0;
        for (int k = 0; k < i && arch; k++)
            seen |= families[k]->gguf->arch && !strcmp(families[k]->gguf->arch, arch);
        if (!arch || seen)
            continue;
        list = mem_append(list, "%s%s", *list ? ", " : "", arch);
    }
    return list;
}

/* Opens it as the first family of its architecture that explains all of it: llama.cpp runs several
 * families as one architecture; they differ in biases and windows. If none fits, the error is that
 * of the closest. */
static int open_architecture(struct gguf_in *s, const char *arch, struct err *e)
{
    int tied = is_tied(s, e);
    enum gguf_fit nearest = GGUF_OTHER_METADATA + 1;
    struct err reason = {0};
    for (int i = 0; families[i] && !e->set; i++)
        for (const struct family_gguf *row = families[i]->gguf; row->arch; row++) {
            if (strcmp(row->arch, arch))
                continue;
            struct err why = {0};
            enum gguf_fit fit = gguf_read_as(s->g, families[i], row, tied, s->spec, &s->tensors,
                                             &why);
            if (fit == GGUF_FITS)
                return 0;
            if (fit < nearest) {
                nearest = fit;
                reason = why;
            }
        }
    if (reason.set)
        return err_set(e, "%s", reason.msg);
    char *list = list_architectures();
    err_set(e, "'%s' has architecture %.60s, which is not supported (supported are %s)",
            gguf_path(s->g), arch, list);
    free(list);
    return -1;
}

static int open_parts(struct gguf_in *s, struct err *e)
{
    char *arch = gguf_meta_text(s->g, "general.architecture");
    int failed = arch ? open_architecture(s, arch, e)
                      : err_set(e, "'%s' has no general.architecture", gguf_path(s->g));
    free(arch);
    if (failed)
        return -1;
    make_files(s);
    if (!model_root_id(s->spec, gguf_in_peek, s, e))
        return 0;
    model_spec_free(s->spec);
    return -1;
}

int gguf_source_open(struct model_in *in, const char *path, struct err *e)
{
    struct gguf *g = gguf_open(path, e);
    if (!g)
        return -1;
    struct gguf_in *s = mem_alloc(sizeof *s);
    s->g = g;
    s->spec = &in->spec;
    if (open_parts(s, e)) {
        gguf_in_close(s);
        return -1;
    }
    in->note = make_note(s);
    in->source = &gguf_source;
    in->self = s;
    return 0;
}
