/* Writing a tensor stream: see stream.h and SPEC.md. Gives a file that appears whole or not at all,
 * or bytes in a pipe, plain or in one zstd frame, in constant memory. Small pieces are gathered in
 * a buffer, large ones are written from where they are. Refused: a terminal, records with more or
 * fewer bytes than their shape takes. Any failure (full disk, closed pipe) sticks in the `struct
 * err`, and the stream then never gets an end map. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include <zstd.h>

#include "../lib/base/file_out.h"
#include "../lib/base/mem.h"
#include "chunk.h"
#include "mpk.h"
#include "stream.h"

enum { ROOM = 256 << 10, DIRECT = 64 << 10 };

struct st_out {
    struct err *e;
    struct file_out file;
    unsigned char *buf; /* bytes [0, len) not yet written */
    size_t len;
    ZSTD_CCtx *z;            /* NULL: plain */
    struct digest end, data; /* as in st_in */
    struct tensor t;
    int64_t left, chunk, records;
    int open, ended;
};

/* ---- bytes */

/* All of a, then all of b. */
static int write_raw(struct st_out *out, const void *a, size_t na, const void *b, size_t nb)
{
    while (na + nb) {
        struct iovec v[2] = {{(void *)a, na}, {(void *)b, nb}};
        ssize_t r = writev(out->file.fd, v, 2);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return err_set(out->e, "cannot write %s:", out->file.name);
        size_t ka = (size_t)r < na ? (size_t)r : na;
        a = (const char *)a + ka;
        na -= ka;
        b = (const char *)b + ((size_t)r - ka);
        nb -= (size_t)r - ka;
    }
    return 0;
}

static int buffer_flush(struct st_out *out)
{
    size_t n = out->len;
    out->len = 0;
    return write_raw(out, out->buf, n, NULL, 0);
}

static int write_zstd(struct st_out *out, const void *p, size_t n, ZSTD_EndDirective how)
{
    ZSTD_inBuffer in = {p, n, 0};
    for (;;) {
        ZSTD_outBuffer o = {out->buf, ROOM, out->len};
        size_t left = ZSTD_compressStream2(out->z, &o, &in, how);
        out->len = o.pos;
        if (ZSTD_isError(left))
            return err_set(out->e, "cannot write %s: zstd: %s", out->file.name,
                           ZSTD_getErrorName(left));
        if (how == ZSTD_e_continue ? in.pos == in.size : !left)
            return 0;
        if (out->len == ROOM && buffer_flush(out))
            return -1;
    }
}

static int write_bytes(struct st_out *out, const void *p, size_t n)
{
    if (out->z)
        return write_zstd(out, p, n, ZSTD_e_continue);
    if (n >= DIRECT) {
        size_t len = out->len;
        out->len = 0;
        return write_raw(out, out->buf, len, p, n);
    }
    if (out->len + n > ROOM && buffer_flush(out))
        return -1;
    memcpy(out->buf + out->len, p, n);
    out->len += n;
    return 0;
}

/* value is stolen. */
static int write_object(struct st_out *out, json_t *value)
{
    const char *why = NULL;
    unsigned char *p = NULL;
    size_t n = 0;
    int r = mpk_encode(value, &p, &n, &why)
                ? err_set(out->e, "cannot write %s: %s", out->file.name, why)
                : write_bytes(out, p, n);
    digest_add(&out->end, p, n);
    free(p);
    json_decref(value);
    return r;
}

/* ---- opening and closing */

static int output_open(struct st_out *out, const char *path)
{
    if (file_create(&out->file, path, out->e))
        return -1;
    if (isatty(out->file.fd))
        return err_set(out->e,
                       "%s is a terminal, and streams are binary: redirect it, or give -o FILE",
                       out->file.name);
    return 0;
}

static int compression_open(struct st_out *out, int level)
{
    struct stat st;
    if (fstat(out->file.fd, &st))
        return err_set(out->e, "cannot write %s:", out->file.name);
    if (S_ISFIFO(st.st_mode))
        /* advice: a smaller pipe is only slower */
        (void)fcntl(out->file.fd, F_SETPIPE_SZ, ST_CHUNK);
    if (level < 0)
        level = S_ISREG(st.st_mode);
    if (!level)
        return 0;
    if (!(out->z = ZSTD_createCCtx()))
        return err_set(out->e, "cannot write %s: no memory for zstd", out->file.name);
    ZSTD_CCtx_setParameter(out->z, ZSTD_c_compressionLevel, level);
    ZSTD_CCtx_setParameter(out->z, ZSTD_c_checksumFlag, 1);
    return 0;
}

struct st_out *st_create(const char *path, int compress, struct err *e)
{
    struct st_out *out = mem_alloc(sizeof *out);
    out->e = e;
    out->file.fd = -1;
    out->buf = mem_alloc(ROOM);
    digest_open(&out->end);
    if (e->set || output_open(out, path) || compression_open(out, compress)) {
        st_abandon(out);
        return NULL;
    }
    return out;
}

