/* Reading safetensors: see safetensors.h. Every number in a header is checked against the file's
 * size before use: the header's length, offsets (the tensors must fill the data exactly, without
 * gap or overlap), shapes against bytes. Names must be unique. */
#include "safetensors.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../lib/base/file.h"
#include "../lib/base/mem.h"
#include "../lib/base/names.h"
#include "../lib/base/text.h"
#include "json.h"
#include "safetensors_names.h"

static const struct json_limits header_limits = {SF_HEADER_MAX, 4 << 20, 4};
enum { FILES_MAX = 600 }; /* all stay open */

struct shard {
    int fd;
    char *path;
};

struct entry {
    struct tensor t;
    int shard;
    int64_t offset; /* in the file */
};

struct safetensors {
    struct shard *shards;
    struct entry *entries;
    struct names names; /* of entries */
    int n_shards, n, room;
};

static int parse_dtype(const char *name)
{
    for (size_t i = 0; i < sizeof sf_dtypes / sizeof *sf_dtypes; i++)
        if (!strcmp(sf_dtypes[i].name, name))
            return sf_dtypes[i].dtype;
    return strcmp(name, "BOOL") ? -1 : DT_U8;
}

static int name_is_clean(const char *name)
{
    for (const unsigned char *c = (const unsigned char *)name; *c; c++)
        if (*c < ' ' || *c == 127)
            return 0;
    return *name && strlen(name) < TENSOR_NAME;
}

static int parse_shape(struct tensor *t, const json_t *shape, const char *path, struct err *e)
{
    size_t n = json_array_size(shape);
    if (!json_is_array(shape) || n > TENSOR_DIMS)
        return err_set(e, "'%s': tensor '%s' must have a shape of at most %d dimensions", path,
                       t->name, TENSOR_DIMS);
    t->ndim = (int)n;
    for (size_t i = 0; i < n; i++) {
        const json_t *size = json_array_get(shape, i);
        if (!json_is_integer(size) || json_integer_value(size) < 0)
            return err_set(e, "'%s': dimension %zu of tensor '%s' is not a valid size", path, i,
                           t->name);
        t->shape[i] = json_integer_value(size);
    }
    return 0;
}

/* One member of the header. `data`: offset of the data in the file; `bytes`: their number. */
static int parse_entry(struct entry *x, const char *name, const json_t *value, int64_t data,
                       int64_t bytes, const char *path, struct err *e)
{
    if (!name_is_clean(name))
        return err_set(
            e, "'%s': a tensor name is empty, longer than %d bytes, or has control characters",
            path, TENSOR_NAME - 1);
    strcpy(x->t.name, name);
    const char *dtype = json_string_value(json_object_get(value, "dtype"));
    int d = dtype ? parse_dtype(dtype) : -1;
    if (d < 0)
        return err_set(e, "'%s': tensor '%s' has dtype %.40s, which is not supported", path, name,
                       dtype ? dtype : "(none)");
    x->t.dtype = d;
    if (parse_shape(&x->t, json_object_get(value, "shape"), path, e))
        return -1;
    const json_t *span = json_object_get(value, "data_offsets"), *from = json_array_get(span, 0),
                 *to = json_array_get(span, 1);
    if (json_array_size(span) != 2 || !json_is_integer(from) || !json_is_integer(to))
        return err_set(e, "'%s': tensor '%s' has no data_offsets", path, name);
    int64_t begin = json_integer_value(from), end = json_integer_value(to),
            want = tensor_bytes(&x->t);
    if (begin < 0 || begin > end || end > bytes)
        return err_set(e,
                       "'%s': tensor '%s' at %" PRId64 "..%" PRId64
                       " is outside the file's %" PRId64 " bytes of data (truncated?)",
                       path, name, begin, end, bytes);
    if (want != end - begin)
        return err_set(
            e, "'%s': tensor '%s' has %" PRId64 " bytes, which do not match its shape and dtype",
            path, name, end - begin);
    x->offset = data + begin;
    return 0;
}

