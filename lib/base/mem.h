/* Memory. Two kinds:
 * - small metadata (names, lists, headers): mem_alloc and friends, which end the process with one
 *   sentence when out of memory, because no caller could continue;
 * - everything whose size comes from data (weights, activations, buffers): an arena, which reports
 *   failure. */
#ifndef PARE_MEM_H
#define PARE_MEM_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "err.h"

void *mem_alloc(size_t bytes);         /* zeroed; free() it */
void *mem_grow(void *p, size_t bytes); /* realloc that does not fail */
char *mem_string(const char *s);       /* strdup that does not fail */
void *mem_must(void *p);               /* p, allocated by a library; ends the process if NULL */
/* asprintf that does not fail */
char *mem_format(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A stream that writes into memory; once it is closed the text is complete, and the caller free()s
 * it. */
FILE *mem_stream_open(char **text, size_t *n);
void mem_stream_close(FILE *f);
/* `text` with more appended; frees text, which may be among the arguments */
char *mem_append(char *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* One range of anonymous memory in huge pages, handed out in order, 64-byte aligned, freed as a
 * whole. The memory of a model or a step comes from an arena with the same lifetime. Contents start
 * as zeros. */
struct arena {
    unsigned char *base;
    size_t size, used;
    void (*release)(void *base, size_t size); /* NULL: the process's own memory */
};
/* -1: the error names the bytes requested */
int arena_open(struct arena *a, size_t bytes, struct err *e);
/* Makes room for `bytes` in all, of the process's own memory; what is there may move. */
int arena_grow(struct arena *a, size_t bytes, struct err *e);
/* NULL only if the arena was opened too small, a bug of the caller */
void *arena_take(struct arena *a, size_t bytes);
void arena_close(struct arena *a);
/* bytes that arena_take uses */
static inline size_t arena_round(size_t bytes) { return (bytes + 63) & ~(size_t)63; }

#endif
