/* What to remove when a signal ends the process: see unfinished.h. Only calls that POSIX or Linux
 * allow in a signal handler: no opendir, which allocates. Directories in directories stay, with
 * what holds them. */
#include "unfinished.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdalign.h>
#include <stddef.h>
#include <unistd.h>

enum { UNFINISHED = 16 };
static const char *volatile unfinished[UNFINISHED];

void unfinished_enter(const char *path)
{
    for (int i = 0; i < UNFINISHED; i++)
        if (!unfinished[i]) {
            unfinished[i] = path;
            return;
        }
}

void unfinished_leave(const char *path)
{
    for (int i = 0; i < UNFINISHED; i++)
        if (unfinished[i] == path)
            unfinished[i] = NULL;
}

void unfinished_remove(const char *path)
{
    alignas(struct dirent64) char entries[4096];
    ssize_t n;
    int fd = unlink(path) ? open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    while ((n = getdents64(fd, entries, sizeof entries)) > 0)
        for (ssize_t at = 0; at < n;) {
            const struct dirent64 *x = (const struct dirent64 *)(entries + at);
            unlinkat(fd, x->d_name, 0); /* refused for . and .. */
            at += x->d_reclen;
        }
    close(fd);
    rmdir(path);
}

void unfinished_remove_all(void)
{
    for (int i = 0; i < UNFINISHED; i++)
        if (unfinished[i])
            unfinished_remove(unfinished[i]);
}
