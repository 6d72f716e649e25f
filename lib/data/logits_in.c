/* See logits_in.h. Refused: records that are missing, misplaced or of another shape; windows that
 * are not those of the tokens. */
#include "logits_in.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "../base/mem.h"

static int is_file(const struct st_in *in)
{
    struct stat s;
    int fd;
    (void)st_at(in, &fd);
    return !fstat(fd, &s) && S_ISREG(s.st_mode);
}

static int windows_missing(const struct logits_in *l, const char *path, int64_t found,
                           struct err *e)
{
    return err_set(e, "%s has the logits of %lld windows, not of %lld", path, (long long)found,
                   (long long)l->spec.count);
}

/* Begins the record of the next window; 0: there is none. */
static int record_next(const struct logits_in *l, struct st_in *in, int64_t window,
                       struct tensor *t, struct err *e)
{
    int more = st_next(in, t);
    if (more > 0 && logits_record_check(&l->spec, window, t, st_path(in), e))
        return -1;
    return more;
}

/* ---- a file */

static int record_note(struct logits_in *l, struct st_in *in, const struct tensor *t, int64_t i,
                       unsigned char *chunk, struct err *e)
{
    if (t->shape[0] > INT32_MAX)
        return err_set(e, "%s: record %s has too many tokens", st_path(in), t->name);
    if (i % 1024 == 0) {
        l->places = mem_grow(l->places, (size_t)(i + 1024) * sizeof *l->places);
        l->tokens = mem_grow(l->tokens, (size_t)(i + 1024) * sizeof *l->tokens);
    }
    l->tokens[i] = (int32_t)t->shape[0];
    if (records_file_place(&l->file, in, &l->places[i], e))
        return -1;
    int64_t n;
    while ((n = st_read(in, chunk, ST_CHUNK)) > 0)
        if (records_file_take(&l->file, chunk, n, e))
            return -1;
    return (int)n;
}

static int file_load(struct logits_in *l, struct st_in *in, struct err *e)
{
    unsigned char *chunk = mem_alloc(ST_CHUNK);
    struct tensor t;
    int64_t i = 0;
    int more;
    records_file_open(&l->file, st_path(in));
    for (; (more = record_next(l, in, l->spec.first + i, &t, e)) > 0; i++)
        if (record_note(l, in, &t, i, chunk, e)) {
            more = -1;
            break;
        }
    if (!more && i != l->spec.count)
        more = windows_missing(l, st_path(in), i, e);
    free(chunk);
    st_close(in);
    return more;
}

int logits_open(struct logits_in *l, struct st_in *in, struct err *e)
{
    *l = (struct logits_in){.file.fd = -1};
    int failed = logits_meta_read(&l->spec, st_head(in), st_path(in), e) ||
                 st_head_id(st_head(in), "id", l->id, st_path(in), e);
    l->path = mem_string(st_path(in));
    l->next = l->spec.first;
    if (!failed && !is_file(in)) {
        l->pipe = in;
        return 0;
    }
    return failed || file_load(l, in, e) ? -1 : 0;
}

int logits_is_pipe(const struct logits_in *l) { return l->pipe != NULL; }

void logits_close(struct logits_in *l)
{
    st_close(l->pipe);
    records_file_close(&l->file);
    free(l->path);
    free(l->places);
    free(l->tokens);
    free(l->record.data);
    *l = (struct logits_in){.file.fd = -1};
}

/* ---- windows */

static int length_check(const struct logits_in *l, int64_t window, int64_t got, int64_t tokens,
                        struct err *e)
{
    if (got == tokens)
        return 0;
    return err_set(e, "%s has %lld tokens in window %lld, the data %lld: they were cut differently",
                   l->path, (long long)got, (long long)window, (long long)tokens);
}

int logits_check_windows(const struct logits_in *l, const struct windows *w, struct err *e)
{
    const struct logits_spec *s = &l->spec;
    if (s->first || s->count != w->n)
        return err_set(e,
                       "%s has the logits of windows %lld to %lld, but the data has %lld windows, "
                       "from 0 on: join all parts with ts-cat, or use only as much of the data",
                       l->path, (long long)s->first, (long long)(s->first + s->count - 1),
                       (long long)w->n);
    for (int64_t i = 0; l->tokens && i < w->n; i++)
        if (length_check(l, i, l->tokens[i], windows_row(w, i).n, e))
            return -1;
    return 0;
}

/* From the pipe, into l->record. */
static int pipe_read(struct logits_in *l, int64_t window, int64_t tokens, struct err *e)
{
    struct tensor t;
    int more;
    do
        more = record_next(l, l->pipe, l->next, &t, e);
    while (more > 0 && l->next++ < window);
    if (more <= 0)
        return more ? -1 : windows_missing(l, l->path, l->next - l->spec.first, e);
    l->record.n = 0;
    return length_check(l, window, t.shape[0], tokens, e) ||
                   st_read_more(l->pipe, &l->record, tensor_bytes(&t))
               ? -1
               : 0;
}

static int file_read_window(struct logits_in *l, int64_t window, int64_t tokens, struct err *e)
{
    int64_t bytes = tokens * logits_row_bytes(&l->spec), i = window - l->spec.first;
    if (length_check(l, window, l->tokens[i], tokens, e))
        return -1;
    if (bytes > l->record.room)
        l->record.data = mem_grow(l->record.data, (size_t)(l->record.room = bytes));
    return records_file_read(&l->file, l->places[i], 0, l->record.data, bytes, e);
}

const unsigned char *logits_read(struct logits_in *l, int64_t window, int64_t tokens, struct err *e)
{
    if (l->pipe ? pipe_read(l, window, tokens, e) : file_read_window(l, window, tokens, e))
        return NULL;
    return l->record.data;
}

int logits_end(struct logits_in *l, struct err *e)
{
    struct tensor t;
    int more = 0;
    while (l->pipe && (more = record_next(l, l->pipe, l->next, &t, e)) > 0)
        l->next++;
    if (!more && l->pipe && l->next != l->spec.first + l->spec.count)
        return windows_missing(l, l->path, l->next - l->spec.first, e);
    return more;
}
