/* Writing safetensors: see safetensors.h. Shards are filled in order up to max_shard_size bytes of
 * data; a tensor larger than that gets a shard of its own. Refused: dtypes the format lacks, more
 * shards than can stay open, more or less data than the tensors need. */
#include "safetensors.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../lib/base/file.h"
#include "../lib/base/mem.h"
#include "safetensors_names.h"

enum { SHARDS_MAX = 600 };

struct shard {
    int fd;
    char *path;
    int64_t bytes; /* of data */
};

struct entry {
    const struct tensor *t;
    int shard;
    int64_t begin, bytes, written; /* begin: in the shard's data, later in the file */
};

struct safetensors_out {
    char *dir;
    struct tensor *tensors;
    struct entry *entries;
    struct shard shards[SHARDS_MAX];
    int n, n_shards;
    int sharded;
    int64_t total;
};

static const char *spell_dtype(enum dtype d)
{
    for (size_t i = 0; i < sizeof sf_dtypes / sizeof *sf_dtypes; i++)
        if (sf_dtypes[i].dtype == d)
            return sf_dtypes[i].name;
    return NULL;
}

static int place(struct safetensors_out *s, int64_t max_shard_size, struct err *e)
{
    s->n_shards = 1;
    for (int i = 0; i < s->n; i++) {
        struct entry *x = &s->entries[i];
        x->t = &s->tensors[i];
        x->bytes = tensor_bytes(x->t);
        if (!spell_dtype(x->t->dtype) || x->bytes < 0)
            return err_set(e, "'%s': tensor '%s' of dtype %s cannot be written as safetensors",
                           s->dir, x->t->name, dtype_name(x->t->dtype));
        struct shard *f = &s->shards[s->n_shards - 1];
        if (max_shard_size && f->bytes && x->bytes > max_shard_size - f->bytes) {
            if (s->n_shards == SHARDS_MAX)
                return err_set(
                    e, "'%s': a shard size of %" PRId64 " bytes would make more than %d files",
                    s->dir, max_shard_size, SHARDS_MAX);
            f = &s->shards[s->n_shards++];
        }
        x->shard = s->n_shards - 1;
        x->begin = f->bytes;
        if (__builtin_add_overflow(f->bytes, x->bytes, &f->bytes) ||
            __builtin_add_overflow(s->total, x->bytes, &s->total))
            return err_set(e, "'%s': the tensors are larger than a file can be", s->dir);
    }
    s->sharded = max_shard_size > 0 && s->n_shards > 1;
    return 0;
}

static char *header_text(const struct safetensors_out *s, int shard)
{
    json_t *header = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    for (int i = 0; i < s->n; i++) {
        const struct entry *x = &s->entries[i];
        if (x->shard != shard)
            continue;
        json_t *shape = json_array();
        for (int d = 0; d < x->t->ndim; d++)
            json_array_append_new(shape, json_integer(x->t->shape[d]));
        json_object_set_new(header, x->t->name,
                            json_pack("{s:s, s:o, s:[I,I]}", "dtype", spell_dtype(x->t->dtype),
                                      "shape", shape, "data_offsets", (json_int_t)x->begin,
                                      (json_int_t)(x->begin + x->bytes)));
    }
    char *text = json_dumps(header, JSON_COMPACT);
    json_decref(header);
    return text;
}

/* The header, padded with spaces so that the data begin at a multiple of 8. */
static int begin_shard(struct safetensors_out *s, int i, struct err *e)
{
    struct shard *f = &s->shards[i];
    char name[64] = "model.safetensors";
    if (s->sharded)
        snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", i + 1, s->n_shards);
    f->path = mem_format("%s/%s", s->dir, name);
    f->fd = file_new(f->path, e);
    if (f->fd < 0)
        return -1;
    char *text = header_text(s, i);
    if (!text)
        return err_set(e, "'%s': a tensor name is not valid UTF-8", f->path);
    size_t used = strlen(text), n = (used + 7) & ~(size_t)7;
    if (n > SF_HEADER_MAX) {
        free(text);
        return err_set(e, "'%s': a header of %zu bytes exceeds the format's limit of %d", f->path,
                       n, SF_HEADER_MAX);
    }
    char *block = mem_alloc(8 + n);
    for (int b = 0; b < 8; b++)
        block[b] = (char)(n >> 8 * b & 255);
    memset(block + 8, ' ', n);
    memcpy(block + 8, text, used);
    free(text);
    int failed = file_pwrite(f->fd, f->path, block, (int64_t)(8 + n), 0, e);
    free(block);
    for (int k = 0; k < s->n; k++)
        if (s->entries[k].shard == i)
            s->entries[k].begin += (int64_t)(8 + n);
    return failed;
}

