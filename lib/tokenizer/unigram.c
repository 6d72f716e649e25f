/* A Unigram model (Kudo 2018): every token has a score, the logarithm of its probability, and a
 * piece of text becomes the tokens whose scores add up to the most, as the tokenizers library finds
 * them: by the best path to every place of the piece (Viterbi). A character that no token begins
 * with costs ten more than the worst token. Unknown characters side by side are one unknown token,
 * or bytes, <0x00>..<0xFF>, if the model falls back to them.
 *
 * Takes pieces of any bytes. Refuses scores that are not numbers. Bytes that neither a token nor an
 * unknown one can express are dropped. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/json_scan.h"
#include "../base/utf8.h"
#include "vocab.h"

enum { UNKNOWN_PENALTY = 10 };

/* The best path that ends at a place: where its last token begins (-1: there is none yet), and
 * which it is. next: where the token of the path that is taken ends. */
struct place {
    double score;
    int32_t start, next;
    int64_t id;
};

struct unigram {
    double *score; /* by id */
    double unk_score;
    int64_t unk, worst;    /* ids, -1: none; worst: the first with the lowest score */
    uint32_t *sorted;      /* ids in the order of their texts; of equal texts the last alone */
    int64_t n, first[257]; /* first: where texts from that byte on begin */
    const uint8_t *lost;   /* by id: paths do without it; NULL: without none */
    struct place *places;
    int64_t room;
};

/* ---- reading */

static int read_score(struct json_scan *j, double *score)
{
    struct json_range r = json_skip_value(j);
    char text[64], *end;
    if (j->failed || !r.n || r.n >= (int64_t)sizeof text || !strchr("-0123456789", *r.s))
        return -1;
    memcpy(text, r.s, (size_t)r.n);
    text[r.n] = 0;
    *score = strtod(text, &end);
    return *end || !isfinite(*score) ? -1 : 0;
}

/* [["text", score], ...]; returns how many, -1. */
static int64_t read_pieces(struct unigram *u, struct bpe *b, const char *json, int64_t n,
                           struct vocab_entry **entries)
{
    struct json_scan j;
    int64_t count = 0, room = 0, used = 0, failed = 0;
    b->text = mem_alloc((size_t)n + 1); /* texts are never longer than their JSON */
    json_scan_open(&j, json, n);
    json_need(&j, '[');
    for (int more = !json_take(&j, ']'); more && !failed; more = json_take(&j, ',')) {
        int64_t length = 0;
        json_need(&j, '[');
        const char *text = json_string_text(&j, &length);
        json_need(&j, ',');
        if (count == room) {
            room = 2 * room + 1024;
            *entries = mem_grow(*entries, (size_t)room * sizeof **entries);
            u->score = mem_grow(u->score, (size_t)room * sizeof *u->score);
        }
        if (text && !j.failed)
            memcpy(b->text + used, text, (size_t)length);
        failed = j.failed || length >= NO_TOKEN || read_score(&j, &u->score[count]);
        json_need(&j, ']');
        (*entries)[count] = (struct vocab_entry){{(uint64_t)used, (uint32_t)length},
                                                 (uint32_t)count};
        count += !failed;
        used += length;
    }
    if (count)
        json_need(&j, ']');
    failed = failed || j.failed || j.p != j.end || count > INT32_MAX;
    json_scan_close(&j);
    return failed ? -count - 1 : count;
}

static const struct bpe *compared; /* qsort passes nothing on */

static int by_text(const void *a, const void *b)
{
    int64_t n[2];
    const char *x = bpe_text(compared, *(const uint32_t *)a, &n[0]),
               *y = bpe_text(compared, *(const uint32_t *)b, &n[1]);
    int order = memcmp(x, y, (size_t)(n[0] < n[1] ? n[0] : n[1]));
    return order ? order : (n[0] > n[1]) - (n[0] < n[1]);
}

/* Byte k of a token's text; -1: it is no longer than k. */
static int byte_of(const struct bpe *b, uint32_t id, int64_t k)
{
    const struct token_text *t = &b->tokens[id];
    return k < t->length ? (unsigned char)b->text[t->start + (uint64_t)k] : -1;
}

static void sort_texts(struct unigram *u, const struct bpe *b)
{
    u->sorted = mem_alloc((size_t)b->size * sizeof *u->sorted + 1);
    for (int64_t id = 0; id < b->size; id++) {
        int64_t n;
        const char *s = bpe_text(b, (uint32_t)id, &n);
        if (n && bpe_find(b, s, n) == id)
            u->sorted[u->n++] = (uint32_t)id;
    }
    compared = b;
    qsort(u->sorted, (size_t)u->n, sizeof *u->sorted, by_text);
    for (int64_t i = 0, c = 0; c <= 256; c++) {
        while (i < u->n && byte_of(b, u->sorted[i], 0) < c)
            i++;
        u->first[c] = i;
    }
}

struct unigram *unigram_open(struct bpe *b, const char *json, int64_t n, int64_t unk, struct err *e)
{
    struct unigram *u = mem_alloc(sizeof *u);
    struct vocab_entry *entries = NULL;
    int64_t count = read_pieces(u, b, json, n, &entries);
    if (count >= 0)
        vocab_tables(b, entries, count, count);
    free(entries);
    u->unk = unk;
    u->worst = -1;
    for (int64_t i = 0; i < count; i++)
        if (!i || u->score[i] < u->score[u->worst])
            u->worst = i;
    u->unk_score = (count > 0 ? u->score[u->worst] : 0) - UNKNOWN_PENALTY;
    if (count < 0)
        err_set(e,
                "the vocabulary of the tokenizer is not a list of texts with their scores (entry "
                "%lld)",
                (long long)-count);
    else if (unk >= count)
        err_set(e, "the tokenizer's unk_id %lld is beyond its vocabulary of %lld", (long long)unk,
                (long long)count);
    else
        sort_texts(u, b);
    if (u->sorted)
        return u;
    unigram_close(u);
    return NULL;
}

