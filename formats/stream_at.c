/* Data of records by position: see stream.h. In: regular files with chunks of one or more records,
 * verified before. Every chunk but a record's last is full, so that its place follows from its
 * number. Refused: a frame that is not the one that must be there, so the file has changed. */
#include "../lib/base/file.h"
#include "../lib/base/minmax.h"
#include "chunk.h"
#include "stream.h"

int st_pread(int fd, const char *path, int64_t at, int64_t offset, void *to, int64_t n,
             struct err *e)
{
    while (n > 0) {
        unsigned char frame[CHUNK_FRAME];
        int64_t within = offset % ST_CHUNK,
                place = at + offset / ST_CHUNK * (ST_CHUNK + CHUNK_FRAME);
        if (file_pread(fd, path, frame, sizeof frame, place, e))
            return -1;
        int64_t length = chunk_length(frame), part = min64(n, ST_CHUNK - within);
        if (length > ST_CHUNK || within + part > length)
            return err_set(e, "%s has changed while it was read", path);
        if (file_pread(fd, path, to, part, place + chunk_frame_bytes(frame[0]) + within, e))
            return -1;
        to = (char *)to + part;
        offset += part;
        n -= part;
    }
    return 0;
}

int64_t st_pwrite(int fd, const char *path, int64_t at, const void *chunk, int64_t n, struct err *e)
{
    unsigned char frame[CHUNK_FRAME];
    /* the longest, so that a whole one can be read even at the end of the file */
    int bytes = chunk_frame_sized(frame, n, CHUNK_FRAME - 1);
    return file_pwrite(fd, path, frame, bytes, at, e) ||
                   file_pwrite(fd, path, chunk, n, at + bytes, e)
               ? -1
               : bytes + n;
}
