/* Writing GGUF: see gguf.h. In: metadata, tensors with their names, types and shapes, and their
 * bytes. Out: magic, version 3, counts, metadata, descriptions, and data that begin at multiples of
 * 32. Refused: tensors whose rows are not a multiple of their type's block, more or less data than
 * a tensor has, outputs that cannot be written out of order. */
#include "gguf.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../lib/base/file.h"
#include "../lib/base/file_out.h"
#include "../lib/base/mem.h"

enum { VERSION = 3, ALIGNMENT = 32 };

/* ---- metadata */

static void put(struct gguf_head *h, const void *bytes, size_t n)
{
    if (h->n + n > h->room) {
        h->room = 2 * (h->n + n) + 4096;
        h->bytes = mem_grow(h->bytes, h->room);
    }
    if (n)
        memcpy(h->bytes + h->n, bytes, n);
    h->n += n;
}

static void put_number(struct gguf_head *h, uint64_t x, int bytes)
{
    unsigned char at[8];
    for (int i = 0; i < bytes; i++)
        at[i] = (unsigned char)(x >> 8 * i);
    put(h, at, (size_t)bytes);
}

static void put_string(struct gguf_head *h, const char *s)
{
    put_number(h, strlen(s), 8);
    put(h, s, strlen(s));
}

static void put_f32(struct gguf_head *h, float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    put_number(h, bits, 4);
}

static void put_key(struct gguf_head *h, const char *key, enum gguf_kind kind)
{
    put_string(h, key);
    put_number(h, kind, 4);
    h->count++;
}

static void put_list(struct gguf_head *h, const char *key, enum gguf_kind kind, int64_t n)
{
    put_key(h, key, GGUF_LIST);
    put_number(h, kind, 4);
    put_number(h, (uint64_t)n, 8);
}

void gguf_put_text(struct gguf_head *h, const char *key, const char *text)
{
    put_key(h, key, GGUF_TEXT);
    put_string(h, text);
}

void gguf_put_u32(struct gguf_head *h, const char *key, int64_t value)
{
    put_key(h, key, GGUF_U32);
    put_number(h, (uint64_t)value, 4);
}

void gguf_put_real(struct gguf_head *h, const char *key, double value)
{
    put_key(h, key, GGUF_REAL32);
    put_f32(h, (float)value);
}

void gguf_put_flag(struct gguf_head *h, const char *key, int value)
{
    put_key(h, key, GGUF_BOOL);
    put_number(h, value != 0, 1);
}

void gguf_put_u32s(struct gguf_head *h, const char *key, const int64_t *values, int64_t n)
{
    put_list(h, key, GGUF_U32, n);
    for (int64_t i = 0; i < n; i++)
        put_number(h, (uint64_t)values[i], 4);
}

void gguf_put_flags(struct gguf_head *h, const char *key, const int64_t *values, int64_t n)
{
    put_list(h, key, GGUF_BOOL, n);
    for (int64_t i = 0; i < n; i++)
        put_number(h, values[i] != 0, 1);
}

void gguf_put_i32s(struct gguf_head *h, const char *key, const int32_t *values, int64_t n)
{
    put_list(h, key, GGUF_I32, n);
    for (int64_t i = 0; i < n; i++)
        put_number(h, (uint32_t)values[i], 4);
}

void gguf_put_reals(struct gguf_head *h, const char *key, const float *values, int64_t n)
{
    put_list(h, key, GGUF_REAL32, n);
    for (int64_t i = 0; i < n; i++)
        put_f32(h, values[i]);
}

void gguf_put_texts(struct gguf_head *h, const char *key, char *const *texts, int64_t n)
{
    put_list(h, key, GGUF_TEXT, n);
    for (int64_t i = 0; i < n; i++)
        put_string(h, texts[i]);
}

void gguf_head_free(struct gguf_head *h)
{
    free(h->bytes);
    *h = (struct gguf_head){0};
}

/* ---- the file */

struct gguf_out {
    struct file_out file;
    struct gguf_tensor *tensors; /* offsets are those in the file */
    int64_t *written;            /* bytes of each */
    int n;
};

