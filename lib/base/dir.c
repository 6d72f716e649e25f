/* Directories that appear whole: see dir.h. Refused: an existing directory that is not empty,
 * unless `overwrite` is set and it holds only plain files, `mark` among them. */
#include "dir.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "mem.h"

/* Is it empty, or replaceable: only plain files, `mark` among them? */
static int check_place(const char *path, int overwrite, const char *mark, int *empty, struct err *e)
{
    DIR *d = opendir(path);
    if (!d)
        return err_set(e, "cannot open directory '%s':", path);
    struct dirent *x;
    char first[256] = "", nested[256] = "";
    int marked = 0;
    while ((x = readdir(d))) {
        struct stat st;
        if (!strcmp(x->d_name, ".") || !strcmp(x->d_name, ".."))
            continue;
        marked |= !strcmp(x->d_name, mark);
        snprintf(first, sizeof first, "%s", x->d_name);
        if (fstatat(dirfd(d), x->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || S_ISDIR(st.st_mode))
            snprintf(nested, sizeof nested, "%s", x->d_name);
    }
    closedir(d);
    *empty = !*first;
    if (*empty)
        return 0;
    if (*nested)
        return err_set(e,
                       "directory '%s' contains another directory, %.200s, and is not overwritten: "
                       "give another name",
                       path, nested);
    if (!marked)
        return err_set(e,
                       "directory '%s' is not empty (it has %.200s), but has no %s, and is not "
                       "overwritten: give another name",
                       path, first, mark);
    return overwrite ? 0
                     : err_set(e,
                               "directory '%s' is not empty (it has %.200s); use --overwrite to "
                               "replace it",
                               path, first);
}

static void release(struct dir_out *d)
{
    free(d->path);
    *d = (struct dir_out){.temporary.fd = -1};
}

/* "." and "..", which cannot be replaced by a rename */
static int has_no_name(const char *path)
{
    const char *slash = strrchr(path, '/'), *last = slash ? slash + 1 : path;
    return !strcmp(last, ".") || !strcmp(last, "..");
}

int dir_create(struct dir_out *d, const char *path, int overwrite, const char *mark, struct err *e)
{
    struct stat st;
    int empty = 1;
    *d = (struct dir_out){.path = mem_string(path)};
    for (size_t n = strlen(d->path); n > 1 && d->path[n - 1] == '/'; n--)
        d->path[n - 1] = 0;
    if (has_no_name(d->path)) {
        err_set(e, "the finished directory is moved to its place by name: give its name, not '%s'",
                path);
    } else if (!lstat(d->path, &st)) {
        if (!S_ISDIR(st.st_mode))
            err_set(e, "'%s' exists and is not a directory", path);
        else if (!check_place(d->path, overwrite, mark, &empty, e))
            d->replaces = !empty;
    }
    if (!e->set && unfinished_create(&d->temporary, d->path, 1))
        err_set(e, "cannot create a directory beside '%s':", path);
    if (e->set)
        release(d);
    return e->set ? -1 : 0;
}

int dir_publish(struct dir_out *d, struct err *e)
{
    int failed = unfinished_publish(&d->temporary, d->path, d->replaces);
    if (failed)
        err_set(e, "cannot put the finished directory at '%s':", d->path);
    release(d);
    return failed;
}

void dir_abandon(struct dir_out *d)
{
    unfinished_discard(&d->temporary);
    release(d);
}
