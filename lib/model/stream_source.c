/* A model stream as a MODEL operand. In: header of kind "model", the files it lists as `file/NAME`
 * records, its tensors in its order, the end map. Files (tokenizer and templates) are kept in
 * memory, tensors are streamed. Refused: other kinds, records that differ from the header. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "source.h"

struct stream_in {
    struct st_in *in;
    const struct model_spec *spec;
    char **files; /* [spec->n_files], NUL-terminated */
    int n_files;
};

static void stream_close(void *self)
{
    struct stream_in *s = self;
    for (int i = 0; i < s->n_files; i++)
        free(s->files[i]);
    free(s->files);
    st_close(s->in);
    free(s);
}

static char *read_file(struct st_in *in, int64_t bytes)
{
    struct st_buffer b = {0};
    if (st_read_more(in, &b, bytes)) {
        free(b.data);
        return NULL;
    }
    char *text = mem_grow(b.data, (size_t)bytes + 1);
    text[bytes] = 0;
    return text;
}

static int read_files(struct stream_in *s, struct err *e)
{
    const struct model_spec *h = s->spec;
    s->files = mem_alloc((size_t)h->n_files * sizeof *s->files);
    for (; s->n_files < h->n_files; s->n_files++) {
        struct tensor t;
        int64_t bytes = h->files[s->n_files].bytes;
        int more = st_next(s->in, &t);
        if (more < 0)
            return -1;
        if (!more || strncmp(t.name, "file/", 5) || strcmp(t.name + 5, h->files[s->n_files].name) ||
            t.dtype != DT_U8 || t.ndim != 1 || t.shape[0] != bytes)
            return err_set(e, "%s: expected file %s, as listed in its header, found %.200s",
                           st_path(s->in), h->files[s->n_files].name, more ? t.name : "the end");
        if (bytes > MODEL_FILE_MAX)
            return err_set(e, "%s: file %s has %" PRId64 " bytes; at most %d are allowed",
                           st_path(s->in), h->files[s->n_files].name, bytes, MODEL_FILE_MAX);
        if (!(s->files[s->n_files] = read_file(s->in, bytes)))
            return -1;
    }
    return 0;
}

static const char *stream_file(void *self, const char *name, int64_t *bytes, struct err *e)
{
    const struct stream_in *s = self;
    (void)e;
    for (int i = 0; i < s->n_files; i++)
        if (!strcmp(s->spec->files[i].name, name)) {
            if (bytes)
                *bytes = s->spec->files[i].bytes;
            return s->files[i];
        }
    return NULL;
}

static int same_tensor(const struct tensor *a, const struct tensor *b)
{
    return !strcmp(a->name, b->name) && a->dtype == b->dtype && tensor_same_shape(a, b);
}

static int stream_next(void *self, int i, struct err *e)
{
    struct stream_in *s = self;
    struct tensor t;
    int more = st_next(s->in, &t);
    if (more < 0)
        return -1;
    const struct tensor *want = &s->spec->tensors[i];
    if (more && same_tensor(&t, want))
        return 0;
    if (more && !strcmp(t.name, want->name))
        return err_set(e, "%s: tensor %s has another dtype or shape than its header lists",
                       st_path(s->in), t.name);
    return err_set(e, "%s: expected tensor %s, as listed in its header, found %s", st_path(s->in),
                   want->name, more ? t.name : "the end");
}

static int stream_read(void *self, int i, int64_t at, void *buf, int64_t n, struct err *e)
{
    struct stream_in *s = self;
    (void)i, (void)at;
    return st_read(s->in, buf, n) == n ? 0 : err_set(e, "%s: a tensor ends early", st_path(s->in));
}

static int stream_end(void *self, struct err *e)
{
    struct stream_in *s = self;
    struct tensor t;
    int more = st_next(s->in, &t);
    return more > 0 ? err_set(e, "%s: tensor %s is not in its header", st_path(s->in), t.name)
                    : more;
}

static const struct model_source stream_source = {stream_file, stream_next, stream_read, stream_end,
                                                  stream_close};

int stream_source_open(struct model_in *in, const char *path, struct err *e)
{
    struct st_in *st = st_open(path, e);
    if (!st)
        return -1;
    const char *kind = json_string_value(json_object_get(st_head(st), "kind"));
    if (!kind || strcmp(kind, "model")) {
        err_set(e, "%s is a stream of kind \"%.40s\", not a model", st_path(st), kind ? kind : "?");
        st_close(st);
        return -1;
    }
    if (model_spec_from_json(&in->spec, st_head(st), e)) {
        st_close(st);
        return -1;
    }
    struct stream_in *s = mem_alloc(sizeof *s);
    *s = (struct stream_in){st, &in->spec, NULL, 0};
    in->source = &stream_source;
    in->self = s;
    if (read_files(s, e)) {
        stream_close(s);
        model_spec_free(&in->spec);
        return -1;
    }
    return 0;
}
