/* Windows that are listed in a table: where a BOS comes between (a window that begins with one
 * needs no other, so it holds more text), where documents differ in length, and where flags decide
 * what counts. */
#include <string.h>

#include "../base/mem.h"
#include "windows_private.h"

int64_t window_text(const struct windows *w, const struct window *r)
{
    return r->n - (r->bos ? w->o.bos.n : 0);
}

int window_has_bos(const struct cutting *c, int64_t at)
{
    uint32_t ids[SPECIAL_MAX];
    const struct row_bos *b = &c->w->o.bos;
    if (at < 0 || at + b->n > c->t->total)
        return 0;
    if (tokens_read(c->t, TOKEN_IDS, at, b->n, ids, c->e))
        return -1;
    return row_bos_present(b, ids, b->n);
}

/* A window of `length` tokens: the text from `at` on if it begins with the BOS, else a BOS and the
 * text from at + shift on, unless that begins with one. */
static struct window window_at(const struct cutting *c, int64_t at, int64_t shift, int64_t length,
                               int64_t first)
{
    int64_t n = c->w->o.bos.n;
    struct window r = {.at = at, .n = (int32_t)length, .first = (int32_t)first};
    if (!n || window_has_bos(c, at))
        return r;
    r.at = at + shift;
    r.bos = !window_has_bos(c, at + shift);
    r.n -= r.bos ? 0 : (int32_t)n;
    r.first = (int32_t)(r.bos ? max64(first, n) : max64(1, first - n));
    return r;
}

/* Predictions that count in a window, from the flags of its text. */
static int32_t predictions(const struct cutting *c, const struct window *r, int64_t text)
{
    int64_t front = r->n - text, counted = 0;
    for (int64_t i = r->first; i < r->n; i++)
        counted += !c->flags[i - front];
    return (int32_t)counted;
}

/* How many of n tokens with these flags, the last one aside, are documents of one token. */
static int64_t single_tokens(const uint8_t *flags, int64_t n)
{
    int64_t count = 0;
    for (int64_t i = 0; i + 1 < n; i++)
        count += flags[i] & flags[i + 1] & TOKEN_BEGINS ? 1 : 0;
    return count;
}

void window_add(struct cutting *c, struct window r)
{
    struct windows *w = c->w;
    int64_t text = window_text(w, &r);
    c->flags = mem_grow(c->flags, (size_t)text);
    memset(c->flags, 0, (size_t)text);
    if (c->t->flags && tokens_read(c->t, TOKEN_FLAGS, r.at, text, c->flags, c->e))
        return;
    r.predictions = predictions(c, &r, text);
    if (!r.predictions)
        return;
    int64_t single = single_tokens(c->flags, text);
    r.inputs = (int32_t)(r.n - 1 - single);
    w->padding += single + (c->flags[text - 1] & TOKEN_BEGINS ? 1 : 0);
    if (w->n == c->room)
        w->table = mem_grow(w->table, (size_t)(c->room = 2 * w->n + 64) * sizeof *w->table);
    w->table[w->n++] = r;
}

/* Windows of joined text: one after the other or, with a stride, each ending one stride after the
 * last. */
static void cut_joined(struct cutting *c)
{
    const struct window_options *o = &c->w->o;
    int64_t at = 0, shift = 0, first = first_counted(o);
    while (!c->e->set) {
        struct window r = window_at(c, at, shift, o->context, first);
        int64_t end = r.at + window_text(c->w, &r);
        if (end > c->t->total)
            return;
        window_add(c, r);
        at = end;
        if (!o->stride)
            continue;
        at = end + o->stride - o->context;
        shift = o->bos.n;
        first = max64(first, o->context - o->stride);
    }
}

/* The sequences as they are, or each in pieces of at most seq_length. */
static void cut_sequences(struct cutting *c)
{
    const struct window_options *o = &c->w->o;
    int64_t most = o->seq_length ? o->seq_length : INT32_MAX, first = first_counted(o);
    for (int64_t i = 0; i < c->t->n && !c->e->set; i++) {
        int64_t start = tokens_start(c->t, i), end = tokens_start(c->t, i + 1), text;
        for (int64_t at = start; at < end; at += text) {
            struct window r = {.at = at, .n = (int32_t)most, .first = (int32_t)first};
            if (at > start)
                r = window_at(c, at, 0, most, first);
            text = min64(window_text(c->w, &r), end - at);
            r.n += (int32_t)(text - window_text(c->w, &r));
            window_add(c, r);
        }
    }
}

void cut_by_options(struct cutting *c)
{
    if (c->w->o.context)
        cut_joined(c);
    else
        cut_sequences(c);
}
