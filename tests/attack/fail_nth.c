/* Preloaded into a tool (LD_PRELOAD), makes the N-th call of one kind fail, as on a machine out of
 * resources.
 *   FAIL_CALL  malloc (and calloc, realloc, aligned ones), mmap, open, read, write, fsync, close,
 *              rename
 *   FAIL_N     which call, from 1 on; 0: none
 *   FAIL_MARK  a file that is created when a call has failed
 * The tool must then end with a message and a non-zero status, or with the right output. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static long target, count;
static char what[16];
static const char *mark;

__attribute__((constructor)) static void begin(void)
{
    const char *call = getenv("FAIL_CALL"), *n = getenv("FAIL_N");
    mark = getenv("FAIL_MARK");
    strncpy(what, call ? call : "", sizeof what - 1);
    target = n ? atol(n) : 0;
}

/* Uses no library function that allocates or is replaced here. */
static int hit(const char *call, int error)
{
    if (!target || strcmp(call, what) || __sync_add_and_fetch(&count, 1) != target)
        return 0;
    long fd = mark ? syscall(SYS_openat, AT_FDCWD, mark, O_WRONLY | O_CREAT, 0666) : -1;
    if (fd >= 0)
        syscall(SYS_close, fd);
    errno = error;
    return 1;
}

/* The function that is replaced, looked up once. */
#define REAL(result, name, ...) \
    static result (*real)(__VA_ARGS__); \
    if (!real) \
    real = (result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

/* ---- memory: the C library's own names, since dlsym allocates */

extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t a, size_t b);
extern void *__libc_realloc(void *p, size_t n);
extern void *__libc_memalign(size_t align, size_t n);

void *malloc(size_t n) { return hit("malloc", ENOMEM) ? NULL : __libc_malloc(n); }
void *calloc(size_t a, size_t b) { return hit("malloc", ENOMEM) ? NULL : __libc_calloc(a, b); }
void *realloc(void *p, size_t n) { return hit("malloc", ENOMEM) ? NULL : __libc_realloc(p, n); }
void *aligned_alloc(size_t align, size_t n)
{
    return hit("malloc", ENOMEM) ? NULL : __libc_memalign(align, n);
}

int posix_memalign(void **p, size_t align, size_t n)
{
    if (hit("malloc", ENOMEM))
        return ENOMEM;
    *p = __libc_memalign(align, n);
    return *p ? 0 : ENOMEM;
}

void *mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
    REAL(void *, mmap, void *, size_t, int, int, int, off_t);
    return hit("mmap", ENOMEM) ? MAP_FAILED : real(at, n, protection, flags, fd, offset);
}

/* ---- files */

int open(const char *path, int flags, ...)
{
    REAL(int, open, const char *, int, ...);
    va_list args;
    va_start(args, flags);
    int mode = va_arg(args, int);
    va_end(args);
    return hit("open", EMFILE) ? -1 : real(path, flags, mode);
}

ssize_t read(int fd, void *to, size_t n)
{
    REAL(ssize_t, read, int, void *, size_t);
    return hit("read", EIO) ? -1 : real(fd, to, n);
}

ssize_t pread(int fd, void *to, size_t n, off_t at)
{
    REAL(ssize_t, pread, int, void *, size_t, off_t);
    return hit("read", EIO) ? -1 : real(fd, to, n, at);
}

ssize_t write(int fd, const void *from, size_t n)
{
    REAL(ssize_t, write, int, const void *, size_t);
    return fd > 2 && hit("write", ENOSPC) ? -1 : real(fd, from, n);
}

ssize_t writev(int fd, const struct iovec *parts, int n)
{
    REAL(ssize_t, writev, int, const struct iovec *, int);
    return hit("write", ENOSPC) ? -1 : real(fd, parts, n);
}

ssize_t pwrite(int fd, const void *from, size_t n, off_t at)
{
    REAL(ssize_t, pwrite, int, const void *, size_t, off_t);
    return hit("write", ENOSPC) ? -1 : real(fd, from, n, at);
}

int fsync(int fd)
{
    REAL(int, fsync, int);
    return hit("fsync", EIO) ? -1 : real(fd);
}

int close(int fd)
{
    REAL(int, close, int);
    int r = real(fd);
    return hit("close", EIO) ? -1 : r;
}

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    REAL(int, renameat2, int, const char *, int, const char *, unsigned);
    return hit("rename", EIO) ? -1 : real(from_dir, from, to_dir, to, flags);
}
