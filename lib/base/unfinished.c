/* Files and directories under temporary names: see unfinished.h. Functions for signal handlers use
 * only what POSIX or Linux allow there: not opendir, which allocates. Nested directories are not
 * removed, nor the directory that holds them. */
#include "unfinished.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mem.h"
#include "text.h"

/* ---- removed on a signal */

enum { UNFINISHED = 16 };
static const char *volatile unfinished[UNFINISHED];

static void enter(const char *path)
{
    for (int i = 0; i < UNFINISHED; i++)
        if (!unfinished[i]) {
            unfinished[i] = path;
            return;
        }
}

static void leave(const char *path)
{
    for (int i = 0; i < UNFINISHED; i++)
        if (unfinished[i] == path)
            unfinished[i] = NULL;
}

/* A file, or a directory and the plain files in it. */
static void remove_path(const char *path)
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
            remove_path(unfinished[i]);
}

/* ---- names */

enum { DIGITS = 16 };
static const char suffix[] = ".part";

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static char *parent(const char *path)
{
    int n = (int)(base_name(path) - path);
    return n ? mem_format("%.*s", n, path) : mem_string(".");
}

/* mkostemp will not do: its files have no permissions for others, and it makes no directories. */
static char *temporary_name(const char *target)
{
    const char *base = base_name(target);
    uint64_t random = 0;
    while (getrandom(&random, sizeof random, 0) < 0 && errno == EINTR)
        ;
    return mem_format("%.*s.%s.%0*" PRIx64 "%s", (int)(base - target), target, base, DIGITS, random,
                      suffix);
}

static int is_temporary(const char *file, const char *name)
{
    size_t n = strlen(file), tail = 1 + DIGITS + sizeof suffix - 1;
    if (n < tail + 2 || file[0] != '.' || !text_ends(file, suffix))
        return 0;
    const char *digits = file + n - tail + 1;
    size_t length = n - tail - 1;
    return digits[-1] == '.' && strspn(digits, "0123456789abcdef") == DIGITS &&
           (!name || (strlen(name) == length && !strncmp(file + 1, name, length)));
}

/* ---- remnants of killed processes */

static void remove_remnant(const char *path)
{
    struct stat st;
    if (lstat(path, &st) || st.st_uid != geteuid())
        return;
    int how = S_ISREG(st.st_mode) ? O_WRONLY : O_RDONLY | O_DIRECTORY;
    int fd = open(path, how | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return;
    if (!flock(fd, LOCK_EX | LOCK_NB))
        remove_path(path);
    close(fd);
}

void unfinished_sweep(const char *dir, const char *name)
{
    DIR *d = opendir(dir);
    if (!d)
        return;
    for (struct dirent *f; (f = readdir(d));)
        if (is_temporary(f->d_name, name)) {
            char *path = mem_format("%s/%s", dir, f->d_name);
            remove_remnant(path);
            free(path);
        }
    closedir(d);
}

/* ---- creating and publishing */

static void release(struct unfinished *u)
{
    int saved = errno;
    leave(u->path);
    if (u->fd >= 0)
        close(u->fd);
    free(u->path);
    *u = (struct unfinished){.fd = -1};
    errno = saved;
}

static int open_new(const char *path, int is_dir)
{
    if (!is_dir)
        return open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    return mkdir(path, 0777) ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* Locks a new file and checks that it is still ours: another process may have taken it, not locked
 * yet, for a remnant and removed it. On file systems without locks no process does so. */
static int is_kept(const struct unfinished *u)
{
    struct stat opened, named;
    return (!flock(u->fd, LOCK_EX | LOCK_NB) || errno != EWOULDBLOCK) && !fstat(u->fd, &opened) &&
           !lstat(u->path, &named) && opened.st_ino == named.st_ino;
}

int unfinished_create(struct unfinished *u, const char *target, int is_dir)
{
    char *dir = parent(target);
    unfinished_sweep(dir, base_name(target));
    free(dir);
    for (;;) {
        u->path = temporary_name(target);
        enter(u->path);
        u->fd = open_new(u->path, is_dir);
        if (u->fd < 0) {
            release(u);
            return -1;
        }
        if (is_kept(u))
            return 0;
        release(u);
    }
}

/* Makes the new name itself survive a power cut. If that fails, the file is still whole. */
static void sync_parent(const char *path)
{
    char *dir = parent(path);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    free(dir);
}

int unfinished_publish(struct unfinished *u, const char *target, int exchange)
{
    if (fsync(u->fd) ||
        renameat2(AT_FDCWD, u->path, AT_FDCWD, target, exchange ? RENAME_EXCHANGE : 0)) {
        int saved = errno;
        unfinished_discard(u);
        errno = saved;
        return -1;
    }
    sync_parent(target);
    if (exchange)
        remove_path(u->path); /* the old one */
    release(u);
    return 0;
}

void unfinished_discard(struct unfinished *u)
{
    if (!u->path)
        return;
    remove_path(u->path);
    release(u);
}
