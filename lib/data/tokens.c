/* Token streams by position: see tokens.h. Opening reads the stream once, which verifies it, and
 * notes where its records lie; what cannot be read by position is copied then, chunk by chunk.
 * Other records are skipped. Refused: what records.h refuses, bytes for some sequences only,
 * unknown flags, no ids at all; later, a file that is no longer as it was when it was opened. */
#include "tokens.h"

#include <stdlib.h>
#include <string.h>

#include "../base/mem.h"
#include "../base/minmax.h"

/* A list that grows, of -1 where nothing was put. */
struct list {
    int64_t **p, room;
};

static void list_put(struct list *l, int64_t i, int64_t value)
{
    if (i >= l->room) {
        int64_t before = l->room;
        l->room = 2 * i + 64;
        *l->p = mem_grow(*l->p, (size_t)l->room * sizeof **l->p);
        memset(*l->p + before, -1, (size_t)(l->room - before) * sizeof **l->p);
    }
    (*l->p)[i] = value;
}

struct loading {
    struct tokens *t;
    struct st_in *in;
    struct err *e;
    int64_t limit;
    struct token_order order; /* includes records beyond the limit */
    int64_t with_bytes;       /* records of bytes */
    int64_t kept;             /* tokens of the last record of ids that count */
    unsigned char *chunk;
    struct list start, place[TOKEN_RECORDS];
};

/* ---- loading */

static int values_check(struct loading *l, enum token_record which, int64_t n)
{
    struct tokens *t = l->t;
    const uint32_t *ids = (const uint32_t *)l->chunk;
    if (which == TOKEN_IDS)
        for (int64_t i = 0; i < n; i++)
            t->max_id = ids[i] > t->max_id ? ids[i] : t->max_id;
    if (which == TOKEN_FLAGS)
        for (int64_t i = 0; i < n; i++)
            t->flags |= l->chunk[i];
    if (t->flags & ~(unsigned)TOKEN_FLAG_ALL)
        return err_set(l->e, "%s has a token with flags %u, of which this release knows only %u",
                       st_path(l->in), t->flags, TOKEN_FLAG_ALL);
    return 0;
}

/* Reads the first n entries of the record. */
static int entries_read(struct loading *l, enum token_record which, int64_t n)
{
    int64_t size = dtype_bytes(token_records[which].dtype, 1);
    for (int64_t left = n * size, part; left > 0; left -= part) {
        part = min64(left, ST_CHUNK);
        if (st_read(l->in, l->chunk, part) != part || values_check(l, which, part / size) ||
            records_file_take(&l->t->file, l->chunk, part, l->e))
            return -1;
    }
    return 0;
}

/* How many of the n tokens of a new record count. */
static void sequences_add(struct loading *l, int64_t n)
{
    struct tokens *t = l->t;
    int64_t room = l->limit ? l->limit - t->total : n, kept = min64(n, room);
    l->kept = kept;
    if (l->order.rows) {
        t->row = l->order.shape[1];
        t->n = t->row ? (kept + t->row - 1) / t->row : 0;
        t->longest = min64(kept, t->row);
    } else if (kept || !l->limit) {
        list_put(&l->start, t->n++, t->total);
        t->longest = max64(t->longest, kept);
    }
    t->total += kept;
}

static int record_load(struct loading *l, enum token_record which, const struct tensor *r)
{
    int64_t place;
    if (token_record_take(&l->order, which, r, st_path(l->in), l->e))
        return -1;
    if (which == TOKEN_IDS)
        sequences_add(l, tensor_count(r));
    l->with_bytes += which == TOKEN_BYTES;
    if (!l->kept)
        return 0;
    if (records_file_place(&l->t->file, l->in, &place, l->e))
        return -1;
    list_put(&l->place[which], l->order.rows ? 0 : l->t->n - 1, place);
    return entries_read(l, which, l->kept);
}

static int records_load(struct loading *l)
{
    struct tensor r;
    int more, which;
    while ((more = st_next(l->in, &r)) > 0)
        if ((which = token_record_of(r.name)) >= 0 && record_load(l, (enum token_record)which, &r))
            return -1;
    if (more < 0)
        return -1;
    if (!l->order.records)
        return err_set(l->e, "%s has no record ids", st_path(l->in));
    if (l->with_bytes && l->with_bytes != l->order.records)
        return err_set(l->e, "%s has source bytes for some of its tokens only", st_path(l->in));
    if (l->t->flags & TOKEN_BEGINS && !json_is_true(json_object_get(l->t->head, "packed")))
        return err_set(l->e, "%s has packed documents, but its header does not say so",
                       st_path(l->in));
    return 0;
}

