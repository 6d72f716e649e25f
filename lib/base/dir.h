/* A directory that appears whole or not at all: written under a temporary name beside its place,
 * renamed at the end, removed when a signal ends the tool. */
#ifndef PARE_DIR_H
#define PARE_DIR_H

#include "err.h"
#include "unfinished.h"

struct dir_out {
    char *path;
    struct unfinished temporary; /* write into temporary.path */
    int replaces;                /* path exists and will be exchanged */
};
/* An existing directory must be empty; with `overwrite` it may hold plain files, one of them called
 * `mark`, and is replaced as a whole. */
int dir_create(struct dir_out *d, const char *path, int overwrite, const char *mark, struct err *e);
/* fsync, rename, remove what was replaced; frees. On -1 `path` is as it was */
int dir_publish(struct dir_out *d, struct err *e);
/* removes the temporary directory; frees. Harmless on {0} and on what is published */
void dir_abandon(struct dir_out *d);

#endif
