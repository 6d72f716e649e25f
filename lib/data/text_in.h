/* The bytes of a text, which may be compressed with gzip or zstd, in a file or a pipe. */
#ifndef PARE_TEXT_IN_H
#define PARE_TEXT_IN_H

#include <stdint.h>

#include "../base/err.h"

struct text_in;
/* path "-": standard input. Compression is recognised by the first bytes. NULL on error: a file
 * that is not text, such as a Parquet file, with what converts it. */
struct text_in *text_in_open(const char *path, struct err *e);
/* Up to n bytes; 0: the end; -1: error, also if what is compressed is cut short or damaged. */
int64_t text_in_read(struct text_in *t, void *to, int64_t n);
/* For messages; "standard input" for -. */
const char *text_in_path(const struct text_in *t);
/* Bytes of the file read so far, and all that it has; both as it lies on disk. *total 0: a pipe. */
int64_t text_in_taken(const struct text_in *t, int64_t *total);
void text_in_close(struct text_in *t);

#endif