/* Cuts or fills a list to n entries. */
static void list_end(struct list *l, int64_t n)
{
    if (!l->room || !n)
        return;
    if (l->room < n)
        list_put(l, n - 1, -1);
    *l->p = mem_grow(*l->p, (size_t)n * sizeof **l->p);
}

/* Lists end with the last document, whatever records it has. */
static void lists_end(struct loading *l)
{
    int64_t n = l->order.rows ? 1 : l->t->n;
    list_end(&l->start, n);
    for (int i = 0; i < TOKEN_RECORDS; i++)
        list_end(&l->place[i], n);
}

int tokens_load(struct tokens *t, struct st_in *in, int64_t limit, struct err *e)
{
    *t = (struct tokens){.head = json_incref(st_head(in))};
    records_file_open(&t->file, st_path(in));
    struct loading l = {.t = t, .in = in, .e = e, .limit = limit, .start.p = &t->start};
    for (int i = 0; i < TOKEN_RECORDS; i++)
        l.place[i].p = &t->place[i];
    l.chunk = mem_alloc(ST_CHUNK);
    int failed = st_head_id(t->head, "id", t->id, t->file.path, e) ||
                 st_head_id(t->head, "tokenizer_id", t->tokenizer_id, t->file.path, e) ||
                 records_load(&l);
    lists_end(&l);
    t->has_bytes = l.with_bytes > 0;
    free(l.chunk);
    if (failed)
        tokens_free(t);
    return failed ? -1 : 0;
}

/* ---- by position */

int64_t tokens_start(const struct tokens *t, int64_t i)
{
    if (t->row)
        return min64(i * t->row, t->total);
    return i < t->n ? t->start[i] : t->total;
}

/* The last document that begins at or before a token, and so has it. */
static int64_t document_of(const struct tokens *t, int64_t at)
{
    int64_t low = 0, high = t->n;
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (t->start[middle] <= at)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Reads n entries from token `at` on, all of record i, which begins with token `first`. */
static int part_read(const struct tokens *t, enum token_record which, int64_t i, int64_t first,
                     int64_t at, int64_t n, void *to, struct err *e)
{
    int64_t size = dtype_bytes(token_records[which].dtype, 1);
    int64_t place = t->place[which] ? t->place[which][i] : -1;
    if (place < 0)
        memset(to, 0, (size_t)(n * size));
    else if (records_file_read(&t->file, place, (at - first) * size, to, n * size, e))
        return -1;
    for (int64_t k = 0; which == TOKEN_FLAGS && k < n; k++)
        ((uint8_t *)to)[k] &= (uint8_t)t->flags;
    for (int64_t k = 0; which == TOKEN_IDS && k < n; k++)
        if (((uint32_t *)to)[k] > t->max_id)
            return err_set(e, "%s has changed while it was read", t->file.path);
    return 0;
}

int tokens_read(const struct tokens *t, enum token_record which, int64_t at, int64_t n, void *to,
                struct err *e)
{
    while (n > 0) {
        int64_t i = 0, first = 0, end = t->total;
        if (!t->row) {
            i = document_of(t, at);
            first = t->start[i];
            end = tokens_start(t, i + 1);
        }
        int64_t part = min64(n, end - at);
        if (part_read(t, which, i, first, at, part, to, e))
            return -1;
        to = (char *)to + dtype_bytes(token_records[which].dtype, part);
        at += part;
        n -= part;
    }
    return 0;
}

int64_t tokens_source_bytes(const struct tokens *t, struct err *e)
{
    uint32_t bytes[4096];
    int64_t sum = 0;
    if (!t->has_bytes)
        return -1;
    for (int64_t at = 0, n; at < t->total; at += n) {
        n = min64(t->total - at, (int64_t)(sizeof bytes / sizeof *bytes));
        if (tokens_read(t, TOKEN_BYTES, at, n, bytes, e))
            return -1;
        for (int64_t i = 0; i < n; i++)
            sum += bytes[i];
    }
    return sum;
}

int tokens_check(const struct tokens *t, int64_t vocab_size, const char *path, struct err *e)
{
    if (!t->total)
        return err_set(e, "%s has no tokens", path);
    if (t->max_id >= vocab_size)
        return err_set(e,
                       "%s has token id %u, but the model's vocabulary has only %lld tokens: "
                       "tokenize its text with that model",
                       path, t->max_id, (long long)vocab_size);
    return 0;
}

void tokens_free(struct tokens *t)
{
    records_file_close(&t->file);
    free(t->start);
    for (int i = 0; i < TOKEN_RECORDS; i++)
        free(t->place[i]);
    json_decref(t->head);
    *t = (struct tokens){.file.fd = -1};
}
