/* Directories that appear whole: see dir.h. Refused: a place that holds anything one would miss
 * (other than a directory of plain files that is plainly of the same kind, when overwriting is
 * asked for). */
#include "dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mem.h"
#include "unfinished.h"

/* Empty, or replaceable: only plain files and `mark` among them. */
static int check_place(const char *path, int overwrite, const char *mark, int *empty, struct err *e)
{
    DIR *d = opendir(path);
    if (!d)
        return err_set(e, "cannot open directory '%s':", path);
    struct dirent *x;
    int marked = 0;
    *empty = 1;
    while ((x = readdir(d)) && !e->set) {
        struct stat st;
        if (!strcmp(x->d_name, ".") || !strcmp(x->d_name, ".."))
            continue;
        *empty = 0;
        marked |= !strcmp(x->d_name, mark);
        if (!overwrite)
            err_set(e, "directory '%s' is not empty (it has %.200s); use --overwrite to replace it",
                    path, x->d_name);
        else if (fstatat(dirfd(d), x->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || S_ISDIR(st.st_mode))
            err_set(e, "directory '%s' contains another directory, %.200s, and is not overwritten",
                    path, x->d_name);
    }
    closedir(d);
    if (!e->set && !*empty && !marked)
        err_set(e, "directory '%s' has no %s and is not overwritten", path, mark);
    return e->set ? -1 : 0;
}

static void release(struct dir_out *d)
{
    unfinished_leave(d->temporary);
    free(d->path);
    free(d->temporary);
    *d = (struct dir_out){0};
}

int dir_create(struct dir_out *d, const char *path, int overwrite, const char *mark, struct err *e)
{
    struct stat st;
    int empty = 1;
    *d = (struct dir_out){.path = mem_string(path)};
    for (size_t n = strlen(d->path); n > 1 && d->path[n - 1] == '/'; n--)
        d->path[n - 1] = 0;
    if (!lstat(d->path, &st)) {
        if (!S_ISDIR(st.st_mode))
            err_set(e, "'%s' exists and is not a directory", path);
        else if (!check_place(d->path, overwrite, mark, &empty, e))
            d->replaces = !empty;
    }
    const char *slash = strrchr(d->path, '/'), *base = slash ? slash + 1 : d->path;
    d->temporary = mem_format("%.*s.%s.XXXXXX", (int)(base - d->path), d->path, base);
    if (!e->set && !mkdtemp(d->temporary))
        err_set(e, "cannot create a directory beside '%s':", path);
    if (e->set) {
        release(d);
        return -1;
    }
    unfinished_enter(d->temporary);
    mode_t mask = umask(0);
    umask(mask);
    chmod(d->temporary, 0777 & ~mask);
    return 0;
}

static int sync_dir(const char *path, struct err *e)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), failed = fd < 0 || fsync(fd) < 0;
    if (failed)
        err_set(e, "cannot write directory '%s':", path);
    if (fd >= 0)
        close(fd);
    return failed ? -1 : 0;
}

int dir_publish(struct dir_out *d, struct err *e)
{
    int failed = sync_dir(d->temporary, e);
    if (!failed &&
        (d->replaces ? renameat2(AT_FDCWD, d->temporary, AT_FDCWD, d->path, RENAME_EXCHANGE)
                     : rename(d->temporary, d->path)) < 0)
        failed = err_set(e, "cannot put the finished directory at '%s':", d->path);
    if (failed || d->replaces)
        unfinished_remove(d->temporary); /* after an exchange this is the old one */
    release(d);
    return failed;
}

void dir_abandon(struct dir_out *d)
{
    if (d->temporary)
        unfinished_remove(d->temporary);
    release(d);
}
