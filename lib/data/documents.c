/* Documents of a file or pipe: see documents.h. Memory is one document (one file, without a
 * separator). Refuses lines that are not JSON objects or lack the field. */
#include "documents.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../base/mem.h"
#include "examples.h"

enum { READ_BYTES = 1 << 20 };

struct documents {
    int fd, ended;
    const char *path, *separator, *field;
    char *buffer; /* [from, n): read but not yet returned */
    int64_t from, n, room, bytes, line;
    struct digest digest;
    struct json_scan scan; /* holds the text of the current line */
    char *where;           /* the place of the last document, as documents_where says it */
    struct err *e;
};

struct documents *documents_open(const char *path, const char *separator, const char *field,
                                 struct err *e)
{
    int fd = strcmp(path, "-") ? open(path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
    if (fd < 0)
        return err_set(e, "cannot open '%s':", path), NULL;
    struct documents *d = mem_alloc(sizeof *d);
    *d = (struct documents){.fd = fd,
                            .path = fd == STDIN_FILENO ? "standard input" : path,
                            .separator = field ? "\n" : separator,
                            .field = field,
                            .e = e};
    digest_open(&d->digest);
    return d;
}

int64_t documents_bytes(const struct documents *d) { return d->bytes; }

void documents_close(struct documents *d, char digest[ST_DIGEST])
{
    char unused[ST_DIGEST];
    digest_close(&d->digest, digest ? digest : unused);
    json_scan_close(&d->scan);
    if (d->fd != STDIN_FILENO)
        close(d->fd);
    free(d->buffer);
    free(d->where);
    free(d);
}

static int documents_read(struct documents *d)
{
    if (d->from) {
        memmove(d->buffer, d->buffer + d->from, (size_t)(d->n - d->from));
        d->n -= d->from;
        d->from = 0;
    }
    if (d->room - d->n < READ_BYTES)
        d->buffer = mem_grow(d->buffer, (size_t)(d->room = 2 * d->n + 2 * READ_BYTES));
    ssize_t got;
    do
        got = read(d->fd, d->buffer + d->n, READ_BYTES);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return err_set(d->e, "cannot read '%s':", d->path);
    d->ended = !got;
    d->n += got;
    return 0;
}

/* The bytes up to the next separator, which is consumed too. 1, 0 at the end, -1. */
static int documents_piece(struct documents *d, const char **text, int64_t *n)
{
    int64_t length = d->separator ? (int64_t)strlen(d->separator) : 0, seen = 0;
    const char *at;
    for (;;) {
        at = length && d->buffer
                 ? memmem(d->buffer + d->from + seen, (size_t)(d->n - d->from - seen), d->separator,
                          (size_t)length)
                 : NULL;
        if (at || d->ended)
            break;
        seen = d->n - d->from - length + 1;
        seen = seen > 0 ? seen : 0;
        if (documents_read(d))
            return -1;
    }
    if (!at && d->from == d->n)
        return 0;
    *text = d->buffer + d->from;
    *n = (at ? at : d->buffer + d->n) - *text;
    int64_t used = *n + (at ? length : 0);
    digest_add(&d->digest, *text, (size_t)used);
    d->from += used;
    d->bytes += used;
    d->line++;
    return 1;
}

static int is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static void text_strip(const char **text, int64_t *n)
{
    while (*n && is_blank((*text)[*n - 1]))
        --*n;
    while (*n && is_blank(**text))
        ++*text, --*n;
}

const char *documents_where(struct documents *d)
{
    free(d->where);
    return d->where = mem_format("%s: line %lld", d->path, (long long)d->line);
}

static int line_field(struct documents *d, const char **text, int64_t *n)
{
    json_scan_close(&d->scan);
    *text = json_line_text(&d->scan, documents_where(d), *text, d->field, n, d->e);
    return *text ? 1 : -1;
}

int documents_next(struct documents *d, const char **text, int64_t *n)
{
    int r;
    while ((r = documents_piece(d, text, n)) > 0) {
        if (!d->separator)
            return 1;
        text_strip(text, n);
        if (*n)
            return d->field ? line_field(d, text, n) : 1;
    }
    return r;
}

int documents_ids(const struct documents *d, const char *s, int64_t n, int64_t vocab_size,
                  struct ids *out)
{
    int64_t most = vocab_size ? vocab_size : (int64_t)INT32_MAX + 1;
    for (int64_t i = 0; i < n;) {
        int64_t id = 0, from = i;
        for (; i < n && s[i] >= '0' && s[i] <= '9' && id < most; i++)
            id = 10 * id + (s[i] - '0');
        if (i == from || (i < n && !is_blank(s[i]) && id < most))
            return err_set(d->e, "%s: line %lld: expected decimal token ids, not \"%.*s\"", d->path,
                           (long long)d->line, (int)(n - from < 20 ? n - from : 20), s + from);
        if (id >= most)
            return err_set(d->e,
                           "%s: line %lld has id %.*s, larger than the largest possible, %lld",
                           d->path, (long long)d->line, (int)strspn(s + from, "0123456789"),
                           s + from, (long long)most - 1);
        ids_push(out, (uint32_t)id, 0);
        while (i < n && is_blank(s[i]))
            i++;
    }
    return 0;
}