void unigram_close(struct unigram *u)
{
    if (!u)
        return;
    free(u->score);
    free(u->sorted);
    free(u->places);
    free(u);
}

/* ---- the best path */

/* A path may go on from place `at` to place `end` with that token. */
static void path_offer(struct unigram *u, int64_t at, int64_t end, int64_t id, double score)
{
    struct place *p = &u->places[end];
    score += u->places[at].score;
    if (p->start < 0 || score > p->score)
        *p = (struct place){score, (int32_t)at, 0, id};
}

/* The first of the sorted texts [low, high) whose byte k is at least c. */
static int64_t first_of(const struct unigram *u, const struct bpe *b, int64_t low, int64_t high,
                        int64_t k, int c)
{
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (byte_of(b, u->sorted[middle], k) < c)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int is_there(const struct unigram *u, int64_t id)
{
    return id >= 0 && !(u->lost && u->lost[id]);
}

/* Offers every token that the text has at a place, whose character has `one` bytes. */
static void offer_all(struct unigram *u, const struct bpe *b, struct text t, int64_t at,
                      int64_t one)
{
    unsigned char c = (unsigned char)t.s[at];
    int64_t low = u->first[c], high = u->first[c + 1];
    int single = 0;
    for (int64_t k = 1; low < high; k++) {
        uint32_t id = u->sorted[low];
        if (b->tokens[id].length == k && is_there(u, id)) {
            path_offer(u, at, at + k, id, u->score[id]);
            single |= k == one;
        }
        if (at + k == t.n)
            break;
        c = (unsigned char)t.s[at + k];
        low = first_of(u, b, low, high, k, c);
        high = first_of(u, b, low, high, k, c + 1);
    }
    if (!single)
        path_offer(u, at, at + one, u->unk, u->unk_score);
}

static void find_path(struct unigram *u, const struct bpe *b, struct text t)
{
    if (t.n >= u->room)
        u->places = mem_grow(u->places, (size_t)(u->room = t.n + t.n / 4 + 64) * sizeof *u->places);
    for (int64_t i = 0; i <= t.n; i++)
        u->places[i] = (struct place){.start = -1};
    for (int64_t at = 0, one; at < t.n; at += one) {
        one = utf8_length(t.s + at, t.n - at);
        one = one ? one : 1;
        offer_all(u, b, t, at, one);
    }
    for (int64_t end = t.n, start; end > 0; end = start) {
        start = u->places[end].start;
        u->places[start].next = (int32_t)end;
    }
}

/* ---- ids */

static int push_bytes(const struct bpe *b, struct text part, struct ids *out)
{
    for (int64_t i = 0; i < part.n; i++)
        if (b->fallback[(unsigned char)part.s[i]] < 0)
            return 0;
    for (int64_t i = 0; i < part.n; i++)
        ids_push(out, (uint32_t)b->fallback[(unsigned char)part.s[i]],
                 (uint32_t)text_weight(text_part(part, i, i + 1)));
    return 1;
}

static void push_part(const struct unigram *u, const struct bpe *b, struct text part,
                      struct ids *out)
{
    int64_t id = bpe_find(b, part.s, part.n);
    int known = is_there(u, id);
    if (!known && b->flags.byte_fallback && push_bytes(b, part, out))
        return;
    id = known ? id : u->unk;
    if (id >= 0)
        ids_push(out, (uint32_t)id, (uint32_t)text_weight(part));
}

int unigram_encode(struct unigram *u, const struct bpe *b, struct text t, struct ids *out,
                   struct err *e)
{
    if (t.n > INT32_MAX - 1)
        return err_set(
            e, "the text has %lld bytes without a place to split, too many for the tokenizer",
            (long long)t.n);
    find_path(u, b, t);
    for (int64_t at = 0, end; at < t.n; at = end) {
        end = u->places[at].next;
        while (end < t.n && u->places[end].id == u->unk &&
               u->places[u->places[end].next].id == u->unk)
            end = u->places[end].next;
        push_part(u, b, text_part(t, at, end), out);
    }
    return 0;
}

/* ---- a part of it */

int64_t unigram_unk(const struct unigram *u) { return u->unk; }

int unigram_stays(const struct unigram *u, uint32_t id) { return id == u->unk || id == u->worst; }

int unigram_is_unambiguous(const struct unigram *u, const struct bpe *b) { return u->n == b->size; }

void unigram_lose(struct unigram *u, const uint8_t *lost) { u->lost = lost; }

int unigram_write_vocab(FILE *f, const char *json, int64_t n, const int64_t *id_of, struct err *e)
{
    struct json_scan j;
    int64_t id = 0;
    int first = 1;
    json_scan_open(&j, json, n);
    json_need(&j, '[');
    fputc('[', f);
    for (int more = !json_take(&j, ']'); more && !j.failed; more = json_take(&j, ',')) {
        struct json_range entry = json_skip_value(&j);
        if (j.failed || id_of[id++] < 0)
            continue;
        fprintf(f, "%s%.*s", first ? "" : ",", (int)entry.n, entry.s);
        first = 0;
    }
    fputc(']', f);
    int bad = j.failed;
    json_scan_close(&j);
    return bad ? err_set(e, "the vocabulary of the tokenizer is malformed") : 0;
}