static int64_t align(int64_t n) { return (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

/* Bytes and offsets, counted from the first tensor; *size: of all data. */
static int place(struct gguf_out *g, int64_t *size, struct err *e)
{
    *size = 0;
    for (int i = 0; i < g->n; i++) {
        struct gguf_tensor *t = &g->tensors[i];
        int64_t rows = 1;
        for (int d = 0; d < t->ndim - 1; d++)
            rows *= t->shape[d];
        t->bytes = gguf_bytes(t->type, t->shape[t->ndim - 1]);
        if (t->bytes < 0 || __builtin_mul_overflow(t->bytes, rows, &t->bytes) ||
            t->bytes > INT64_MAX / 2 - *size)
            return err_set(e, "'%s': tensor %s of type %s cannot be written", g->file.name, t->name,
                           gguf_type_name(t->type));
        t->offset = *size;
        *size += align(t->bytes);
    }
    return 0;
}

static void describe(struct gguf_head *h, const struct gguf_tensor *t)
{
    put_string(h, t->name);
    put_number(h, (uint64_t)t->ndim, 4);
    for (int d = t->ndim - 1; d >= 0; d--)
        put_number(h, (uint64_t)t->shape[d], 8);
    put_number(h, (uint64_t)gguf_type_number(t->type), 4);
    put_number(h, (uint64_t)t->offset, 8);
}

static int write_head(struct gguf_out *g, const struct gguf_head *head, int64_t size, struct err *e)
{
    struct gguf_head all = {0};
    put(&all, "GGUF", 4);
    put_number(&all, VERSION, 4);
    put_number(&all, (uint64_t)g->n, 8);
    put_number(&all, (uint64_t)head->count, 8);
    put(&all, head->bytes, head->n);
    for (int i = 0; i < g->n; i++)
        describe(&all, &g->tensors[i]);
    int64_t begin = align((int64_t)all.n);
    for (int i = 0; i < g->n; i++)
        g->tensors[i].offset += begin;
    int failed = file_pwrite(g->file.fd, g->file.name, all.bytes, (int64_t)all.n, 0, e);
    if (!failed && ftruncate(g->file.fd, begin + size))
        failed = err_set(e, "cannot write '%s':", g->file.name);
    gguf_head_free(&all);
    return failed;
}

struct gguf_out *gguf_create(const char *path, const struct gguf_head *head,
                             const struct gguf_tensor *tensors, int n, struct err *e)
{
    int64_t size;
    if (!file_is_replaced(path)) {
        err_set(e,
                "cannot write a GGUF file to '%s': its parts are not written in order, so it "
                "must be a file",
                path);
        return NULL;
    }
    struct gguf_out *g = mem_alloc(sizeof *g);
    if (file_create(&g->file, path, e)) {
        free(g);
        return NULL;
    }
    g->n = n;
    g->tensors = mem_alloc((size_t)n * sizeof *tensors);
    g->written = mem_alloc((size_t)n * sizeof *g->written);
    memcpy(g->tensors, tensors, (size_t)n * sizeof *tensors);
    if (!place(g, &size, e) && !write_head(g, head, size, e))
        return g;
    gguf_abandon(g);
    return NULL;
}

const char *gguf_out_path(const struct gguf_out *g) { return g->file.temporary.path; }

int gguf_write(struct gguf_out *g, int i, int64_t offset, const void *buf, int64_t n, struct err *e)
{
    const struct gguf_tensor *t = &g->tensors[i];
    if (n < 0 || offset < 0 || offset > t->bytes || n > t->bytes - offset)
        return err_set(e, "'%s': %" PRId64 " bytes at offset %" PRId64 " are outside tensor %s",
                       g->file.name, n, offset, t->name);
    g->written[i] += n;
    return file_pwrite(g->file.fd, g->file.name, buf, n, t->offset + offset, e);
}

static void release(struct gguf_out *g)
{
    free(g->tensors);
    free(g->written);
    free(g);
}

int gguf_finish(struct gguf_out *g, struct err *e)
{
    for (int i = 0; i < g->n; i++)
        if (g->written[i] != g->tensors[i].bytes) {
            err_set(e, "'%s': tensor %s got %" PRId64 " of its %" PRId64 " bytes", g->file.name,
                    g->tensors[i].name, g->written[i], g->tensors[i].bytes);
            gguf_abandon(g);
            return -1;
        }
    int failed = file_publish(&g->file, e);
    release(g);
    return failed;
}

void gguf_abandon(struct gguf_out *g)
{
    if (!g)
        return;
    file_abandon(&g->file);
    release(g);
}
