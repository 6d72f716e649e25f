/* What a file holds, by its first bytes. Plain text has no signature: it is what is left. */
#ifndef PARE_FILE_KIND_H
#define PARE_FILE_KIND_H

#include <stdint.h>

enum file_code {
    FILE_OTHER, /* of no use to any tool */
    FILE_STREAM,
    FILE_GZIP,
    FILE_ZSTD,
    FILE_GGUF,
    FILE_WEIGHTS /* safetensors, without the config.json that makes it a model */
};
struct file_kind {
    enum file_code code;
    const char *name; /* "a Parquet file" */
    const char *text; /* a command that turns FILE into text; NULL: nothing does */
};
enum { FILE_KIND_BYTES = 512 };
/* head: the first n bytes, FILE_KIND_BYTES or all that there are. NULL: no known signature. */
const struct file_kind *file_kind(const void *head, int64_t n);
/* Are these bytes, which may end within a character, UTF-8 without NUL? */
int file_is_text(const void *head, int64_t n);

#endif
