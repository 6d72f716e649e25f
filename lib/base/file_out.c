/* Outputs: see file_out.h. */
#include "file_out.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mem.h"
#include "text.h"

enum { LINKS_MAX = 40 }; /* the kernel's limit; it has already refused longer chains */

/* The file that `path` resolves to when links are followed; the last may dangle. */
static char *follow_links(const char *path)
{
    char *at = mem_string(path), text[PATH_MAX];
    ssize_t n;
    for (int i = 0; i < LINKS_MAX && (n = readlink(at, text, sizeof text - 1)) > 0; i++) {
        text[n] = 0;
        const char *slash = text[0] == '/' ? NULL : strrchr(at, '/');
        char *next = mem_format("%.*s%s", slash ? (int)(slash - at + 1) : 0, at, text);
        free(at);
        at = next;
    }
    return at;
}

static int create_beside(struct file_out *f, const char *path)
{
    if (!*path || text_ends(path, "/")) {
        errno = ENOENT;
        return -1;
    }
    f->target = follow_links(path);
    return unfinished_create(&f->temporary, f->target, 0) ? -1 : f->temporary.fd;
}

/* /dev/stdout names the file that standard output was redirected to; replacing that file would lose
 * what else is written there. */
static int is_standard_output(const struct stat *st)
{
    struct stat out;
    return S_ISREG(st->st_mode) && !fstat(STDOUT_FILENO, &out) && out.st_dev == st->st_dev &&
           out.st_ino == st->st_ino;
}

int file_is_replaced(const char *path)
{
    struct stat st;
    if (!strcmp(path, "-"))
        return 0;
    return stat(path, &st) ? errno == ENOENT : S_ISREG(st.st_mode) && !is_standard_output(&st);
}

static int open_output(struct file_out *f, const char *path)
{
    struct stat st;
    if (file_is_replaced(path))
        return create_beside(f, path);
    if (!strcmp(path, "-") || (!stat(path, &st) && is_standard_output(&st)))
        return fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    return open(path, O_WRONLY | O_CLOEXEC);
}

int file_create(struct file_out *f, const char *path, struct err *e)
{
    *f = (struct file_out){.name = mem_string(strcmp(path, "-") ? path : "standard output")};
    f->fd = open_output(f, path);
    if (f->fd >= 0)
        return 0;
    err_set(e, "cannot write %s:", f->name);
    file_abandon(f);
    return -1;
}

int file_append(struct file_out *f, const void *bytes, int64_t n, struct err *e)
{
    for (const char *p = bytes, *end = p + n; p < end;) {
        ssize_t put = write(f->fd, p, (size_t)(end - p));
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return err_set(e, "cannot write %s:", f->name);
        p += put;
    }
    return 0;
}

static void release(struct file_out *f)
{
    free(f->name);
    free(f->target);
    *f = (struct file_out){.fd = -1, .temporary.fd = -1};
}

int file_publish(struct file_out *f, struct err *e)
{
    int failed = f->temporary.path ? unfinished_publish(&f->temporary, f->target, 0) : close(f->fd);
    if (failed)
        err_set(e, "cannot write %s:", f->name);
    release(f);
    return failed ? -1 : 0;
}

void file_abandon(struct file_out *f)
{
    if (f->temporary.path)
        unfinished_discard(&f->temporary);
    else if (f->fd >= 0)
        close(f->fd);
    release(f);
}
