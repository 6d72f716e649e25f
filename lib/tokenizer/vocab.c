/* The tables of a BPE model: token texts by id, ids by text, merges by pair. Read from the "vocab"
 * and "merges" of a tokenizer.json of any size in one pass each.
 *
 * Refuses: ids that leave large holes (a hostile file must not choose the size of the tables),
 * merges of tokens that do not exist. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/json_scan.h"
#include "vocab.h"

/* GPT-2's alphabet: bytes that are printable in Latin-1 stand for themselves, the others are
 * numbered from U+0100 on. */
static int byte_prints(unsigned c) { return (c >= 0x21 && c <= 0x7e) || (c >= 0xa1 && c != 0xad); }

uint32_t byte_to_point(unsigned char byte)
{
    if (byte_prints(byte))
        return byte;
    if (byte < 0x21)
        return 0x100u + byte;
    return 0x100u + (byte < 0xa1 ? byte - 0x7fu + 33 : 67u);
}

int point_to_byte(uint32_t point)
{
    if (point < 0x100)
        return byte_prints(point) ? (int)point : -1;
    uint32_t k = point - 0x100;
    if (k < 33)
        return (int)k;
    if (k < 67)
        return (int)(k - 33 + 0x7f);
    return k == 67 ? 0xad : -1;
}

int byte_to_text(unsigned char byte, char *text)
{
    uint32_t c = byte_to_point(byte);
    if (c < 0x80) {
        text[0] = (char)c;
        return 1;
    }
    text[0] = (char)(0xc0 | c >> 6);
    text[1] = (char)(0x80 | (c & 63));
    return 2;
}

int64_t bpe_size(const struct bpe *b) { return b->size; }

const char *bpe_text(const struct bpe *b, uint32_t id, int64_t *n)
{
    if (id >= b->size || b->tokens[id].length == NO_TOKEN)
        return NULL;
    *n = b->tokens[id].length;
    return b->text + b->tokens[id].start;
}

/* The slot of a text with that hash in the table, or the free slot for it. */
static uint64_t slot_of(const struct bpe *b, uint64_t hash, const char *s, int64_t n)
{
    uint64_t i = hash & b->slot_mask;
    for (; b->slots[i].id; i = (i + 1) & b->slot_mask) {
        if (b->slots[i].tag != (uint32_t)(hash >> 32))
            continue;
        const struct token_text *t = &b->tokens[b->slots[i].id - 1];
        if (t->length == n && !memcmp(b->text + t->start, s, (size_t)n))
            break;
    }
    return i;
}

int64_t bpe_find(const struct bpe *b, const char *s, int64_t n)
{
    return (int64_t)b->slots[slot_of(b, hash_bytes(s, n), s, n)].id - 1;
}

/* ---- the vocabulary */

void vocab_tables(struct bpe *b, const struct vocab_entry *entries, int64_t count, int64_t size)
{
    uint64_t slots = 16;
    while (slots < 2 * (uint64_t)count)
        slots *= 2;
    free(b->slots);
    b->slots = mem_alloc(slots * sizeof *b->slots);
    b->slot_mask = slots - 1;
    b->size = size;
    b->tokens = mem_grow(NULL, (size_t)size * sizeof *b->tokens + 1);
    for (int64_t i = 0; i < size; i++)
        b->tokens[i] = (struct token_text){0, NO_TOKEN};
    for (int64_t i = 0; i < count; i++)
        b->tokens[entries[i].id] = entries[i].text;
    for (int64_t i = 0; i < count; i++) {
        const struct token_text *t = &entries[i].text;
        uint64_t hash = hash_bytes(b->text + t->start, t->length);
        /* of two texts with the same id, the last wins */
        if (b->tokens[entries[i].id].start == t->start)
            b->slots[slot_of(b, hash, b->text + t->start, t->length)] = (struct slot){
                entries[i].id + 1, (uint32_t)(hash >> 32)};
    }
}

