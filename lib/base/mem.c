/* Memory: see mem.h. */
#include "mem.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

void *mem_must(void *p)
{
    if (!p) {
        fprintf(stderr, "%s: out of memory\n", program_invocation_short_name);
        exit(1);
    }
    return p;
}

void *mem_alloc(size_t bytes) { return mem_must(calloc(1, bytes ? bytes : 1)); }
void *mem_grow(void *p, size_t bytes) { return mem_must(realloc(p, bytes ? bytes : 1)); }
char *mem_string(const char *s) { return mem_must(strdup(s)); }

char *mem_format(const char *format, ...)
{
    char *s = NULL;
    va_list args;
    va_start(args, format);
    int n = vasprintf(&s, format, args);
    va_end(args);
    return mem_must(n < 0 ? NULL : s);
}

char *mem_append(char *text, const char *format, ...)
{
    char *more = NULL, *all = NULL;
    va_list args;
    va_start(args, format);
    int n = vasprintf(&more, format, args);
    va_end(args);
    mem_must(n < 0 || asprintf(&all, "%s%s", text, more) < 0 ? NULL : all);
    free(more);
    free(text);
    return all;
}

FILE *mem_stream_open(char **text, size_t *n) { return mem_must(open_memstream(text, n)); }

void mem_stream_close(FILE *f)
{
    int failed = ferror(f);
    mem_must(fclose(f) || failed ? NULL : f);
}

enum { HUGE = 2 << 20 };

/* The bytes of an arena for so many; 0: too many. */
static size_t arena_size(size_t bytes)
{
    size_t size = (bytes + HUGE - 1) / HUGE * HUGE;
    return size || bytes ? size : HUGE;
}

int arena_open(struct arena *a, size_t bytes, struct err *e)
{
    *a = (struct arena){0};
    size_t size = arena_size(bytes);
    if (size < bytes)
        return err_set(e, "cannot reserve %zu bytes of memory", bytes);
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    if (p == MAP_FAILED)
        return err_set(e, "cannot reserve %.1f MB of memory:", (double)size / 1e6);
    if (size >= 2 * HUGE)
        /* advice: a kernel without huge pages is only slower */
        madvise(p, size, MADV_HUGEPAGE);
    *a = (struct arena){.base = p, .size = size};
    return 0;
}

int arena_grow(struct arena *a, size_t bytes, struct err *e)
{
    size_t size = arena_size(bytes);
    if (bytes <= a->size)
        return 0;
    void *p = size < bytes ? MAP_FAILED : mremap(a->base, a->size, size, MREMAP_MAYMOVE);
    if (p == MAP_FAILED)
        return err_set(e, "cannot reserve %zu bytes of memory", bytes);
    a->base = p;
    a->size = size;
    return 0;
}

void *arena_take(struct arena *a, size_t bytes)
{
    size_t n = arena_round(bytes);
    if (n < bytes || n > a->size - a->used)
        return NULL;
    void *p = a->base + a->used;
    a->used += n;
    return p;
}

void arena_close(struct arena *a)
{
    if (a->release)
        a->release(a->base, a->size);
    else if (a->base)
        munmap(a->base, a->size);
    *a = (struct arena){0};
}