static void out_free(struct st_out *out)
{
    char hex[ST_DIGEST];
    if (out->end.state)
        digest_close(&out->end, hex);
    if (out->data.state)
        digest_close(&out->data, hex);
    ZSTD_freeCCtx(out->z);
    free(out->buf);
    free(out);
}

void st_abandon(struct st_out *out)
{
    if (!out)
        return;
    file_abandon(&out->file);
    out_free(out);
}

int st_publish(struct st_out *out)
{
    struct err *e = out->e;
    if (!e->set && !out->ended)
        err_set(e, "cannot write %s: the stream is incomplete", out->file.name);
    if (e->set) {
        st_abandon(out);
        return -1;
    }
    int failed = file_publish(&out->file, e);
    out_free(out);
    return failed;
}

/* ---- records */

int st_begin(struct st_out *out, const json_t *head)
{
    if (out->e->set)
        return -1;
    json_t *whole = json_pack("{s:i}", "pare", ST_VERSION);
    json_object_update_missing(whole, (json_t *)head);
    if (write_object(out, whole))
        return -1;
    return out->z ? 0 : buffer_flush(out); /* what a reader refuses, it refuses now */
}

int st_check_reader(struct st_out *out)
{
    struct pollfd p = {.fd = out->file.fd};
    if (poll(&p, 1, 0) <= 0 || !(p.revents & POLLERR))
        return 0;
    errno = EPIPE;
    return err_set(out->e, "cannot write %s:", out->file.name);
}

static json_t *tensor_to_json(const struct tensor *t)
{
    json_t *shape = json_array();
    for (int i = 0; i < t->ndim; i++)
        json_array_append_new(shape, json_integer(t->shape[i]));
    return json_pack("{s:s, s:s, s:o, s:I}", "name", t->name, "dtype", dtype_name(t->dtype),
                     "shape", shape, "bytes", (json_int_t)tensor_bytes(t));
}

static int record_end(struct st_out *out)
{
    char hex[ST_DIGEST];
    digest_close(&out->data, hex);
    out->open = 0;
    return write_object(out, json_pack("{s:s}", "digest", hex));
}

int st_record(struct st_out *out, const struct tensor *t)
{
    if (out->e->set)
        return -1;
    if (out->open)
        return err_set(out->e, "cannot write %s: record %s lacks %lld bytes", out->file.name,
                       out->t.name, (long long)out->left);
    json_t *map = tensor_bytes(t) < 0 || t->ndim > TENSOR_DIMS ? NULL : tensor_to_json(t);
    if (!map)
        return err_set(out->e, "cannot write %s: record %s has an invalid name or shape",
                       out->file.name, t->name);
    if (write_object(out, map))
        return -1;
    out->t = *t;
    out->left = tensor_bytes(t);
    out->open = 1;
    out->records++;
    digest_open(&out->data);
    return out->left ? 0 : record_end(out);
}

static int chunk_begin(struct st_out *out)
{
    unsigned char frame[CHUNK_FRAME];
    out->chunk = out->left < ST_CHUNK ? out->left : ST_CHUNK;
    return write_bytes(out, frame, (size_t)chunk_frame(frame, out->chunk));
}

int st_write(struct st_out *out, const void *data, int64_t n)
{
    const unsigned char *p = data;
    if (out->e->set)
        return -1;
    if (n > out->left)
        return err_set(out->e, "cannot write %s: record %s got more bytes than its shape allows",
                       out->file.name, out->t.name);
    while (n > 0) {
        if (!out->chunk && chunk_begin(out))
            return -1;
        int64_t k = n < out->chunk ? n : out->chunk;
        digest_add(&out->data, p, (size_t)k);
        if (write_bytes(out, p, (size_t)k))
            return -1;
        p += k;
        n -= k;
        out->chunk -= k;
        out->left -= k;
        if (!out->left)
            return record_end(out);
    }
    return 0;
}

int st_put(struct st_out *out, const struct tensor *t, const void *data)
{
    return st_record(out, t) ? -1 : st_write(out, data, tensor_bytes(t));
}

int st_end(struct st_out *out)
{
    char hex[ST_DIGEST];
    if (out->e->set)
        return -1;
    if (out->open)
        return err_set(out->e, "cannot write %s: record %s lacks %lld bytes", out->file.name,
                       out->t.name, (long long)out->left);
    digest_close(&out->end, hex);
    digest_open(&out->end); /* the end map itself is not part of what it proves */
    if (write_object(out,
                     json_pack("{s:I, s:s}", "records", (json_int_t)out->records, "digest", hex)))
        return -1;
    if (out->z && write_zstd(out, NULL, 0, ZSTD_e_end))
        return -1;
    if (buffer_flush(out))
        return -1;
    out->ended = 1;
    return 0;
}
