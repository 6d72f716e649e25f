/* Reading a tensor stream: see stream.h and SPEC.md. Takes a file, a pipe or standard input (not a
 * terminal), plain or in zstd frames (recognised by their magic number); gives the header as JSON,
 * then record after record. Nothing is allocated for sizes a stream merely claims: buffers grow
 * with the bytes that arrive, up to the limits below. The payload of plain streams is read straight
 * into the caller's memory. Refused: other formats and versions, headers beyond the limits, records
 * whose dtype, shape and bytes disagree, chunks of another size, wrong digests, a missing end map,
 * bytes after it. */
#include "stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "../lib/base/mem.h"
#include "../lib/base/world.h"
#include "chunk.h"
#include "mpk.h"

enum { ROOM = 64 << 10, ZROOM = 256 << 10, MAGIC = 4 };
/* bytes of a header, of any other map */
enum { HEAD_MAX = 256 << 20, MAP_MAX = 4096 };

struct st_in {
    struct err *e;
    char *path;     /* for messages */
    int fd;         /* -1 where rank 0 reads */
    int shared;     /* by all processes: rank 0 reads, and gives every other the bytes */
    uint64_t size;  /* bytes of a plain regular file; unknown: the largest number */
    uint64_t taken; /* from the source so far */
    off_t start;    /* of the source in its file */
    /* decoded bytes [pos, len) not yet consumed */
    unsigned char *buf;
    size_t pos, len, room;
    ZSTD_DCtx *z; /* NULL: the input is plain */
    unsigned char *zbuf;
    ZSTD_inBuffer zin;
    size_t zhint; /* 0: between frames */
    int zfull;    /* the decoder may hold more output */
    json_t *head;
    struct digest end, data; /* of the objects outside data chunks; of the current record's data */
    struct tensor t;
    int64_t left, chunk, records; /* of the current record, of its current chunk */
    int open, done;               /* a record is open; the end map was read */
};

/* ---- bytes */

static ssize_t read_own(struct st_in *in, void *dst, size_t n)
{
    ssize_t r;
    do
        r = read(in->fd, dst, n);
    while (r < 0 && errno == EINTR);
    return r < 0 ? err_set(in->e, "cannot read %s:", in->path) : r;
}

/* An error of rank 0 becomes that of all. */
static ssize_t read_shared(struct st_in *in, void *dst, size_t n)
{
    int64_t r = world_rank() ? 0 : read_own(in, dst, n);
    if (world_broadcast(&r, sizeof r, 0, in->e))
        return -1;
    if (r < 0)
        return in->e->set ? -1 : err_set(in->e, "rank 0 cannot read %s", in->path);
    return r && world_broadcast(dst, (size_t)r, 0, in->e) ? -1 : (ssize_t)r;
}

static ssize_t read_raw(struct st_in *in, void *dst, size_t n)
{
    ssize_t r = in->shared ? read_shared(in, dst, n) : read_own(in, dst, n);
    if (r > 0)
        in->taken += (uint64_t)r;
    return r;
}

static int64_t read_zstd(struct st_in *in, void *dst, size_t n)
{
    for (;;) {
        if (in->zin.pos == in->zin.size && !in->zfull) {
            ssize_t r = read_raw(in, in->zbuf, ZROOM);
            if (r < 0)
                return -1;
            if (!r)
                return in->zhint ? err_set(in->e, "%s ends early, inside its zstd frame", in->path)
                                 : 0;
            in->zin = (ZSTD_inBuffer){in->zbuf, (size_t)r, 0};
        }
        ZSTD_outBuffer out = {dst, n, 0};
        in->zhint = ZSTD_decompressStream(in->z, &out, &in->zin);
        if (ZSTD_isError(in->zhint))
            return err_set(in->e, "%s is damaged: zstd: %s", in->path,
                           ZSTD_getErrorName(in->zhint));
        in->zfull = in->zhint && out.pos == out.size;
        if (out.pos)
            return (int64_t)out.pos;
    }
}

/* Some plain bytes, at least one and at most n; 0 at the end of the input; -1. */
static int64_t read_some(struct st_in *in, void *dst, size_t n)
{
    return in->z ? read_zstd(in, dst, n) : read_raw(in, dst, n);
}