static int by_offset(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    /* empty tensors before the one that shares their offset */
    int64_t nx = tensor_bytes(&x->t), ny = tensor_bytes(&y->t);
    if (nx != ny)
        return nx < ny ? -1 : 1;
    return strcmp(x->t.name, y->t.name);
}

static int check_layout(const struct safetensors *s, int first, int64_t data, int64_t size,
                        const char *path, struct err *e)
{
    int64_t at = data;
    for (int i = first; i < s->n; i++) {
        const struct entry *x = &s->entries[i];
        if (x->offset != at)
            return err_set(e, "'%s': tensor '%s' %s", path, x->t.name,
                           x->offset < at ? "overlaps another one" : "leaves a gap before it");
        at += tensor_bytes(&x->t);
    }
    return at == size
               ? 0
               : err_set(e, "'%s' has %" PRId64 " bytes after its last tensor", path, size - at);
}

static int parse_header(struct safetensors *s, const json_t *header, int64_t data, int64_t size,
                        const char *path, struct err *e)
{
    int first = s->n;
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)header, name, value) {
        if (!strcmp(name, "__metadata__"))
            continue;
        if (s->n == s->room)
            s->entries = mem_grow(s->entries,
                                  (size_t)(s->room = 2 * s->room + 64) * sizeof *s->entries);
        memset(&s->entries[s->n], 0, sizeof *s->entries);
        s->entries[s->n].shard = s->n_shards - 1;
        if (parse_entry(&s->entries[s->n], name, value, data, size - data, path, e))
            return -1;
        s->n++;
    }
    if (s->n > first)
        qsort(s->entries + first, (size_t)(s->n - first), sizeof *s->entries, by_offset);
    return check_layout(s, first, data, size, path, e);
}

static int open_shard(struct safetensors *s, const char *path, struct err *e)
{
    int64_t size;
    int fd = file_open(path, &size, e);
    if (fd < 0)
        return -1;
    s->shards = mem_grow(s->shards, (size_t)(s->n_shards + 1) * sizeof *s->shards);
    s->shards[s->n_shards++] = (struct shard){fd, mem_string(path)};
    unsigned char head[8];
    uint64_t n = 0;
    if (size < 10)
        return err_set(e, "'%s' is not a safetensors file: it is too short", path);
    if (file_pread(fd, path, head, 8, 0, e))
        return -1;
    for (int i = 8; i--;)
        n = n << 8 | head[i];
    if (n > SF_HEADER_MAX || n > (uint64_t)size - 8)
        return err_set(e,
                       "'%s' is not a safetensors file, or is truncated: its header claims %" PRIu64
                       " bytes",
                       path, n);
    char *text = mem_alloc(n + 1);
    json_t *header = NULL;
    char what[400];
    snprintf(what, sizeof what, "the header of '%s'", path);
    if (!file_pread(fd, path, text, (int64_t)n, 8, e))
        header = json_parse_text(text, (int64_t)n, &header_limits, what, e);
    free(text);
    int failed = header ? 0 : -1;
    if (header && !json_is_object(header))
        failed = err_set(e, "%s is not a JSON object", what);
    if (!failed)
        failed = parse_header(s, header, 8 + (int64_t)n, size, path, e);
    json_decref(header);
    return failed;
}

static int index_names(struct safetensors *s, const char *path, struct err *e)
{
    const char *first = s->n ? s->entries->t.name : NULL;
    int twice = names_index(&s->names, first, sizeof *s->entries, s->n);
    if (twice >= 0)
        return err_set(e, "'%s': tensor '%s' is in two files", path, s->entries[twice].t.name);
    return 0;
}

/* The index decides: forgets the copies of a tensor in files other than the one that the map
 * names for it. */
static void drop_stale(struct safetensors *s, const json_t *map, const json_t *seen)
{
    int kept = 0;
    for (int i = 0; i < s->n; i++) {
        const json_t *file = json_object_get(map, s->entries[i].t.name);
        if (!file || s->entries[i].shard ==
                         json_integer_value(json_object_get(seen, json_string_value(file))))
            s->entries[kept++] = s->entries[i];
    }
    s->n = kept;
}

