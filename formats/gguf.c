/* Reading GGUF: see gguf.h. The header is parsed in place by a cursor that loads the file as it
 * advances, so memory is bounded by the bytes actually present; every count and length is checked
 * against them before use. */
#include "gguf.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../lib/base/file.h"
#include "../lib/base/mem.h"
#include "../lib/base/names.h"

enum { VALUES_MAX = 4096, TENSORS_MAX = 1 << 17, KEY_MAX = 200, HEADER_MAX = 1 << 29 };

static const struct {
    const char *name;
    int number, values, bytes;
} types[] = {
#define X(id, number, values, bytes) {#id, number, values, bytes},
    GGUF_TYPES(X)
#undef X
};

/* Names of the unsupported types, by their number in the file. */
static const char *const other_types[] = {
    [9] = "Q8_1",    [10] = "Q2_K",    [11] = "Q3_K",  [15] = "Q8_K",   [16] = "IQ2_XXS",
    [17] = "IQ2_XS", [18] = "IQ3_XXS", [19] = "IQ1_S", [20] = "IQ4_NL", [21] = "IQ3_S",
    [22] = "IQ2_S",  [23] = "IQ4_XS",  [24] = "I8",    [25] = "I16",    [26] = "I32",
    [27] = "I64",    [28] = "F64",     [29] = "IQ1_M", [34] = "TQ1_0",  [35] = "TQ2_0",
    [39] = "MXFP4",
};

/* Bytes of a value of each kind; 0: variable. */
static const int kind_bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

struct gguf {
    int fd;
    char *path;
    int64_t size;        /* of the file */
    unsigned char *head; /* the file's first `loaded` bytes */
    int64_t loaded, at;  /* at: the cursor while parsing */
    struct gguf_value *values;
    struct gguf_tensor *tensors;
    struct names names; /* of tensors */
    int n_values, n_tensors;
};

const char *gguf_type_name(enum gguf_type t) { return types[t].name; }
int gguf_type_number(enum gguf_type t) { return types[t].number; }
int gguf_block(enum gguf_type t) { return types[t].values; }

int gguf_dtype(enum gguf_type t)
{
    switch (t) {
    case GGUF_F32: return DT_F32;
    case GGUF_F16: return DT_F16;
    case GGUF_BF16: return DT_BF16;
    case GGUF_Q8_0: return DT_Q8_0;
    default: return -1;
    }
}

int64_t gguf_bytes(enum gguf_type t, int64_t n)
{
    int64_t bytes;
    if (n < 0 || n % types[t].values ||
        __builtin_mul_overflow(n / types[t].values, types[t].bytes, &bytes))
        return -1;
    return bytes;
}

/* ---- the cursor */

/* The next n bytes of the header; NULL if the file does not have them. Pointers into the header
 * move while it is loaded. */
static const unsigned char *take(struct gguf *g, int64_t n, struct err *e)
{
    if (n < 0 || n > g->size - g->at || g->at + n > HEADER_MAX) {
        err_set(e, "'%s': the header ends after byte %" PRId64 ", the end of the file (truncated?)",
                g->path, g->size < HEADER_MAX ? g->size : HEADER_MAX);
        return NULL;
    }
    if (g->at + n > g->loaded) {
        int64_t want = 2 * g->loaded > g->at + n ? 2 * g->loaded : g->at + n;
        want = want < 1 << 16 ? 1 << 16 : want;
        want = want > g->size ? g->size : want;
        g->head = mem_grow(g->head, (size_t)want);
        if (file_pread(g->fd, g->path, g->head + g->loaded, want - g->loaded, g->loaded, e))
            return NULL;
        g->loaded = want;
    }
    g->at += n;
    return g->head + g->at - n;
}

static uint64_t number_at(const unsigned char *p, int bytes)
{
    uint64_t x = 0;
    for (int i = 0; i < bytes; i++)
        x |= (uint64_t)p[i] << 8 * i;
    return x;
}

static uint64_t take_number(struct gguf *g, int bytes, struct err *e)
{
    const unsigned char *p = take(g, bytes, e);
    return p ? number_at(p, bytes) : 0;
}

/* Reads a length or count, and refuses one whose elements of `each` bytes exceed the rest of the
 * file. */
static int64_t take_count(struct gguf *g, int64_t each, const char *what, struct err *e)
{
    uint64_t n = take_number(g, 8, e);
    if (!e->set && n > (uint64_t)((g->size - g->at) / each))
        err_set(e, "'%s': %s is %" PRIu64 ", more than the rest of the file can hold (truncated?)",
                g->path, what, n);
    return e->set ? 0 : (int64_t)n;
}

