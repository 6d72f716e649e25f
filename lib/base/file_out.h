/* The one way to open a file for a tool's output.
 *
 * A regular file is written beside its place (unfinished.h) and appears there whole or not at all;
 * a symbolic link stays, and the file that it names is replaced. Standard output (-, /dev/stdout),
 * pipes and devices are written in place. */
#ifndef PARE_FILE_OUT_H
#define PARE_FILE_OUT_H

#include <stdint.h>

#include "err.h"
#include "unfinished.h"

struct file_out {
    int fd;       /* write here */
    char *name;   /* for messages: the path, or "standard output" */
    char *target; /* what will be replaced; NULL: written in place */
    struct unfinished temporary;
};

/* Is the path written beside its place? 0: in place, and nothing can stand beside it. */
int file_is_replaced(const char *path);
/* Refuses directories, and paths that cannot be written or created. */
int file_create(struct file_out *f, const char *path, struct err *e);
/* All n bytes, to files and pipes alike. */
int file_append(struct file_out *f, const void *bytes, int64_t n, struct err *e);
/* fsync and rename, or close; frees. On -1 a regular file is as it was. */
int file_publish(struct file_out *f, struct err *e);
/* Removes the temporary file; frees. Harmless on {.fd = -1} and after publishing. */
void file_abandon(struct file_out *f);

#endif
