/* Token streams in memory: see tokens.h. In: records `ids` u32 [n, N] and perhaps `bytes` of the
 * same shape, or `ids.0`, `bytes.0`, `ids.1`, ... u32 [len]; other records are skipped. Memory
 * grows with the bytes that arrive, not with what a shape claims. Refused: both forms in one
 * stream, documents out of order, bytes for some sequences only, empty rows, no ids at all. */
#include "tokens.h"

#include <stdlib.h>

#include "../base/mem.h"
#include "records.h"

struct loading {
    struct tokens *t;
    struct st_in *in;
    struct err *e;
    int64_t limit, start_room, n_bytes;
    struct token_order order;    /* includes records beyond the limit */
    struct st_buffer ids, bytes; /* buffers of t's arrays */
};

/* Appends `n` entries of the current record to *p, the array in b. */
static int entries_read(struct loading *l, uint32_t **p, struct st_buffer *b, int64_t n)
{
    int failed = st_read_more(l->in, b, 4 * n);
    *p = b->data;
    return failed;
}

static void sequence_add(struct loading *l, int64_t len)
{
    struct tokens *t = l->t;
    if (t->n + 2 > l->start_room) {
        l->start_room = 2 * t->n + 64;
        t->start = mem_grow(t->start, (size_t)l->start_room * sizeof *t->start);
    }
    t->start[t->n + 1] = t->start[t->n] + len;
    t->n++;
}

static int64_t tokens_kept(const struct loading *l, int64_t n)
{
    int64_t room = l->limit - l->t->start[l->t->n];
    return l->limit && n > room ? room : n;
}

static int ids_load(struct loading *l, const struct tensor *r)
{
    struct tokens *t = l->t;
    if (token_record_take(&l->order, r, st_path(l->in), l->e))
        return -1;
    int rows = l->order.rows;
    int64_t n = tokens_kept(l, tensor_count(r)), at = t->start[t->n],
            width = rows ? r->shape[1] : n;
    if (entries_read(l, &t->ids, &l->ids, n))
        return -1;
    for (int64_t i = 0; i < n; i++)
        if (t->ids[at + i] > t->max_id)
            t->max_id = t->ids[at + i];
    if (!rows && (n || !l->limit))
        sequence_add(l, n);
    for (int64_t i = 0; rows && i < n; i += width)
        sequence_add(l, n - i < width ? n - i : width);
    return 0;
}

static int bytes_load(struct loading *l, const struct tensor *r)
{
    struct tokens *t = l->t;
    if (l->limit && l->n_bytes == t->start[t->n] && l->order.records > t->n)
        return 0; /* a document beyond the limit */
    int64_t first = l->order.rows || !t->n ? 0 : t->start[t->n - 1], want = t->start[t->n] - first,
            n = tensor_count(r);
    if (token_record_take(&l->order, r, st_path(l->in), l->e))
        return -1;
    if (!l->order.records || (l->limit ? n < want : n != want) || l->n_bytes != first)
        return err_set(l->e, "%s: record %s does not match the ids before it", st_path(l->in),
                       r->name);
    if (entries_read(l, &t->bytes, &l->bytes, want))
        return -1;
    l->n_bytes = first + want;
    return 0;
}

int tokens_load(struct tokens *t, struct st_in *in, int64_t limit, struct err *e)
{
    struct loading l = {.t = t, .in = in, .e = e, .limit = limit};
    struct tensor r;
    int more;
    *t = (struct tokens){.start = mem_alloc(sizeof *t->start), .head = json_incref(st_head(in))};
    l.start_room = 1;
    if (st_head_id(t->head, "id", t->id, st_path(in), e) ||
        st_head_id(t->head, "tokenizer_id", t->tokenizer_id, st_path(in), e))
        return -1;
    while ((more = st_next(in, &r)) > 0) {
        if (token_record_is(r.name, "ids") && ids_load(&l, &r))
            break;
        if (token_record_is(r.name, "bytes") && bytes_load(&l, &r))
            break;
    }
    if (!more && !l.order.records)
        err_set(e, "%s has no record ids", st_path(in));
    if (!more && t->bytes && l.n_bytes != t->start[t->n])
        err_set(e, "%s has source bytes for some of its tokens only", st_path(in));
    if (!e->set)
        return 0;
    tokens_free(t);
    return -1;
}

int tokens_check(const struct tokens *t, int64_t vocab_size, const char *path, struct err *e)
{
    if (!t->start[t->n])
        return err_set(e, "%s has no tokens", path);
    if (t->max_id >= vocab_size)
        return err_set(e, "%s has token id %u, but the model's vocabulary has only %lld tokens",
                       path, t->max_id, (long long)vocab_size);
    return 0;
}

void tokens_free(struct tokens *t)
{
    free(t->start);
    free(t->ids);
    free(t->bytes);
    json_decref(t->head);
    *t = (struct tokens){0};
}