static int is_clean(const unsigned char *s, int64_t n, int64_t max)
{
    for (int64_t i = 0; i < n; i++)
        if (s[i] < ' ' || s[i] > 126)
            return 0;
    return n > 0 && n < max;
}

/* ---- metadata. While the header is being loaded it may move, so positions are kept as offsets;
 * settle() turns them into pointers. */

static const void *placed(int64_t at) { return (const void *)(uintptr_t)at; }

static int skip_members(struct gguf *g, const struct gguf_value *v, struct err *e)
{
    if (v->kind != GGUF_TEXT)
        return take(g, v->n * kind_bytes[v->kind], e) ? 0 : -1;
    for (int64_t i = 0; i < v->n && !e->set; i++)
        take(g, take_count(g, 1, "the length of a text", e), e);
    return e->set ? -1 : 0;
}

static int parse_kind(struct gguf *g, struct err *e)
{
    uint64_t kind = take_number(g, 4, e);
    if (!e->set && kind > GGUF_REAL64)
        err_set(e, "'%s': unknown metadata type %" PRIu64, g->path, kind);
    return e->set ? 0 : (int)kind;
}

static int parse_value(struct gguf *g, struct gguf_value *v, struct err *e)
{
    v->key.n = take_count(g, 1, "the length of a key", e);
    const unsigned char *key = take(g, v->key.n, e);
    if (!key)
        return -1;
    if (!is_clean(key, v->key.n, KEY_MAX))
        return err_set(e,
                       "'%s': the metadata key at byte %" PRId64
                       " is empty, longer than %d bytes, or not plain text",
                       g->path, g->at - v->key.n, KEY_MAX - 1);
    v->key.s = placed(key - g->head);
    v->kind = parse_kind(g, e);
    v->n = 1;
    if (v->kind == GGUF_LIST) {
        v->list = 1;
        v->kind = parse_kind(g, e);
        if (v->kind == GGUF_LIST)
            return err_set(e,
                           "'%s': the metadata at byte %" PRId64
                           " is a list of lists, which is not supported",
                           g->path, g->at);
        v->n = take_count(g, v->kind == GGUF_TEXT ? 8 : kind_bytes[v->kind], "the length of a list",
                          e);
    }
    v->at = placed(g->at);
    v->bytes = -g->at;
    if (e->set || skip_members(g, v, e))
        return -1;
    v->bytes += g->at;
    return 0;
}

static int same_text(struct gguf_text a, const char *s, size_t n)
{
    return (size_t)a.n == n && !memcmp(a.s, s, n);
}

static int settle(struct gguf *g, struct err *e)
{
    for (int i = 0; i < g->n_values; i++) {
        struct gguf_value *v = &g->values[i];
        v->key.s = (const char *)g->head + (uintptr_t)v->key.s;
        v->at = g->head + (uintptr_t)v->at;
        for (int k = 0; k < i; k++)
            if (same_text(v->key, g->values[k].key.s, (size_t)g->values[k].key.n))
                return err_set(e, "'%s' has metadata key %.*s twice", g->path, (int)v->key.n,
                               v->key.s);
    }
    return 0;
}

/* ---- tensors */

static int parse_type(struct gguf *g, struct gguf_tensor *t, struct err *e)
{
    uint64_t number = take_number(g, 4, e);
    if (e->set)
        return -1;
    for (t->type = 0; t->type < GGUF_TYPE_COUNT; t->type++)
        if ((uint64_t)types[t->type].number == number)
            return 0;
    const char *name = number < sizeof other_types / sizeof *other_types ? other_types[number]
                                                                         : NULL;
    return err_set(
        e,
        "'%s': tensor %s has type %s (%" PRIu64
        "); supported are F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K and Q6_K",
        g->path, t->name, name ? name : "unknown", number);
}

static int parse_shape(struct gguf *g, struct gguf_tensor *t, struct err *e)
{
    uint64_t dims = take_number(g, 4, e);
    if (!e->set && (dims < 1 || dims > 4))
        err_set(e, "'%s': tensor %s has %" PRIu64 " dimensions, not 1 to 4", g->path, t->name,
                dims);
    t->ndim = e->set ? 0 : (int)dims;
    for (int i = t->ndim - 1; i >= 0; i--) {
        uint64_t size = take_number(g, 8, e);
        if (!e->set && (!size || size > INT64_MAX))
            err_set(e, "'%s': tensor %s has a dimension of %" PRIu64, g->path, t->name, size);
        t->shape[i] = (int64_t)size;
    }
    return e->set ? -1 : 0;
}