static int64_t buffer_fill(struct st_in *in)
{
    if (in->pos == in->len)
        in->pos = in->len = 0;
    if (in->len == in->room && in->pos) {
        memmove(in->buf, in->buf + in->pos, in->len -= in->pos);
        in->pos = 0;
    }
    if (in->len == in->room)
        in->buf = mem_grow(in->buf, in->room *= 2);
    size_t n = in->room - in->len;
    /* and no more, so that payload bypasses the buffer */
    int64_t r = read_some(in, in->buf + in->len, n < ROOM ? n : ROOM);
    if (r > 0)
        in->len += (size_t)r;
    return r;
}

static int ends_early(struct st_in *in)
{
    if (!in->head)
        return err_set(in->e, "%s ends early, inside its header", in->path);
    if (in->open)
        return err_set(in->e, "%s ends early, inside record \"%s\"", in->path, in->t.name);
    return err_set(
        in->e, "%s ends early, after %lld records: it has no end map, so its writer did not finish",
        in->path, (long long)in->records);
}

/* Fills the buffer to at least k bytes. */
static int buffer_need(struct st_in *in, size_t k)
{
    while (in->len - in->pos < k) {
        int64_t r = buffer_fill(in);
        if (r <= 0)
            return r ? -1 : ends_early(in);
    }
    return 0;
}

/* Exactly n bytes of payload: what is buffered, then straight from the source. Short remainders go
 * through the buffer, so that small records do not cost a system call each. */
static int payload_read(struct st_in *in, unsigned char *dst, size_t n)
{
    while (n) {
        size_t have = in->len - in->pos;
        int64_t r;
        if (have) {
            r = (int64_t)(have < n ? have : n);
            memcpy(dst, in->buf + in->pos, (size_t)r);
            in->pos += (size_t)r;
        } else if (n >= ROOM) {
            r = read_some(in, dst, n);
            if (r <= 0)
                return r ? -1 : ends_early(in);
        } else {
            if (buffer_need(in, 1))
                return -1;
            continue;
        }
        dst += r;
        n -= (size_t)r;
    }
    return 0;
}

/* A header's memory is limited by the bytes actually read: a few kilobytes of zstd can hold
 * millions of values. */
static uint64_t memory_limit(uint64_t taken) { return (UINT64_C(64) << 20) + 16 * taken; }

/* The next msgpack object, of at most `limit` bytes; its bytes enter the end digest unless it is
 * the end map itself. */
static json_t *object_read(struct st_in *in, uint64_t limit, const char *what, int digested)
{
    const char *why = NULL;
    struct mpk_scan s = {.limits = {limit < in->size ? limit : in->size, memory_limit(in->taken)}};
    int r;
    while (!(r = mpk_scan(&s, in->buf + in->pos, in->len - in->pos, &why))) {
        if (buffer_need(in, in->len - in->pos + 1))
            return NULL;
        s.limits.memory = memory_limit(in->taken);
    }
    json_t *v = r < 0 ? NULL : mpk_decode(in->buf + in->pos, s.at, &why);
    if (!v)
        return err_set(in->e, "%s: damaged %s: %s", in->path, what, why), NULL;
    if (!json_is_object(v)) {
        json_decref(v);
        return err_set(in->e, "%s: damaged %s: not a map", in->path, what), NULL;
    }
    if (digested || !json_object_get(v, "records"))
        digest_add(&in->end, in->buf + in->pos, s.at);
    in->pos += s.at;
    return v;
}

/* ---- opening */

static int source_open(struct st_in *in, const char *path)
{
    if (strcmp(path, "-")) {
        in->fd = open(path, O_RDONLY | O_CLOEXEC);
        return in->fd < 0 ? err_set(in->e, "cannot open %s:", path) : 0;
    }
    in->fd = STDIN_FILENO;
    return isatty(in->fd) ? err_set(in->e, "standard input is a terminal; expected a stream") : 0;
}