/* Opens each file of weight_map once; every tensor must then be in the file the map names. */
static int open_index(struct safetensors *s, const char *path, struct err *e)
{
    json_t *index = json_parse_file(path, &header_limits, e),
           *map = json_object_get(index, "weight_map"), *file;
    json_t *seen = json_object(); /* file name -> its number */
    const char *slash = strrchr(path, '/'), *name;
    int failed = index ? 0 : -1;
    if (!failed && !json_is_object(map))
        failed = err_set(e, "'%s' has no weight_map", path);
    json_object_foreach(map, name, file) {
        const char *f = json_string_value(file);
        if (failed || (f && json_object_get(seen, f)))
            continue;
        if (!f || !*f || *f == '.' || strchr(f, '/'))
            failed = err_set(
                e, "'%s': the entry for tensor '%.200s' must name a file in the same directory",
                path, name);
        else if (s->n_shards == FILES_MAX)
            failed = err_set(e, "'%s' names more than %d files", path, FILES_MAX);
        else {
            char *full = mem_format("%.*s%s", slash ? (int)(slash - path + 1) : 0, path, f);
            json_object_set_new(seen, f, json_integer(s->n_shards));
            failed = open_shard(s, full, e);
            free(full);
        }
    }
    if (!failed) {
        drop_stale(s, map, seen);
        failed = index_names(s, path, e);
    }
    json_object_foreach(map, name, file) {
        if (!failed && sf_find(s, name) < 0)
            failed = err_set(e, "'%s' says that tensor '%.200s' is in '%s', but it is not", path,
                             name, json_string_value(file));
    }
    json_decref(seen);
    json_decref(index);
    return failed;
}

static int open_path(struct safetensors *s, const char *path, struct err *e)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return err_set(e, "cannot open '%s':", path);
    if (!S_ISDIR(st.st_mode)) {
        if (text_ends(path, ".json"))
            return open_index(s, path, e);
        return open_shard(s, path, e) ? -1 : index_names(s, path, e);
    }
    char *one = mem_format("%s/model.safetensors", path),
         *index = mem_format("%s/model.safetensors.index.json", path);
    int failed;
    if (!access(one, F_OK))
        failed = open_shard(s, one, e) ? -1 : index_names(s, one, e);
    else if (!access(index, F_OK))
        failed = open_index(s, index, e);
    else
        failed = err_set(e, "'%s' has neither model.safetensors nor model.safetensors.index.json",
                         path);
    free(one);
    free(index);
    return failed;
}

struct safetensors *sf_open(const char *path, struct err *e)
{
    struct safetensors *s = mem_alloc(sizeof *s);
    if (open_path(s, path, e)) {
        sf_close(s);
        return NULL;
    }
    return s;
}

int sf_count(const struct safetensors *s) { return s->n; }
const struct tensor *sf_tensor(const struct safetensors *s, int i) { return &s->entries[i].t; }

int sf_find(const struct safetensors *s, const char *name) { return names_find(&s->names, name); }

int sf_read(struct safetensors *s, int i, int64_t offset, void *buf, int64_t n, struct err *e)
{
    const struct entry *x = &s->entries[i];
    const struct shard *f = &s->shards[x->shard];
    int64_t size = tensor_bytes(&x->t);
    if (n < 0 || offset < 0 || offset > size || n > size - offset)
        return err_set(e, "'%s': %" PRId64 " bytes at offset %" PRId64 " are outside tensor '%s'",
                       f->path, n, offset, x->t.name);
    return file_pread(f->fd, f->path, buf, n, x->offset + offset, e);
}

void sf_close(struct safetensors *s)
{
    if (!s)
        return;
    for (int i = 0; i < s->n_shards; i++) {
        close(s->shards[i].fd);
        free(s->shards[i].path);
    }
    free(s->shards);
    free(s->entries);
    names_free(&s->names);
    free(s);
}