static int parse_tensor(struct gguf *g, struct gguf_tensor *t, struct err *e)
{
    int64_t n = take_count(g, 1, "the length of a tensor's name", e), count = 1;
    const unsigned char *name = take(g, n, e);
    if (!name)
        return -1;
    if (!is_clean(name, n, TENSOR_NAME))
        return err_set(e,
                       "'%s': the tensor name at byte %" PRId64
                       " is empty, longer than %d bytes, or not plain text",
                       g->path, g->at - n, TENSOR_NAME - 1);
    memcpy(t->name, name, (size_t)n);
    if (parse_shape(g, t, e) || parse_type(g, t, e))
        return -1;
    uint64_t offset = take_number(g, 8, e);
    int overflow = 0;
    for (int i = 0; i < t->ndim; i++)
        overflow |= __builtin_mul_overflow(count, t->shape[i], &count);
    t->bytes = overflow || gguf_bytes(t->type, t->shape[t->ndim - 1]) < 0
                   ? -1
                   : gguf_bytes(t->type, count);
    if (!e->set && t->bytes < 0)
        err_set(e,
                "'%s': tensor %s of type %s has rows of %" PRId64
                " values, not a whole number of blocks, or is too large",
                g->path, t->name, types[t->type].name, t->shape[t->ndim - 1]);
    if (!e->set && offset > INT64_MAX)
        err_set(e, "'%s': tensor %s at offset %" PRIu64 " is outside the file", g->path, t->name,
                offset);
    t->offset = (int64_t)offset;
    return e->set ? -1 : 0;
}

static int offset_order(const void *a, const void *b, void *tensors)
{
    const struct gguf_tensor *x = &((const struct gguf_tensor *)tensors)[*(const int *)a],
                             *y = &((const struct gguf_tensor *)tensors)[*(const int *)b];
    return (x->offset > y->offset) - (x->offset < y->offset);
}

/* Tensors must not overlap, as in llama.cpp. */
static int check_overlap(const struct gguf *g, struct err *e)
{
    int *by_offset = mem_alloc((size_t)g->n_tensors * sizeof *by_offset);
    for (int i = 0; i < g->n_tensors; i++)
        by_offset[i] = i;
    qsort_r(by_offset, (size_t)g->n_tensors, sizeof *by_offset, offset_order, g->tensors);
    for (int i = 1; i < g->n_tensors; i++) {
        const struct gguf_tensor *x = &g->tensors[by_offset[i - 1]], *y = &g->tensors[by_offset[i]];
        if (x->offset + x->bytes > y->offset)
            err_set(e, "'%s': tensors %s and %s overlap", g->path, x->name, y->name);
    }
    free(by_offset);
    return e->set ? -1 : 0;
}

/* Offsets count from the end of the header, rounded up to the alignment. */
static int place_tensors(struct gguf *g, struct err *e)
{
    int64_t align = 32;
    const struct gguf_value *v = gguf_value(g, "general.alignment");
    if (v && (v->list || !gguf_int(v, 0, &align) || align < 1 || align > 1 << 20 ||
              (align & (align - 1))))
        return err_set(e, "'%s': general.alignment must be a power of two up to 2^20", g->path);
    int64_t data = (g->at + align - 1) & -align;
    for (int i = 0; i < g->n_tensors; i++) {
        struct gguf_tensor *t = &g->tensors[i];
        if (t->offset % align)
            return err_set(e,
                           "'%s': tensor %s is at offset %" PRId64
                           ", not a multiple of the alignment of %" PRId64,
                           g->path, t->name, t->offset, align);
        if (__builtin_add_overflow(t->offset, data, &t->offset) || t->offset > g->size ||
            t->bytes > g->size - t->offset)
            return err_set(
                e, "'%s': tensor %s does not fit in the file's %" PRId64 " bytes (truncated?)",
                g->path, t->name, g->size);
    }
    return check_overlap(g, e);
}

static int index_names(struct gguf *g, struct err *e)
{
    int twice = names_index(&g->names, g->tensors->name, sizeof *g->tensors, g->n_tensors);
    if (twice >= 0)
        return err_set(e, "'%s' has tensor %s twice", g->path, g->tensors[twice].name);
    return 0;
}

/* ---- opening */

static int parse_version(struct gguf *g, struct err *e)
{
    const unsigned char *magic = take(g, 4, e);
    if (!magic)
        return -1;
    if (memcmp(magic, "GGUF", 4))
        return err_set(e, "'%s' is not a GGUF file", g->path);
    uint64_t version = take_number(g, 4, e);
    if (e->set || version == 2 || version == 3)
        return e->set ? -1 : 0;
    if (version >= 1 << 16)
        return err_set(e, "'%s' is a big-endian GGUF file, which is not supported", g->path);
    return err_set(e, "'%s' is GGUF version %" PRIu64 "; versions 2 and 3 are supported", g->path,
                   version);
}