static void release(struct safetensors_out *s)
{
    for (int i = 0; i < s->n_shards; i++) {
        if (s->shards[i].fd >= 0)
            close(s->shards[i].fd);
        free(s->shards[i].path);
    }
    free(s->dir);
    free(s->tensors);
    free(s->entries);
    free(s);
}

struct safetensors_out *sf_create(const char *dir, const struct tensor *tensors, int n,
                                  int64_t max_shard_size, struct err *e)
{
    struct safetensors_out *s = mem_alloc(sizeof *s);
    s->dir = mem_string(dir);
    s->n = n;
    s->tensors = mem_alloc((size_t)n * sizeof *tensors);
    if (n)
        memcpy(s->tensors, tensors, (size_t)n * sizeof *tensors);
    s->entries = mem_alloc((size_t)n * sizeof *s->entries);
    for (int i = 0; i < SHARDS_MAX; i++)
        s->shards[i].fd = -1;
    int failed = place(s, max_shard_size, e);
    for (int i = 0; !failed && i < s->n_shards; i++)
        failed = begin_shard(s, i, e);
    if (failed) {
        release(s);
        return NULL;
    }
    return s;
}

int sf_write(struct safetensors_out *s, int i, int64_t offset, const void *buf, int64_t n,
             struct err *e)
{
    struct entry *x = &s->entries[i];
    const struct shard *f = &s->shards[x->shard];
    if (n < 0 || offset < 0 || offset > x->bytes || n > x->bytes - offset)
        return err_set(e, "'%s': %" PRId64 " bytes at offset %" PRId64 " are outside tensor '%s'",
                       f->path, n, offset, x->t->name);
    x->written += n;
    return file_pwrite(f->fd, f->path, buf, n, x->begin + offset, e);
}

static int write_index(const struct safetensors_out *s, struct err *e)
{
    json_t *map = json_object();
    int64_t parameters = 0;
    for (int i = 0; i < s->n; i++) {
        json_object_set_new(map, s->entries[i].t->name,
                            json_string(strrchr(s->shards[s->entries[i].shard].path, '/') + 1));
        parameters += tensor_count(s->entries[i].t);
    }
    json_t *index = json_pack("{s:{s:I, s:I}, s:o}", "metadata", "total_parameters",
                              (json_int_t)parameters, "total_size", (json_int_t)s->total,
                              "weight_map", map);
    char *text = json_dumps(index, JSON_INDENT(2)),
         *path = mem_format("%s/model.safetensors.index.json", s->dir);
    int failed = file_write(path, text, (int64_t)strlen(text), e);
    json_decref(index);
    free(text);
    free(path);
    return failed;
}

int sf_finish(struct safetensors_out *s, struct err *e)
{
    int failed = e && e->set ? -1 : 0;
    for (int i = 0; i < s->n && !failed; i++)
        if (s->entries[i].written != s->entries[i].bytes)
            failed = err_set(e, "'%s': tensor '%s' got only %" PRId64 " of its %" PRId64 " bytes",
                             s->dir, s->entries[i].t->name, s->entries[i].written,
                             s->entries[i].bytes);
    for (int i = 0; i < s->n_shards && !failed; i++) {
        struct shard *f = &s->shards[i];
        if (fsync(f->fd) < 0 || close(f->fd) < 0)
            failed = err_set(e, "cannot write '%s':", f->path);
        else
            f->fd = -1;
    }
    if (!failed && s->sharded)
        failed = write_index(s, e);
    release(s);
    return failed;
}
