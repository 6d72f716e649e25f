/* Whole files and exact reads and writes: see file.h. Refused: anything but regular files, and
 * sizes beyond the caller's limit. */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mem.h"

int file_pread(int fd, const char *path, void *buf, int64_t n, int64_t offset, struct err *e)
{
    for (int64_t done = 0; done < n;) {
        ssize_t got = pread(fd, (char *)buf + done, (size_t)(n - done), offset + done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_set(e, "cannot read '%s':", path);
        if (!got)
            return err_set(e, "'%s' ends at byte %lld; expected %lld more bytes", path,
                           (long long)(offset + done), (long long)(n - done));
        done += got;
    }
    return 0;
}

int file_pwrite(int fd, const char *path, const void *buf, int64_t n, int64_t offset, struct err *e)
{
    for (int64_t done = 0; done < n;) {
        ssize_t put = pwrite(fd, (const char *)buf + done, (size_t)(n - done), offset + done);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return err_set(e, "cannot write '%s':", path);
        done += put;
    }
    return 0;
}

int file_open(const char *path, int64_t *bytes, struct err *e)
{
    struct stat st = {0};
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        err_set(e, "cannot open '%s':", path);
    else if (!S_ISREG(st.st_mode))
        err_set(e, "'%s' is not a regular file", path);
    if (fd >= 0 && !S_ISREG(st.st_mode)) {
        close(fd);
        fd = -1;
    }
    *bytes = st.st_size;
    return fd;
}

char *file_read(const char *path, int64_t limit, int64_t *bytes, struct err *e)
{
    int64_t n;
    int fd = file_open(path, &n, e);
    if (fd < 0)
        return NULL;
    char *text = n > limit ? NULL : mem_alloc((size_t)n + 1);
    if (!text)
        err_set(e, "'%s' has %lld bytes; at most %lld are allowed", path, (long long)n,
                (long long)limit);
    else if (file_pread(fd, path, text, n, 0, e)) {
        free(text);
        text = NULL;
    }
    close(fd);
    if (text && bytes)
        *bytes = n;
    return text;
}

int file_new(const char *path, struct err *e)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        err_set(e, "cannot create '%s':", path);
    return fd;
}

int file_write(const char *path, const void *bytes, int64_t n, struct err *e)
{
    int fd = file_new(path, e);
    if (fd < 0)
        return -1;
    int failed = file_pwrite(fd, path, bytes, n, 0, e);
    if (!failed && fsync(fd) < 0)
        failed = err_set(e, "cannot write '%s':", path);
    if (close(fd) < 0 && !failed)
        failed = err_set(e, "cannot write '%s':", path);
    return failed;
}

static char *last_part(const char *path)
{
    size_t n = strlen(path), from;
    while (n > 1 && path[n - 1] == '/')
        n--;
    for (from = n; from && path[from - 1] != '/';)
        from--;
    return mem_format("%.*s", (int)(n - from), path + from);
}

char *file_base_name(const char *path)
{
    char *name = last_part(path), *whole = NULL;
    if (!strcmp(name, ".") || !strcmp(name, ".."))
        whole = realpath(path, NULL);
    if (whole) {
        free(name);
        name = last_part(whole);
    }
    free(whole);
    return name;
}

const char *file_temporary_dir(void)
{
    const char *dir = getenv("TMPDIR");
    if (dir && *dir)
        return dir;
    return access("/var/tmp", W_OK) ? "/tmp" : "/var/tmp";
}

int file_temporary(struct err *e)
{
    const char *dir = file_temporary_dir();
    char *path = mem_format("%s/pare-XXXXXX", dir);
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        err_set(e, "cannot create a file in %s:", dir);
    else
        unlink(path);
    free(path);
    return fd;
}

void file_raise_limit(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r))
        return;
    r.rlim_cur = r.rlim_max;
    setrlimit(RLIMIT_NOFILE, &r);
}