int bpe_read_vocab(struct bpe *b, const char *json, int64_t n, struct err *e)
{
    struct json_scan j;
    struct vocab_entry *entries = NULL;
    int64_t count = 0, room = 0, used = 0, largest = -1;
    b->text = mem_alloc((size_t)n + 1); /* texts are never longer than their JSON */
    json_scan_open(&j, json, n);
    json_need(&j, '{');
    for (int more = !json_take(&j, '}'); more && !j.failed; more = json_take(&j, ',')) {
        int64_t length;
        const char *text = json_string_text(&j, &length);
        if (text)
            memcpy(b->text + used, text, (size_t)length);
        json_need(&j, ':');
        int64_t id = json_whole(&j);
        if (j.failed || id > UINT32_MAX / 2 || length >= NO_TOKEN)
            break;
        if (count == room)
            entries = mem_grow(entries, (size_t)(room = 2 * room + 1024) * sizeof *entries);
        entries[count++] = (struct vocab_entry){{(uint64_t)used, (uint32_t)length}, (uint32_t)id};
        largest = id > largest ? id : largest;
        used += length;
    }
    if (count)
        json_need(&j, '}');
    int bad = j.failed || j.p != j.end;
    json_scan_close(&j);
    if (bad)
        err_set(e, "the vocabulary of the tokenizer is not an object of token ids (entry %lld)",
                (long long)count + 1);
    else if (largest >= 2 * count + 4096)
        bad = err_set(e, "the tokenizer has id %lld, but only %lld tokens", (long long)largest,
                      (long long)count);
    else
        vocab_tables(b, entries, count, largest + 1);
    free(entries);
    return bad ? -1 : 0;
}

/* ---- the merges */

struct halves {
    const char *s[2];
    int64_t n[2];
};

/* The next merge, in either form, its texts copied one after the other into `store`. 0, or -1. */
static int read_merge(struct json_scan *j, char *store, struct halves *h)
{
    if (json_take(j, '[')) {
        for (int i = 0; i < 2; i++) {
            const char *s = json_string_text(j, &h->n[i]);
            h->s[i] = store;
            if (s)
                memcpy(store, s, (size_t)h->n[i]);
            store += h->n[i];
            json_need(j, i ? ']' : ',');
        }
        return j->failed ? -1 : 0;
    }
    int64_t n;
    const char *s = json_string_text(j, &n), *space = s ? memchr(s, ' ', (size_t)n) : NULL;
    if (!space || memchr(space + 1, ' ', (size_t)(s + n - space - 1)))
        return -1;
    h->n[0] = space - s;
    h->n[1] = n - h->n[0] - 1;
    memcpy(store, s, (size_t)h->n[0]);
    memcpy(store + h->n[0], space + 1, (size_t)h->n[1]);
    h->s[0] = store;
    h->s[1] = store + h->n[0];
    return 0;
}

static int merge_add(struct bpe *b, const struct halves *h, int64_t rank, struct err *e)
{
    int64_t left = bpe_find(b, h->s[0], h->n[0]), right = bpe_find(b, h->s[1], h->n[1]),
            both = bpe_find(b, h->s[0], h->n[0] + h->n[1]);
    if (left < 0 || right < 0 || both < 0)
        return err_set(
            e,
            "merge %lld of the tokenizer, \"%.*s %.*s\", has tokens that are not in its vocabulary",
            (long long)rank + 1, (int)(h->n[0] < 80 ? h->n[0] : 80), h->s[0],
            (int)(h->n[1] < 80 ? h->n[1] : 80), h->s[1]);
    uint64_t key = pair_key((uint32_t)left, (uint32_t)right), i = hash_pair(key) & b->merge_mask;
    while (b->merges[i].pair && b->merges[i].pair != key)
        i = (i + 1) & b->merge_mask;
    b->merges[i] = (struct merge){key, (uint32_t)rank, (uint32_t)both};
    return 0;
}

/* Notes a merge whose text has a metaspace after another byte: words can then not be split after
 * that byte. */
static void merge_note_words(struct bpe *b, const struct halves *h)
{
    const char *s = h->s[0], *end = s + h->n[0] + h->n[1];
    for (const char *p = s + 1; p + 2 < end && (p = memmem(p, (size_t)(end - p), METASPACE, 3));
         p++)
        b->word_end[(unsigned char)p[-1]] = 0;
}

/* Elements of an array, by counting commas outside strings: an upper bound that is proportional to
 * the text. */
static int64_t count_merges(const char *json, int64_t n)
{
    int64_t quotes = 0;
    for (const char *p = json; p < json + n && (p = memchr(p, '"', (size_t)(json + n - p))); p++)
        quotes++;
    return quotes / 2;
}