static int source_examine(struct st_in *in)
{
    struct stat st;
    if (fstat(in->fd, &st))
        return err_set(in->e, "cannot read %s:", in->path);
    if (S_ISFIFO(st.st_mode))
        /* advice: a smaller pipe is only slower */
        (void)fcntl(in->fd, F_SETPIPE_SZ, ST_CHUNK);
    if (S_ISREG(st.st_mode) && !in->shared) {
        in->size = (uint64_t)st.st_size;
        in->start = lseek(in->fd, 0, SEEK_CUR);
        posix_fadvise(in->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    }
    return 0;
}

static int input_open(struct st_in *in, const char *path)
{
    int reads = !in->shared || world_rank() == 0;
    in->path = mem_string(strcmp(path, "-") ? path : "standard input");
    in->size = UINT64_MAX;
    int failed = reads && (source_open(in, path) || source_examine(in));
    if (in->shared)
        return world_agree(in->e);
    return failed ? -1 : 0;
}

static int is_zstd(const unsigned char *p)
{
    uint32_t magic = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
                     (uint32_t)p[3] << 24;
    return magic == ZSTD_MAGICNUMBER ||
           (magic & ZSTD_MAGIC_SKIPPABLE_MASK) == ZSTD_MAGIC_SKIPPABLE_START;
}

/* Looks at the magic number and, for zstd, puts the decoder between source and buffer. */
static int input_detect(struct st_in *in)
{
    while (in->len < MAGIC) {
        int64_t r = buffer_fill(in);
        if (r < 0)
            return -1;
        if (!r && !in->len)
            return err_set(in->e, "%s is empty; expected a stream", in->path);
        if (!r)
            return 0;
    }
    if (!is_zstd(in->buf))
        return 0;
    in->z = ZSTD_createDCtx();
    in->zbuf = mem_alloc(ZROOM);
    if (!in->z)
        return err_set(in->e, "cannot read %s: no memory for zstd", in->path);
    memcpy(in->zbuf, in->buf, in->len);
    in->zin = (ZSTD_inBuffer){in->zbuf, in->len, 0};
    in->zhint = 1;
    in->pos = in->len = 0;
    in->size = UINT64_MAX;
    return 0;
}

/* Bytes of the MessagePack map header that begins with `first`; 0 if it begins something else. */
static size_t map_header(unsigned char first)
{
    if (first == 0xde)
        return 3;
    if (first == 0xdf)
        return 5;
    return (first & 0xf0) == 0x80;
}

/* A map whose first key is "pare": looked at before anything is scanned, so that other files are
 * refused at once. */
static int magic_check(struct st_in *in)
{
    static const unsigned char key[] = "\xa4pare";
    int64_t r = 1;
    while (in->len - in->pos < 10 && r > 0)
        r = buffer_fill(in);
    if (r < 0)
        return -1;
    const unsigned char *p = in->buf + in->pos;
    size_t n = in->len - in->pos, skip = n ? map_header(p[0]) : 0;
    size_t have = n > skip ? n - skip : 0;
    if (!skip || memcmp(p + skip, key, have < 5 ? have : 5))
        return err_set(in->e, "%s is not a pare stream", in->path);
    return 0;
}

int st_head_id(const json_t *head, const char *key, char id[ST_DIGEST], const char *path,
               struct err *e)
{
    const json_t *value = json_object_get(head, key);
    const char *s = value ? json_string_value(value) : "";
    if (!s || (*s && !digest_is(s)))
        return err_set(e, "%s: damaged header: its %s is not a digest of 32 hex digits", path, key);
    strcpy(id, s);
    return 0;
}

static int head_check(struct st_in *in)
{
    char id[ST_DIGEST];
    const json_t *version = json_object_get(in->head, "pare");
    if (!json_is_integer(version))
        return err_set(in->e, "%s is not a pare stream: its version is not an integer", in->path);
    if (json_integer_value(version) != ST_VERSION)
        return err_set(in->e, "%s has stream version %lld; this release reads version %d", in->path,
                       (long long)json_integer_value(version), ST_VERSION);
    if (!json_is_string(json_object_get(in->head, "kind")))
        return err_set(in->e, "%s: damaged header: no \"kind\"", in->path);
    return st_head_id(in->head, "id", id, in->path, in->e);
}

static struct st_in *begin(const char *path, int shared, struct err *e)
{
    struct st_in *in = mem_alloc(sizeof *in);
    in->e = e;
    in->fd = -1;
    in->shared = shared;
    in->buf = mem_alloc(in->room = ROOM);
    digest_open(&in->end);
    if (!e->set && !input_open(in, path) && !input_detect(in) && !magic_check(in)) {
        in->head = object_read(in, HEAD_MAX, "header", 1);
        if (in->head && !head_check(in))
            return in;
    }
    st_close(in);
    return NULL;
}

struct st_in *st_open(const char *path, struct err *e) { return begin(path, 0, e); }

struct st_in *st_open_shared(const char *path, struct err *e)
{
    return begin(path, world_size() > 1, e);
}

json_t *st_head(const struct st_in *in) { return in->head; }
const char *st_path(const struct st_in *in) { return in->path; }

void st_close(struct st_in *in)
{
    char hex[ST_DIGEST];
    if (!in)
        return;
    /* whoever goes on with a copy of the descriptor (st_at) does not read ahead */
    if (in->size != UINT64_MAX)
        posix_fadvise(in->fd, 0, 0, POSIX_FADV_NORMAL);
    if (in->fd > STDIN_FILENO)
        close(in->fd);
    if (in->end.state)
        digest_close(&in->end, hex);
    if (in->data.state)
        digest_close(&in->data, hex);
    ZSTD_freeDCtx(in->z);
    json_decref(in->head);
    free(in->zbuf);
    free(in->buf);
    free(in->path);
    free(in);
}

/* ---- records */

static int digest_compare(struct st_in *in, struct digest *d, const json_t *map, const char *what)
{
    char hex[ST_DIGEST];
    const char *said = json_string_value(json_object_get(map, "digest"));
    digest_close(d, hex);
    if (!said)
        return err_set(in->e, "%s: damaged %s: no digest", in->path, what);
    if (strcmp(said, hex))
        return err_set(in->e, "%s is damaged: the digest of %s%s is %s, not %.32s", in->path, what,
                       in->open ? in->t.name : "", hex, said);
    return 0;
}

static int record_end(struct st_in *in)
{
    json_t *map = object_read(in, MAP_MAX, "digest of a record", 1);
    if (!map)
        return -1;
    int r = json_object_size(map) != 1
                ? err_set(in->e, "%s: damaged digest of record %s", in->path, in->t.name)
                : digest_compare(in, &in->data, map, "record ");
    json_decref(map);
    in->open = 0;
    return r;
}

static int end_read(struct st_in *in, const json_t *map)
{
    const json_t *records = json_object_get(map, "records");
    unsigned char extra;
    if (json_object_size(map) != 2 || !json_is_integer(records))
        return err_set(in->e, "%s: damaged end map", in->path);
    if (json_integer_value(records) != in->records)
        return err_set(in->e, "%s is damaged: it has %lld records, but its end map says %lld",
                       in->path, (long long)in->records, (long long)json_integer_value(records));
    if (digest_compare(in, &in->end, map, "its headers"))
        return -1;
    if (in->len == in->pos) {
        int64_t r = read_some(in, &extra, 1);
        if (r <= 0) {
            in->done = !r;
            return (int)r;
        }
    }
    return err_set(in->e, "%s is damaged: bytes follow its end map", in->path);
}

/* The fields of a record's map, checked against each other. */
static int tensor_parse(struct st_in *in, const json_t *map)
{
    struct tensor *t = &in->t;
    const json_t *shape = json_object_get(map, "shape"), *bytes = json_object_get(map, "bytes");
    const char *name = json_string_value(json_object_get(map, "name")),
               *dtype = json_string_value(json_object_get(map, "dtype"));
    if (!name || !*name || strlen(name) >= TENSOR_NAME || !dtype || !json_is_array(shape) ||
        !json_is_integer(bytes) || json_object_size(map) != 4)
        return err_set(in->e, "%s: damaged record %lld: not {name, dtype, shape, bytes}", in->path,
                       (long long)in->records);
    int d = dtype_parse(dtype);
    if (d < 0)
        return err_set(in->e, "%s: record %s has the unknown dtype \"%.20s\"", in->path, name,
                       dtype);
    if (json_array_size(shape) > TENSOR_DIMS)
        return err_set(in->e, "%s: record %s has %zu dimensions; at most %d are allowed", in->path,
                       name, json_array_size(shape), TENSOR_DIMS);
    *t = (struct tensor){.dtype = (enum dtype)d, .ndim = (int)json_array_size(shape)};
    strcpy(t->name, name);
    for (int i = 0; i < t->ndim; i++) {
        const json_t *n = json_array_get(shape, (size_t)i);
        t->shape[i] = json_is_integer(n) ? json_integer_value(n) : -1;
    }
    if (tensor_bytes(t) < 0 || tensor_bytes(t) != json_integer_value(bytes))
        return err_set(in->e, "%s: record %s: its dtype and shape do not make %lld bytes", in->path,
                       name, (long long)json_integer_value(bytes));
    return 0;
}

/* Begins the next chunk: its length is known, so any other is damage. */
static int chunk_begin(struct st_in *in)
{
    if (buffer_need(in, 2))
        return -1;
    int frame = chunk_frame_bytes(in->buf[in->pos]);
    int64_t want = in->left < ST_CHUNK ? in->left : ST_CHUNK;
    if (!frame)
        return err_set(in->e, "%s is damaged: a chunk of record %s is missing", in->path,
                       in->t.name);
    if (buffer_need(in, (size_t)frame))
        return -1;
    int64_t n = chunk_length(in->buf + in->pos);
    if (n != want)
        return err_set(in->e, "%s is damaged: a chunk of %lld bytes in record %s should have %lld",
                       in->path, (long long)n, in->t.name, (long long)want);
    in->pos += (size_t)frame;
    in->chunk = n;
    return 0;
}

int64_t st_read(struct st_in *in, void *buf, int64_t n)
{
    unsigned char *dst = buf;
    int64_t got = 0;
    if (in->e->set)
        return -1;
    while (got < n && in->left) {
        if (!in->chunk && chunk_begin(in))
            return -1;
        int64_t k = n - got < in->chunk ? n - got : in->chunk;
        if (payload_read(in, dst + got, (size_t)k))
            return -1;
        digest_add(&in->data, dst + got, (size_t)k);
        got += k;
        in->chunk -= k;
        in->left -= k;
        if (!in->left && record_end(in))
            return -1;
    }
    return got;
}

int64_t st_at(const struct st_in *in, int *fd)
{
    *fd = in->shared ? -1 : in->fd;
    return in->size == UINT64_MAX ? -1
                                  : in->start + (int64_t)in->taken - (int64_t)(in->len - in->pos);
}

static int record_skip(struct st_in *in)
{
    unsigned char *scratch = mem_alloc(ZROOM);
    while (in->left && st_read(in, scratch, ZROOM) > 0)
        ;
    free(scratch);
    return in->e->set ? -1 : 0;
}

int st_next(struct st_in *in, struct tensor *t)
{
    if (in->e->set || (in->left && record_skip(in)))
        return -1;
    if (in->done)
        return 0;
    json_t *map = object_read(in, MAP_MAX, "record", 0);
    if (!map)
        return -1;
    int is_end = json_object_get(map, "records") != NULL,
        r = is_end ? end_read(in, map) : tensor_parse(in, map);
    json_decref(map);
    if (r || is_end)
        return r;
    in->records++;
    in->open = 1;
    in->left = tensor_bytes(&in->t);
    digest_open(&in->data);
    if (!in->left && record_end(in))
        return -1;
    *t = in->t;
    return 1;
}

int st_read_more(struct st_in *in, struct st_buffer *b, int64_t n)
{
    while (n) {
        int64_t part = n < ST_CHUNK ? n : ST_CHUNK;
        if (b->n + part > b->room) {
            b->room = 2 * b->n + part;
            b->data = mem_grow(b->data, (size_t)b->room);
        }
        int64_t r = st_read(in, (char *)b->data + b->n, part);
        if (r != part)
            return r < 0 ? -1 : err_set(in->e, "%s: a record ends early", in->path);
        b->n += part;
        n -= part;
    }
    return 0;
}
