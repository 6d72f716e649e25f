/* See spill.h. */
#include "spill.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "file.h"

static const char name[] = "the temporary file";

/* Room is taken at once, so that no write fails for the lack of it. */
static int file_begin(struct spill *s, int64_t bytes, struct err *e)
{
    if ((s->fd = file_temporary(e)) < 0)
        return -1;
    int failed = posix_fallocate(s->fd, 0, bytes);
    if (failed)
        err_set(e,
                "%s has no room for a temporary file of %.1f MB (%s): set TMPDIR to a directory "
                "that has",
                file_temporary_dir(), 1e-6 * (double)bytes, strerror(failed));
    return failed ? -1 : 0;
}

int spill_open(struct spill *s, int64_t bytes, int in_file, struct err *e)
{
    struct err no_memory = {0};
    *s = (struct spill){.fd = -1};
    if (!bytes || (!in_file && !arena_open(&s->memory, (size_t)bytes, &no_memory)))
        return 0;
    return file_begin(s, bytes, e);
}

int spill_put(struct spill *s, int64_t at, const void *from, int64_t n, struct err *e)
{
    if (!s->memory.base)
        return file_pwrite(s->fd, name, from, n, at, e);
    memcpy(s->memory.base + at, from, (size_t)n);
    return 0;
}

const void *spill_get(struct spill *s, int64_t at, int64_t n, struct err *e)
{
    if (s->memory.base)
        return s->memory.base + at;
    s->buffer = mem_grow(s->buffer, (size_t)n);
    return file_pread(s->fd, name, s->buffer, n, at, e) ? NULL : s->buffer;
}

void spill_close(struct spill *s)
{
    if (s->fd > 0)
        close(s->fd);
    arena_close(&s->memory);
    free(s->buffer);
    *s = (struct spill){.fd = -1};
}
