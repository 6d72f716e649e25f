/* Records read by position: in place, if their stream is a plain regular file; from a copy in an
 * unnamed file in TMPDIR, if it is compressed or comes through a pipe. */
#ifndef PARE_RECORDS_FILE_H
#define PARE_RECORDS_FILE_H

#include "../../formats/stream.h"

/* size, modified: what tells that the file has changed; size -1: it is a copy */
struct records_file {
    int fd; /* -1: none yet */
    char *path;
    int64_t size, modified, copied;
};
void records_file_open(struct records_file *f, const char *path);
/* Where the record lies, or will lie, that st_next has just begun. */
int records_file_place(struct records_file *f, const struct st_in *in, int64_t *place,
                       struct err *e);
/* What has been read of a record is passed to it in chunks of ST_CHUNK, the last one shorter. */
int records_file_take(struct records_file *f, const void *chunk, int64_t n, struct err *e);
/* n bytes of a record from byte `offset` of it on. Threads may call it at the same time. -1 also
 * where the file is no longer as it was. */
int records_file_read(const struct records_file *f, int64_t place, int64_t offset, void *to,
                      int64_t n, struct err *e);
void records_file_close(struct records_file *f);

#endif
