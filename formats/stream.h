/* The tensor stream (SPEC.md): header map, records, end map; msgpack, inside zstd where that pays.
 * Every file or pipe between tools holds one.
 *
 * Headers are JSON objects here (jansson, key order kept) and msgpack maps on the wire. Both sides
 * are one-pass and constant-memory. Errors stick in the `struct err` given at open: reads after an
 * error give nothing, writes do nothing, close reports it.
 *
 *   struct st_in *in = st_open("x.tsz", &e);
 *   json_t *head = st_head(in);
 *   while (st_next(in, &t) > 0)
 *       st_read(in, buf, n);
 *   st_close(in);
 *
 *   struct st_out *out = st_create("-", -1, &e);
 *   st_begin(out, head);
 *   st_record(out, &t); st_write(out, data, n); ...
 *   st_end(out);
 *   st_publish(out); or st_abandon(out); */
#ifndef PARE_STREAM_H
#define PARE_STREAM_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "../lib/base/err.h"
#include "../lib/base/tensor.h"

/* digest: XXH3-128 as 32 hex digits and a NUL */
enum {
    ST_VERSION = 1,
    ST_CHUNK = 1 << 20,
    ST_DIGEST = 33,
    /* bytes that a filter should pass on at a time: small enough to be read, hashed and written
     * within a core's own cache */
    ST_BLOCK = 256 << 10
};

/* ---- reading. path "-" is stdin. Opening reads the header (refused beyond limits of size, depth
 * and count, before any allocation by a library). A wrong magic, an unknown version, a truncated or
 * damaged record, a missing end map: -1, never a short read. */
struct st_in;
struct st_in *st_open(const char *path, struct err *e); /* NULL on error */
/* The same by several processes, of what only rank 0 can read, or what can be read only once: rank
 * 0 gives the others the bytes. From here on every rank makes the same calls in the same order;
 * st_at finds no file. */
struct st_in *st_open_shared(const char *path, struct err *e);
/* borrowed; the whole header map, "pare": 1 first, then "kind", "id", ..., "hist" */
json_t *st_head(const struct st_in *in);
/* for messages; "standard input" for - */
const char *st_path(const struct st_in *in);
/* 1: a record begins; 0: end map read and verified; -1 error. Skips what is left of the last
 * record, still checking its digest. */
int st_next(struct st_in *in, struct tensor *t);
/* Up to n bytes of the current record, fewer only at its end; then 0 (digest checked); -1 error. */
int64_t st_read(struct st_in *in, void *buf, int64_t n);
/* Bytes that grow as they arrive, so that a false shape allocates nothing. free(data) */
struct st_buffer {
    void *data;
    int64_t n, room;
};
/* Appends exactly n more bytes of the current record: 0 or -1. */
int st_read_more(struct st_in *in, struct st_buffer *b, int64_t n);
void st_close(struct st_in *in);
/* Data by position. Where, in its file, the chunks begin of the record that st_next has just
 * returned, and the file's descriptor (borrowed, -1: none); -1: the input is compressed, or is not
 * a regular file. */
int64_t st_at(const struct st_in *in, int *fd);
/* n bytes of a record's data, from byte `offset` of it on, once the record has been read to its end
 * and so verified. at: of its chunks; path: for messages. Threads may call it at the same time. */
int st_pread(int fd, const char *path, int64_t at, int64_t offset, void *to, int64_t n,
             struct err *e);
/* Writes a chunk of at most ST_CHUNK bytes that st_pread can read; all but the last of a record are
 * full. Returns the bytes it takes in the file, or -1. */
int64_t st_pwrite(int fd, const char *path, int64_t at, const void *chunk, int64_t n,
                  struct err *e);
/* The id under a header's `key`, "" if absent. Anything but a digest: -1, and e names `path` and
 * the key. st_open has checked "id" itself. */
int st_head_id(const json_t *head, const char *key, char id[ST_DIGEST], const char *path,
               struct err *e);

/* ---- writing. path "-" is stdout (refused on a terminal). A named file is written under a
 * temporary name and renamed by st_publish after fsync. compress: -1 auto (zstd level 1 when the
 * output is a regular file, none in a pipe), 0 none, 1..19 a zstd level. */
struct st_out;
struct st_out *st_create(const char *path, int compress, struct err *e);
/* head without "pare": it is written first by this call */
int st_begin(struct st_out *out, const json_t *head);
/* Into a pipe that nothing reads any more: -1, as the next write would be. */
int st_check_reader(struct st_out *out);
/* begins a record; tensor_bytes(t) bytes must follow */
int st_record(struct st_out *out, const struct tensor *t);
int st_write(struct st_out *out, const void *data, int64_t n); /* payload, any pieces */
/* st_record + the whole payload */
int st_put(struct st_out *out, const struct tensor *t, const void *data);
int st_end(struct st_out *out); /* end map; then flush */
/* close, fsync, rename; frees. -1 if anything failed since creation (the target is then untouched)
 */
int st_publish(struct st_out *out);
/* close without end map, remove the temporary file; frees */
void st_abandon(struct st_out *out);

/* XXH3-128 of a sequence of pieces, as 32 hex digits. */
struct digest {
    void *state;
};
void digest_open(struct digest *d);
void digest_add(struct digest *d, const void *data, size_t n);
void digest_close(struct digest *d, char hex[ST_DIGEST]);
int digest_is(const char *s); /* 32 lower-case hex digits */
/* Are two digests the same, or one of them "", not known? */
int digest_may_equal(const char *a, const char *b);

#endif
