/* Merging one piece of text into tokens, as Hugging Face's BPE does: the characters of the piece
 * become symbols, then the pair of neighbours with the best rank (the leftmost among equals) is
 * merged until none is left. A heap over a linked list: n log n, so that a piece of 100,000
 * characters does not stall it. Short pieces are cached.
 *
 * Takes pieces of any bytes (byte-level: each byte is a symbol; else each character, or the tokens
 * <0x00>..<0xFF> where the vocabulary has byte fallback). Gives ids and the source bytes that each
 * covers. Refuses pieces that could become 2^31 symbols. */
#include "vocab.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "../base/utf8.h"

enum { CACHE_BITS = 15, CACHE_KEY = 22, CACHE_IDS = 8, GONE = -2 };

struct symbol {
    uint32_t id, n;     /* n: bytes of the piece */
    int32_t prev, next; /* -1: none; prev GONE: merged into the one before */
};
struct heap_item {
    uint64_t key; /* rank, then position */
    uint32_t id;  /* the merged token */
};
struct cached {
    uint8_t n, count; /* bytes of the piece, tokens; n = 0: empty */
    char key[CACHE_KEY];
    uint8_t length[CACHE_IDS];
    uint32_t id[CACHE_IDS];
};

struct bpe_work {
    struct symbol *symbols; /* [room] */
    struct heap_item *heap; /* [2 * room] */
    char *lost;   /* [room]: flags the bytes of the piece that the vocabulary cannot express */
    char *mapped; /* [room]: the piece in the byte-level alphabet */
    struct cached *cache; /* NULL until the first short piece */
    int64_t room, n, heap_n, lost_n;
    int64_t unk_n;    /* pending bytes of unknown characters */
    uint32_t last[2]; /* what the last merge joined */
};

struct bpe *bpe_open(void)
{
    struct bpe *b = mem_alloc(sizeof *b);
    b->work = mem_alloc(sizeof *b->work);
    b->slots = mem_alloc(sizeof *b->slots);
    b->merges = mem_alloc(sizeof *b->merges);
    b->unk = -1;
    return b;
}

static void work_close(struct bpe_work *w)
{
    free(w->symbols);
    free(w->heap);
    free(w->lost);
    free(w->mapped);
    free(w->cache);
    free(w);
}

void bpe_close(struct bpe *b)
{
    if (!b)
        return;
    work_close(b->work);
    free(b->text);
    free(b->tokens);
    free(b->slots);
    free(b->merges);
    free(b);
}

/* The most symbols, and bytes of text, that a piece of n bytes can become: a byte is spelled with
 * up to BYTE_TEXT bytes in the byte-level alphabet, and byte fallback makes each of them a symbol.
 * Every array of the encoder is sized by this. */
static int64_t symbols_most(const struct bpe *b, int64_t n)
{
    return b->flags.byte_level ? n * BYTE_TEXT : n;
}

static void work_room(struct bpe_work *w, int64_t n)
{
    if (n <= w->room)
        return;
    w->room = n + n / 4;
    size_t room = (size_t)w->room;
    w->symbols = mem_grow(w->symbols, room * sizeof *w->symbols);
    /* n - 1 pairs at first; each of at most n - 1 merges removes one and adds two */
    w->heap = mem_grow(w->heap, 2 * room * sizeof *w->heap);
    w->lost = mem_grow(w->lost, room);
    w->mapped = mem_grow(w->mapped, room);
}

/* ---- characters to symbols */

static void symbol_add(struct bpe_work *w, uint32_t id, int64_t n)
{
    assert(w->n < w->room);
    w->symbols[w->n] = (struct symbol){id, (uint32_t)n, (int32_t)w->n - 1, (int32_t)w->n + 1};
    w->n++;
}

static void unk_flush(struct bpe *b)
{
    if (b->work->unk_n)
        symbol_add(b->work, (uint32_t)b->unk, b->work->unk_n);
    b->work->unk_n = 0;
}

/* A character whose text in the vocabulary would be s[0..n) and which covers `bytes` of the piece
 * from `at`. Unknown tokens are ordered among byte tokens as in the tokenizers library: bytes do
 * not end a run of unknown characters. */