static int parse(struct gguf *g, struct err *e)
{
    if (parse_version(g, e))
        return -1;
    int64_t tensors = take_count(g, 24, "the number of tensors", e),
            values = take_count(g, 13, "the number of metadata", e);
    if (!e->set && (tensors > TENSORS_MAX || values > VALUES_MAX))
        err_set(e,
                "'%s' has %" PRId64 " tensors and %" PRId64
                " metadata entries; at most %d and %d are supported",
                g->path, tensors, values, TENSORS_MAX, VALUES_MAX);
    if (e->set)
        return -1;
    g->values = mem_alloc((size_t)values * sizeof *g->values);
    for (; g->n_values < values; g->n_values++)
        if (parse_value(g, &g->values[g->n_values], e))
            return -1;
    g->tensors = mem_alloc((size_t)tensors * sizeof *g->tensors);
    for (; g->n_tensors < tensors; g->n_tensors++)
        if (parse_tensor(g, &g->tensors[g->n_tensors], e))
            return -1;
    return settle(g, e) || place_tensors(g, e) || index_names(g, e) ? -1 : 0;
}

struct gguf *gguf_open(const char *path, struct err *e)
{
    struct gguf *g = mem_alloc(sizeof *g);
    g->path = mem_string(path);
    g->fd = file_open(path, &g->size, e);
    if (g->fd < 0 || parse(g, e)) {
        gguf_close(g);
        return NULL;
    }
    return g;
}

void gguf_close(struct gguf *g)
{
    if (!g)
        return;
    if (g->fd >= 0)
        close(g->fd);
    free(g->head);
    free(g->values);
    free(g->tensors);
    names_free(&g->names);
    free(g->path);
    free(g);
}

const char *gguf_path(const struct gguf *g) { return g->path; }
int gguf_count(const struct gguf *g) { return g->n_tensors; }
const struct gguf_tensor *gguf_tensor(const struct gguf *g, int i) { return &g->tensors[i]; }

int gguf_find(const struct gguf *g, const char *name) { return names_find(&g->names, name); }

int gguf_read(struct gguf *g, int i, int64_t offset, void *buf, int64_t n, struct err *e)
{
    const struct gguf_tensor *t = &g->tensors[i];
    if (n < 0 || offset < 0 || offset > t->bytes || n > t->bytes - offset)
        return err_set(e, "'%s': %" PRId64 " bytes at offset %" PRId64 " are outside tensor %s",
                       g->path, n, offset, t->name);
    return file_pread(g->fd, g->path, buf, n, t->offset + offset, e);
}

/* ---- values */

int gguf_values(const struct gguf *g) { return g->n_values; }
const struct gguf_value *gguf_value_at(const struct gguf *g, int i) { return &g->values[i]; }

const struct gguf_value *gguf_value(const struct gguf *g, const char *key)
{
    for (int i = 0; i < g->n_values; i++)
        if (same_text(g->values[i].key, key, strlen(key)))
            return &g->values[i];
    return NULL;
}

int gguf_int(const struct gguf_value *v, int64_t i, int64_t *n)
{
    int size = kind_bytes[v->kind];
    if (!size || v->kind == GGUF_REAL32 || v->kind == GGUF_REAL64 || i < 0 || i >= v->n)
        return 0;
    uint64_t x = number_at(v->at + i * size, size);
    int is_signed = v->kind == GGUF_I8 || v->kind == GGUF_I16 || v->kind == GGUF_I32 ||
                    v->kind == GGUF_I64;
    if (is_signed && x >> (8 * size - 1))
        x |= size < 8 ? ~UINT64_C(0) << 8 * size : 0;
    else if (x > INT64_MAX)
        return 0;
    memcpy(n, &x, sizeof x);
    return 1;
}

int gguf_real(const struct gguf_value *v, int64_t i, double *x)
{
    int64_t n;
    if (i < 0 || i >= v->n)
        return 0;
    if (v->kind == GGUF_REAL32) {
        float f;
        memcpy(&f, v->at + 4 * i, 4);
        *x = (double)f;
        return 1;
    }
    if (v->kind == GGUF_REAL64) {
        memcpy(x, v->at + 8 * i, 8);
        return 1;
    }
    if (!gguf_int(v, i, &n))
        return 0;
    *x = (double)n;
    return 1;
}

int gguf_next_text(const struct gguf_value *v, int64_t *at, struct gguf_text *text)
{
    if (v->kind != GGUF_TEXT || *at >= v->bytes)
        return 0;
    text->n = (int64_t)number_at(v->at + *at, 8);
    text->s = (const char *)v->at + *at + 8;
    *at += 8 + text->n;
    return 1;
}
