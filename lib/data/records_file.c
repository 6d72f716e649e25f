/* See records_file.h. */
#include "records_file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../base/file.h"
#include "../base/mem.h"

void records_file_open(struct records_file *f, const char *path)
{
    *f = (struct records_file){.fd = -1, .path = mem_string(path)};
}

static int64_t modified_at(const struct stat *s)
{
    return s->st_mtim.tv_sec * INT64_C(1000000000) + s->st_mtim.tv_nsec;
}

static int file_use(struct records_file *f, int fd, struct err *e)
{
    struct stat s;
    if ((f->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0)) < 0 || fstat(f->fd, &s))
        return err_set(e, "cannot read %s:", f->path);
    f->size = s.st_size;
    f->modified = modified_at(&s);
    return 0;
}

static int copy_failed(const struct records_file *f, const struct err *why, struct err *e)
{
    return err_set(e,
                   "%s cannot be read by position, nor copied to %s: %s; set TMPDIR to a directory "
                   "with room, or give a file written with --compress none",
                   f->path, file_temporary_dir(), why->msg);
}

int records_file_place(struct records_file *f, const struct st_in *in, int64_t *place,
                       struct err *e)
{
    struct err why = {0};
    int fd;
    *place = st_at(in, &fd);
    if (*place >= 0)
        return f->fd < 0 ? file_use(f, fd, e) : 0;
    *place = f->copied;
    if (f->fd < 0 && (f->fd = file_temporary(&why)) < 0)
        return copy_failed(f, &why, e);
    f->size = -1;
    return 0;
}

int records_file_take(struct records_file *f, const void *chunk, int64_t n, struct err *e)
{
    struct err why = {0};
    if (f->size >= 0)
        return 0;
    int64_t written = st_pwrite(f->fd, "the copy", f->copied, chunk, n, &why);
    f->copied += written;
    return written < 0 ? copy_failed(f, &why, e) : 0;
}

int records_file_read(const struct records_file *f, int64_t place, int64_t offset, void *to,
                      int64_t n, struct err *e)
{
    struct stat s;
    struct err why = {0};
    int failed = st_pread(f->fd, f->path, place, offset, to, n, &why);
    if (f->size >= 0 && fstat(f->fd, &s))
        return err_set(e, "cannot read %s:", f->path);
    /* after the read, which a change may have made fail */
    if (f->size >= 0 && (s.st_size != f->size || modified_at(&s) != f->modified))
        return err_set(e, "%s has changed while it was read", f->path);
    return failed ? err_set(e, "%s", why.msg) : 0;
}

void records_file_close(struct records_file *f)
{
    if (f->path && f->fd >= 0)
        close(f->fd);
    free(f->path);
    *f = (struct records_file){.fd = -1};
}
