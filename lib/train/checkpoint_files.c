/* The files of checkpoints in a directory: see checkpoint.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../base/file_kind.h"
#include "../base/mem.h"
#include "../base/unfinished.h"
#include "checkpoint.h"

char *checkpoint_path(const char *dir, int64_t step, int part)
{
    if (!part)
        return mem_format("%s/checkpoint-%lld.tsz", dir, (long long)step);
    return mem_format("%s/checkpoint-%lld.part-%d.tsz", dir, (long long)step, part);
}

/* checkpoint-STEP.tsz, checkpoint-STEP.part-N.tsz -> STEP; -1 for any other name. part: its number,
 * 0 for the first. */
static int64_t checkpoint_step(const char *name, int *part)
{
    static const char prefix[] = "checkpoint-";
    const char *digits = name + sizeof prefix - 1;
    if (strncmp(name, prefix, sizeof prefix - 1) || *digits < '0' || *digits > '9')
        return -1;
    char *end;
    int n = 0;
    *part = 0;
    errno = 0;
    long long step = strtoll(digits, &end, 10);
    if (sscanf(end, ".part-%6d%n", part, &n) == 1)
        end += n;
    return errno || strcmp(end, ".tsz") ? -1 : step;
}

static int compare_steps(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

int64_t checkpoint_list(const char *dir, int64_t **steps, struct err *e)
{
    *steps = NULL;
    DIR *d = opendir(dir);
    if (!d)
        return errno == ENOENT ? 0 : err_set(e, "cannot read directory %s:", dir);
    int64_t n = 0;
    for (struct dirent *f; (f = readdir(d));) {
        int part;
        int64_t step = checkpoint_step(f->d_name, &part);
        if (step < 0 || part)
            continue;
        *steps = mem_grow(*steps, (size_t)(n + 1) * sizeof **steps);
        (*steps)[n++] = step;
    }
    closedir(d);
    if (n)
        qsort(*steps, (size_t)n, sizeof **steps, compare_steps);
    return n;
}

/* Somebody else's file can have the name of a checkpoint; it is not removed. */
static int is_stream(int dir, const char *name)
{
    char head[FILE_KIND_BYTES];
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, head, sizeof head);
    const struct file_kind *kind = n > 0 ? file_kind(head, n) : NULL;
    if (fd >= 0)
        close(fd);
    return kind && kind->code == FILE_STREAM;
}

/* Of the parts numbered from `first` to `last`. */
static void prune(DIR *d, int64_t oldest, int first, int last)
{
    rewinddir(d);
    for (struct dirent *f; (f = readdir(d));) {
        int part;
        int64_t step = checkpoint_step(f->d_name, &part);
        if (step >= 0 && step < oldest && part >= first && part <= last &&
            is_stream(dirfd(d), f->d_name))
            unlinkat(dirfd(d), f->d_name, 0);
    }
}

/* The first parts go first: without them there is no checkpoint that could be incomplete. */
void checkpoint_prune(const char *dir, int64_t oldest)
{
    DIR *d = opendir(dir);
    if (!d)
        return;
    prune(d, oldest, 0, 0);
    prune(d, oldest, 1, INT_MAX);
    closedir(d);
    unfinished_sweep(dir, NULL);
}