int bpe_read_merges(struct bpe *b, const char *json, int64_t n, struct err *e)
{
    struct json_scan j;
    int64_t rank = 0, failed = 0;
    uint64_t slots = 16, most = (uint64_t)count_merges(json, n);
    while (slots < most + most / 2)
        slots *= 2;
    free(b->merges);
    b->merges = mem_alloc(slots * sizeof *b->merges);
    b->merge_mask = slots - 1;
    memset(b->word_end, 1, sizeof b->word_end);
    char *store = mem_alloc((size_t)n + 1);
    json_scan_open(&j, json, n);
    json_need(&j, '[');
    for (int more = !json_take(&j, ']'); more && !j.failed && !failed; more = json_take(&j, ',')) {
        struct halves h;
        if (read_merge(&j, store, &h))
            failed = err_set(e, "merge %lld of the tokenizer is neither \"a b\" nor [\"a\", \"b\"]",
                             (long long)rank + 1);
        else
            failed = merge_add(b, &h, rank++, e);
        if (!failed)
            merge_note_words(b, &h);
    }
    if (rank && !failed)
        json_need(&j, ']');
    if (!failed && (j.failed || j.p != j.end))
        failed = err_set(e, "the merges of the tokenizer are not an array (merge %lld)",
                         (long long)rank + 1);
    json_scan_close(&j);
    free(store);
    return failed ? -1 : 0;
}

int bpe_configure(struct bpe *b, struct bpe_flags flags, const char *unk, struct err *e)
{
    int complete = 1;
    b->flags = flags;
    for (int i = 0; i < 256; i++) {
        char name[8];
        b->byte_token[i] = bpe_find(b, name, byte_to_text((unsigned char)i, name));
        snprintf(name, sizeof name, "<0x%02X>", i);
        b->fallback[i] = bpe_find(b, name, 6);
        complete = complete && b->fallback[i] >= 0;
    }
    b->unk = unk ? bpe_find(b, unk, (int64_t)strlen(unk)) : -1;
    if (unk && b->unk < 0)
        return err_set(e, "the tokenizer's unknown token \"%.80s\" is not in its vocabulary", unk);
    /* The text of a byte token ends in '>' whichever byte it stands for, so a merge after one may
     * concern every byte. */
    b->words = !flags.byte_level && !flags.ignore_merges && flags.byte_fallback && complete &&
               b->word_end['>'] && bpe_find(b, METASPACE, 3) >= 0;
    return 0;
}

int bpe_has_bytes(const struct bpe *b)
{
    int all = 1;
    for (int i = 0; i < 256; i++)
        all = all && b->fallback[i] >= 0;
    return b->flags.byte_level || (b->flags.byte_fallback && all);
}

int bpe_stays(const struct bpe *b, uint32_t id)
{
    if (id == b->unk || (!b->flags.byte_level && id == bpe_find(b, METASPACE, 3)))
        return 1;
    const int64_t *bytes = b->flags.byte_level ? b->byte_token : b->fallback;
    for (int i = 0; i < 256; i++)
        if (bytes[i] == id)
            return 1;
    return 0;
}

/* ---- a part of them */

int bpe_write_vocab(FILE *f, const char *json, int64_t n, const int64_t *id_of, struct err *e)
{
    struct json_scan j;
    int first = 1;
    json_scan_open(&j, json, n);
    json_need(&j, '{');
    fputc('{', f);
    for (int more = !json_take(&j, '}'); more && !j.failed; more = json_take(&j, ',')) {
        struct json_range text = json_skip_value(&j);
        json_need(&j, ':');
        int64_t id = json_whole(&j), to = j.failed ? -1 : id_of[id];
        if (to >= 0)
            fprintf(f, "%s%.*s:%lld", first ? "" : ",", (int)text.n, text.s, (long long)to);
        first &= to < 0;
    }
    fputc('}', f);
    int bad = j.failed;
    json_scan_close(&j);
    return bad ? err_set(e, "the vocabulary of the tokenizer is malformed") : 0;
}

int bpe_write_merges(const struct bpe *b, FILE *f, const char *json, int64_t n,
                     const int64_t *id_of, struct err *e)
{
    struct json_scan j;
    char *store = mem_alloc((size_t)n + 1);
    int first = 1, bad = 0;
    json_scan_open(&j, json, n);
    json_need(&j, '[');
    fputc('[', f);
    for (int more = !json_take(&j, ']'); more && !j.failed && !bad; more = json_take(&j, ',')) {
        struct halves h;
        const char *from = j.p;
        bad = read_merge(&j, store, &h);
        if (bad || id_of[bpe_find(b, h.s[0], h.n[0])] < 0 ||
            id_of[bpe_find(b, h.s[1], h.n[1])] < 0 ||
            id_of[bpe_find(b, h.s[0], h.n[0] + h.n[1])] < 0)
            continue;
        fprintf(f, "%s%.*s", first ? "" : ",", (int)(j.p - from), from);
        first = 0;
    }
    fputc(']', f);
    bad |= j.failed;
    json_scan_close(&j);
    free(store);
    return bad ? err_set(e, "the merges of the tokenizer are malformed") : 0;
}
