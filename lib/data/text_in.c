/* See text_in.h. Memory is constant: two buffers and the window of the decoder. Refused: files of
 * known kinds that are not text, whether compressed or not; what is compressed twice; bytes that
 * follow gzip data; zstd frames with windows of more than 128 MB. */
#include "text_in.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "../base/file_kind.h"
#include "../base/mem.h"
#include "../base/minmax.h"

enum { ROOM = 256 << 10 };

struct text_in {
    struct err *e;
    const char *path;
    int fd, source_ended;
    int64_t taken, size;
    unsigned char *raw; /* [ROOM]; [at, n): read but not yet decoded */
    size_t at, n;
    int gzip, inside; /* inside: a gzip member or a zstd frame has begun */
    z_stream z;
    ZSTD_DCtx *zstd; /* NULL: not zstd */
    char head[FILE_KIND_BYTES];
    int64_t head_at, head_n; /* [head_at, head_n): decoded but not yet given out */
};

const char *text_in_path(const struct text_in *t) { return t->path; }

int64_t text_in_taken(const struct text_in *t, int64_t *total)
{
    *total = t->size;
    return t->taken;
}

/* ---- bytes as they lie on disk */

/* Moves what is left to the front and reads until there are `least` bytes, or all. */
static int raw_fill(struct text_in *t, size_t least)
{
    memmove(t->raw, t->raw + t->at, t->n -= t->at);
    t->at = 0;
    while (t->n < least && !t->source_ended) {
        ssize_t got = read(t->fd, t->raw + t->n, ROOM - t->n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_set(t->e, "cannot read '%s':", t->path);
        t->source_ended = !got;
        t->n += (size_t)got;
        t->taken += got;
    }
    return 0;
}

static int64_t read_plain(struct text_in *t, void *to, int64_t n)
{
    if (t->at == t->n && raw_fill(t, 1))
        return -1;
    int64_t part = min64(n, (int64_t)(t->n - t->at));
    memcpy(to, t->raw + t->at, (size_t)part);
    t->at += (size_t)part;
    return part;
}

static int ends_early(const struct text_in *t, const char *name)
{
    return err_set(t->e, "%s ends early, inside its %s data: it was cut short", t->path, name);
}

static int damaged(const struct text_in *t, const char *name, const char *why)
{
    return err_set(t->e, "%s is damaged: %s: %s", t->path, name, why ? why : "unknown error");
}

/* ---- gzip: members, one after the other, and zeros as tapes pad them */

/* 1: another member begins, 0: the end. */
static int gzip_begin(struct text_in *t)
{
    do {
        while (t->at < t->n && !t->raw[t->at])
            t->at++;
        if (t->n - t->at < 2 && raw_fill(t, 2))
            return -1;
    } while (t->at < t->n && !t->raw[t->at]);
    if (t->at == t->n)
        return 0;
    if (t->n - t->at < 2 || t->raw[t->at] != 0x1f || t->raw[t->at + 1] != 0x8b)
        return err_set(t->e, "%s is damaged: other bytes follow its gzip data", t->path);
    if (inflateReset(&t->z) != Z_OK)
        return damaged(t, "gzip", t->z.msg);
    return t->inside = 1;
}

static int64_t read_gzip(struct text_in *t, void *to, int64_t n)
{
    z_stream *z = &t->z;
    z->next_out = to;
    z->avail_out = (uInt)min64(n, ROOM);
    while (z->avail_out == (uInt)min64(n, ROOM)) {
        int more = t->inside ? 1 : gzip_begin(t);
        if (more <= 0)
            return more;
        if (t->at == t->n && raw_fill(t, 1))
            return -1;
        if (t->at == t->n)
            return ends_early(t, "gzip");
        z->next_in = t->raw + t->at;
        z->avail_in = (uInt)(t->n - t->at);
        int status = inflate(z, Z_NO_FLUSH);
        t->at = t->n - z->avail_in;
        t->inside = status != Z_STREAM_END;
        if (status != Z_OK && status != Z_STREAM_END)
            return damaged(t, "gzip", z->msg);
    }
    return min64(n, ROOM) - z->avail_out;
}

/* ---- zstd: frames, one after the other */

static int64_t read_zstd(struct text_in *t, void *to, int64_t n)
{
    ZSTD_outBuffer out = {to, (size_t)n, 0};
    while (!out.pos) {
        if (t->at == t->n && raw_fill(t, 1))
            return -1;
        ZSTD_inBuffer in = {t->raw, t->n, t->at};
        int at_end = t->at == t->n;
        if (at_end && !t->inside)
            return 0;
        size_t left = ZSTD_decompressStream(t->zstd, &out, &in);
        t->at = in.pos;
        if (ZSTD_isError(left))
            return damaged(t, "zstd", ZSTD_getErrorName(left));
        if (at_end && left && !out.pos)
            return ends_early(t, "zstd");
        t->inside = left != 0;
    }
    return (int64_t)out.pos;
}

/* ---- decoded bytes */

static int64_t read_decoded(struct text_in *t, void *to, int64_t n)
{
    if (t->gzip)
        return read_gzip(t, to, n);
    return t->zstd ? read_zstd(t, to, n) : read_plain(t, to, n);
}

int64_t text_in_read(struct text_in *t, void *to, int64_t n)
{
    int64_t part = min64(n, t->head_n - t->head_at);
    if (!part)
        return read_decoded(t, to, n);
    memcpy(to, t->head + t->head_at, (size_t)part);
    t->head_at += part;
    return part;
}

/* ---- opening */

static int refuse(const struct text_in *t, const struct file_kind *kind)
{
    const char *holds = t->gzip || t->zstd ? "holds" : "is",
               *file = kind->text ? strstr(kind->text, "FILE") : NULL;
    if (!kind->text)
        return err_set(t->e, "%s %s %s, not UTF-8 text", t->path, holds, kind->name);
    if (!file || t->fd == STDIN_FILENO)
        return err_set(t->e, "%s %s %s, not UTF-8 text; %s converts it", t->path, holds, kind->name,
                       kind->text);
    return err_set(t->e, "%s %s %s, not UTF-8 text; %.*s%s%s converts it", t->path, holds,
                   kind->name, (int)(file - kind->text), kind->text, t->path, file + 4);
}

/* Puts the decoder in place that the first bytes ask for. */
static int decoder_open(struct text_in *t)
{
    if (raw_fill(t, FILE_KIND_BYTES))
        return -1;
    const struct file_kind *kind = file_kind(t->raw, (int64_t)t->n);
    if (kind && kind->code == FILE_GZIP) {
        t->gzip = inflateInit2(&t->z, 16 + MAX_WBITS) == Z_OK;
        return t->gzip ? 0 : err_set(t->e, "cannot read %s: no memory for gzip", t->path);
    }
    if (kind && kind->code == FILE_ZSTD && !(t->zstd = ZSTD_createDCtx()))
        return err_set(t->e, "cannot read %s: no memory for zstd", t->path);
    return 0;
}

/* Looks at the first decoded bytes. */
static int head_check(struct text_in *t)
{
    int64_t got = 1;
    while (t->head_n < FILE_KIND_BYTES && got > 0) {
        got = read_decoded(t, t->head + t->head_n, FILE_KIND_BYTES - t->head_n);
        t->head_n += got > 0 ? got : 0;
    }
    const struct file_kind *kind = got < 0 ? NULL : file_kind(t->head, t->head_n);
    return got < 0 || (kind && refuse(t, kind)) ? -1 : 0;
}

struct text_in *text_in_open(const char *path, struct err *e)
{
    struct stat st = {0};
    int fd = strcmp(path, "-") ? open(path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
    if (fd < 0 || fstat(fd, &st))
        return err_set(e, "cannot open '%s':", path), NULL;
    struct text_in *t = mem_alloc(sizeof *t);
    *t = (struct text_in){.e = e,
                          .fd = fd,
                          .path = fd == STDIN_FILENO ? "standard input" : path,
                          .size = S_ISREG(st.st_mode) ? st.st_size : 0,
                          .raw = mem_alloc(ROOM)};
    if (!decoder_open(t) && !head_check(t))
        return t;
    text_in_close(t);
    return NULL;
}

void text_in_close(struct text_in *t)
{
    if (t->gzip)
        inflateEnd(&t->z);
    ZSTD_freeDCtx(t->zstd);
    if (t->fd != STDIN_FILENO)
        close(t->fd);
    free(t->raw);
    free(t);
}
