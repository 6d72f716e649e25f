/* Texts passing through a tokenizer. Every byte has a weight, the number of source bytes it
 * represents (1 unless a normalizer changed it), so that the spans of the tokens add up to the
 * source, however much was inserted or replaced. */
#ifndef PARE_BUFFER_H
#define PARE_BUFFER_H

#include "../base/mem.h"
#include "tokenizer.h"

struct text {
    const char *s;
    int64_t n;
    const uint32_t *weight; /* [n] source bytes; NULL: 1 each */
    int first;              /* begins at the first byte of the source */
};
static inline struct text text_part(struct text t, int64_t from, int64_t to)
{
    int64_t inserted = 0; /* bytes at the beginning that stand for none of the source */
    while (t.first && t.weight && inserted < from && !t.weight[inserted])
        inserted++;
    return (struct text){t.s + from, to - from, t.weight ? t.weight + from : NULL,
                         t.first && inserted == from};
}
static inline int64_t text_weight(struct text t)
{
    int64_t sum = 0;
    for (int64_t i = 0; t.weight && i < t.n; i++)
        sum += t.weight[i];
    return t.weight ? sum : t.n;
}

/* How long normalizers, and then pre-tokenizers, may make a text of n bytes. Real ones insert a few
 * bytes and replace one byte by three; one that multiplies a text is refused when it does. */
static inline int64_t text_most(int64_t n) { return 16 * n + 256; }

/* A text being written. */
struct buffer {
    char *s;
    uint32_t *weight;
    int64_t n, room, most;
    int full; /* more than `most` bytes came; the rest was dropped */
    /* weight removed at the very beginning, to be added to the first byte that comes */
    uint32_t owed;
    int late; /* some was: it does not begin where its source does */
};
/* empties it; `most`: the bytes it may hold */
void buffer_clear(struct buffer *b, int64_t most);
/* Appends n bytes, with their own weights, or if weight is NULL with `total` on the first byte and
 * 0 on the others. n = 0: the byte before gets the total. */
void buffer_add(struct buffer *b, const char *s, int64_t n, const uint32_t *weight, uint32_t total);
void buffer_add_text(struct buffer *b, struct text t);
void buffer_free(struct buffer *b);

#endif
