/* Texts and ids that grow: see buffer.h. */
#include "buffer.h"

#include <stdlib.h>
#include <string.h>

void ids_push(struct ids *out, uint32_t id, uint32_t bytes)
{
    if (out->n == out->room) {
        out->room = 2 * out->room + 256;
        out->id = mem_grow(out->id, (size_t)out->room * sizeof *out->id);
        out->bytes = mem_grow(out->bytes, (size_t)out->room * sizeof *out->bytes);
        out->flags = mem_grow(out->flags, (size_t)out->room * sizeof *out->flags);
    }
    out->id[out->n] = id;
    out->bytes[out->n] = bytes;
    out->flags[out->n++] = 0;
}

int ids_flagged(const struct ids *ids)
{
    for (int64_t i = 0; i < ids->n; i++)
        if (ids->flags[i])
            return 1;
    return 0;
}

void ids_free(struct ids *ids)
{
    free(ids->id);
    free(ids->bytes);
    free(ids->flags);
    *ids = (struct ids){0};
}

void buffer_clear(struct buffer *b, int64_t most)
{
    b->n = b->owed = 0;
    b->full = b->late = 0;
    b->most = most;
}

void buffer_free(struct buffer *b)
{
    free(b->s);
    free(b->weight);
}

void buffer_add(struct buffer *b, const char *s, int64_t n, const uint32_t *weight, uint32_t total)
{
    if (!n) {
        *(b->n ? &b->weight[b->n - 1] : &b->owed) += total;
        b->late |= b->owed > 0;
        return;
    }
    if (b->full || n > b->most - b->n) {
        b->full = 1;
        return;
    }
    if (b->room - b->n < n) {
        b->room = 2 * b->room + n + 64;
        b->s = mem_grow(b->s, (size_t)b->room);
        b->weight = mem_grow(b->weight, (size_t)b->room * sizeof *b->weight);
    }
    memcpy(b->s + b->n, s, (size_t)n);
    if (weight)
        memcpy(b->weight + b->n, weight, (size_t)n * sizeof *weight);
    else
        memset(b->weight + b->n, 0, (size_t)n * sizeof *weight);
    b->weight[b->n] += b->owed + total;
    b->owed = 0;
    b->n += n;
}

void buffer_add_text(struct buffer *b, struct text t)
{
    int64_t at = b->n;
    if (!t.n)
        return;
    buffer_add(b, t.s, t.n, t.weight, 0);
    for (int64_t i = at; !t.weight && i < b->n; i++)
        b->weight[i]++;
}