static void character_add(struct bpe *b, const char *s, int n, int64_t at, int64_t bytes)
{
    struct bpe_work *w = b->work;
    int64_t id = bpe_find(b, s, n);
    if (id >= 0) {
        unk_flush(b);
        symbol_add(w, (uint32_t)id, bytes);
        return;
    }
    int all = b->flags.byte_fallback;
    for (int i = 0; i < n; i++)
        all = all && b->fallback[(unsigned char)s[i]] >= 0;
    if (all) { /* a byte each, or all of them with the first */
        for (int i = 0; i < n; i++) {
            int64_t rest = i ? 0 : bytes;
            symbol_add(w, (uint32_t)b->fallback[(unsigned char)s[i]], n == bytes ? 1 : rest);
        }
    } else if (b->unk >= 0) {
        if (!b->flags.fuse_unk)
            unk_flush(b);
        w->unk_n += bytes;
    } else {
        if (!w->lost_n)
            memset(w->lost, 0, (size_t)w->room);
        memset(w->lost + at, 1, (size_t)bytes);
        w->lost_n += bytes;
    }
}

static void symbols_from(struct bpe *b, struct text t)
{
    struct bpe_work *w = b->work;
    w->n = w->lost_n = w->unk_n = 0;
    for (int64_t i = 0; i < t.n;) {
        unsigned char c = (unsigned char)t.s[i];
        char name[BYTE_TEXT];
        if (!b->flags.byte_level) {
            int len = utf8_length(t.s + i, t.n - i);
            len = len ? len : 1;
            character_add(b, t.s + i, len, i, len);
            i += len;
        } else if (b->byte_token[c] >= 0) {
            unk_flush(b);
            symbol_add(w, (uint32_t)b->byte_token[c], 1);
            i++;
        } else {
            character_add(b, name, byte_to_text(c, name), i, 1);
            i++;
        }
    }
    unk_flush(b);
    if (w->n)
        w->symbols[w->n - 1].next = -1;
}

/* ---- merging */

static void heap_down(struct heap_item *h, int64_t n, int64_t i)
{
    struct heap_item x = h[i];
    for (int64_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && h[child + 1].key < h[child].key)
            child++;
        if (x.key <= h[child].key)
            break;
        h[i] = h[child];
    }
    h[i] = x;
}

static void heap_push(struct bpe_work *w, struct heap_item x)
{
    struct heap_item *h = w->heap;
    int64_t i = w->heap_n++;
    for (int64_t up; i && h[up = (i - 1) / 2].key > x.key; i = up)
        h[i] = h[up];
    h[i] = x;
}

static int pair_item(const struct bpe *b, int32_t left, int32_t right, struct heap_item *x)
{
    const struct merge *m = bpe_merge(b, b->work->symbols[left].id, b->work->symbols[right].id);
    if (!m)
        return 0;
    *x = (struct heap_item){(uint64_t)m->rank << 32 | (uint32_t)left, m->id};
    return 1;
}

static void pair_push(struct bpe *b, int32_t left, int32_t right)
{
    struct heap_item x;
    if (left >= 0 && right >= 0 && pair_item(b, left, right, &x))
        heap_push(b->work, x);
}

/* A stale entry is recognised by what its merge would give now, as in the library: another pair
 * that gives the same token is accepted. */
static void merge_symbols(struct bpe *b)
{
    struct bpe_work *w = b->work;
    struct symbol *s = w->symbols;
    w->heap_n = 0;
    for (int32_t i = 0; i + 1 < w->n; i++)
        w->heap_n += pair_item(b, i, i + 1, &w->heap[w->heap_n]);
    for (int64_t i = w->heap_n / 2; i-- > 0;)
        heap_down(w->heap, w->heap_n, i);
    while (w->heap_n) {
        struct heap_item top = w->heap[0];
        w->heap[0] = w->heap[--w->heap_n];
        heap_down(w->heap, w->heap_n, 0);
        int32_t i = (int32_t)(uint32_t)top.key, j = s[i].next;
        struct heap_item now;
        if (s[i].prev == GONE || j < 0 || !pair_item(b, i, j, &now) || now.id != top.id)
            continue;
        w->last[0] = s[i].id;
        w->last[1] = s[j].id;
        s[i].id = top.id;
        s[i].n += s[j].n;
        s[i].next = s[j].next;
        if (s[j].next >= 0)
            s[s[j].next].prev = i;
        s[j].prev = GONE;
        pair_push(b, s[i].prev, i);
        pair_push(b, i, s[i].next);
    }
}

/* ---- one piece */

/* Source bytes of the next n expressible bytes of the piece; *at moves past them. */
static uint32_t span_take(const struct bpe_work *w, struct text t, int64_t *at, uint32_t n)
{
    uint32_t sum = 0;
    for (; n; ++*at) {
        if (w->lost_n && w->lost[*at])
            continue;
        sum += t.weight ? t.weight[*at] : 1;
        n--;
    }
    return sum;
}

