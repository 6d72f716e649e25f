/* Small whole files: configurations, tokenizers, indexes. */
#ifndef PARE_FILE_H
#define PARE_FILE_H

#include <stdint.h>

#include "err.h"

/* Opens a regular file for reading; *bytes its size. -1 on error. Anything else (a FIFO, a device)
 * is refused without waiting for it. */
int file_open(const char *path, int64_t *bytes, struct err *e);
/* All bytes of a regular file and a NUL after them (`bytes` may be NULL). NULL on error, or if it
 * has more than `limit` bytes. free() it. */
char *file_read(const char *path, int64_t limit, int64_t *bytes, struct err *e);
/* Creates a file, which must not exist, in a directory that is being written (dir.h). A file that
 * replaces a user's is opened by file_create (file_out.h). Descriptor, or -1. */
int file_new(const char *path, struct err *e);
/* The same with these bytes, on disk (fsync) when it returns 0. */
int file_write(const char *path, const void *bytes, int64_t n, struct err *e);
/* The last part of a path; of . and .. the name of the directory that they are. free() it. */
char *file_base_name(const char *path);
/* Where large temporary files go: TMPDIR, or else /var/tmp or /tmp. */
const char *file_temporary_dir(void);
/* A new file there without a name: gone once it is closed. Descriptor, or -1. */
int file_temporary(struct err *e);
/* Lets the process open as many files as the system permits. */
void file_raise_limit(void);
/* Exactly `n` bytes at `offset`, however few the kernel returns at a time. -1 if the file ends
 * before. */
int file_pread(int fd, const char *path, void *buf, int64_t n, int64_t offset, struct err *e);
int file_pwrite(int fd, const char *path, const void *buf, int64_t n, int64_t offset,
                struct err *e);

#endif