static struct cached *cache_slot(struct bpe_work *w, struct text t)
{
    if (!w->cache)
        w->cache = mem_alloc(sizeof *w->cache << CACHE_BITS);
    return &w->cache[hash_bytes(t.s, t.n) >> (64 - CACHE_BITS)];
}

static void cache_put(struct bpe_work *w, struct text t)
{
    if (t.n > CACHE_KEY || w->n == 0 || w->lost_n)
        return;
    struct cached c = {.n = (uint8_t)t.n};
    memcpy(c.key, t.s, (size_t)t.n);
    for (int32_t i = 0; i >= 0; i = w->symbols[i].next) {
        if (c.count == CACHE_IDS)
            return;
        c.length[c.count] = (uint8_t)w->symbols[i].n;
        c.id[c.count++] = w->symbols[i].id;
    }
    *cache_slot(w, t) = c;
}

static int cache_use(struct bpe_work *w, struct text t, struct ids *out)
{
    const struct cached *c = cache_slot(w, t);
    if (c->n != t.n || memcmp(c->key, t.s, (size_t)t.n))
        return 0;
    w->lost_n = 0;
    int64_t at = 0;
    for (int i = 0; i < c->count; i++)
        ids_push(out, c->id[i], span_take(w, t, &at, c->length[i]));
    return 1;
}

/* The whole piece as one token, for vocabularies that are consulted before the merges. */
static int whole_token(struct bpe *b, struct text t, struct ids *out)
{
    const char *s = t.s;
    int64_t n = t.n;
    if (b->flags.byte_level) {
        for (int64_t i = n = 0; i < t.n; i++)
            n += byte_to_text((unsigned char)t.s[i], b->work->mapped + n);
        s = b->work->mapped;
    }
    int64_t id = bpe_find(b, s, n);
    if (id >= 0)
        ids_push(out, (uint32_t)id, (uint32_t)text_weight(t));
    return id >= 0;
}

static void word_encode(struct bpe *b, struct text t, struct ids *out)
{
    struct bpe_work *w = b->work;
    if (t.n <= CACHE_KEY && cache_use(w, t, out))
        return;
    work_room(w, symbols_most(b, t.n));
    if (b->flags.ignore_merges && whole_token(b, t, out))
        return;
    symbols_from(b, t);
    merge_symbols(b);
    cache_put(w, t);
    int64_t at = 0;
    for (int32_t i = w->n ? 0 : -1; i >= 0; i = w->symbols[i].next)
        ids_push(out, w->symbols[i].id, span_take(w, t, &at, w->symbols[i].n));
}

int bpe_encode(struct bpe *b, struct text t, struct ids *out, struct err *e)
{
    int64_t from = 0;
    if (symbols_most(b, t.n) > INT32_MAX - 1)
        return err_set(
            e, "the text has %lld bytes without a place to split, too many for the tokenizer",
            (long long)t.n);
    for (int64_t i = 1; b->words && i + 2 < t.n; i++)
        if (!memcmp(t.s + i, METASPACE, 3) && b->word_end[(unsigned char)t.s[i - 1]]) {
            word_encode(b, text_part(t, from, i), out);
            from = i;
        }
    if (from < t.n)
        word_encode(b, text_part(t, from, t.n), out);
    return 0;
}

/* ---- a token by itself */

/* The bytes that a text of the byte-level alphabet spells; -1: it has other characters. */
static int64_t bytes_of(const char *s, int64_t n, char *out)
{
    int64_t k = 0;
    for (int64_t i = 0; i < n;) {
        int len = utf8_length(s + i, n - i),
            byte = len ? point_to_byte(utf8_point(s + i, len)) : -1;
        if (byte < 0)
            return -1;
        out[k++] = (char)byte;
        i += len;
    }
    return k;
}

int bpe_parents(struct bpe *b, uint32_t id, uint32_t pair[2])
{
    struct bpe_work *w = b->work;
    int64_t n;
    const char *s = bpe_text(b, id, &n);
    if (!s || n > 1 << 20)
        return 0;
    work_room(w, symbols_most(b, n));
    if (b->flags.byte_level) {
        n = bytes_of(s, n, w->mapped);
        s = w->mapped;
    }
    if (n < 2)
        return 0;
    symbols_from(b, (struct text){s, n, NULL, 0});
    if (w->n < 2)
        return 0;
    merge_symbols(b);
    memcpy(pair, w->last, sizeof w->last);
    return w->symbols[0].next < 0 && w->symbols[0].id == id;
}
