/* Token sequences one at a time: see sequences.h. Refused: records of ids that records.h refuses, a
 * stream without ids, packed documents (their flags come after all ids). */
#include "sequences.h"

#include <stdlib.h>

#include "../base/minmax.h"
#include "windows.h"

/* Moves on to the next record of ids: 1, 0 at the end, -1. */
static int record_next(struct sequences *s)
{
    int more;
    while ((more = st_next(s->in, &s->record)) > 0) {
        const struct tensor *t = &s->record;
        int which = token_record_of(t->name);
        if (which >= 0 &&
            token_record_take(&s->order, (enum token_record)which, t, st_path(s->in), s->e))
            return -1;
        if (which != TOKEN_IDS)
            continue;
        s->rows_left = s->order.rows ? t->shape[0] : 1;
        s->row_len = t->shape[s->order.rows];
        return 1;
    }
    s->ended = !more;
    return more;
}

/* The number of tokens in the header; INT64_MAX if it has none. */
static int64_t header_tokens(const struct st_in *in)
{
    int64_t n = json_integer_value(json_object_get(st_head(in), "tokens"));
    return n > 0 ? n : INT64_MAX;
}

/* Tokens of the longest sequence given out. */
static int64_t longest(const struct sequences *s, int64_t asked, const struct model_spec *h)
{
    if (s->record.ndim == 2)
        return min64(window_length(asked, s->row_len, h), s->row_len);
    /* memory is reserved for this many: no more than there can be */
    return min64(window_length(asked, 0, h), s->all);
}

int sequences_open(struct sequences *s, struct st_in *in, int64_t asked, const struct model_spec *h,
                   struct err *e)
{
    *s = (struct sequences){.in = in, .e = e};
    if (json_is_true(json_object_get(st_head(in), "packed")))
        return err_set(e,
                       "%s has packed documents, of which several share a row; give tokens that "
                       "were made without --pack",
                       st_path(in));
    int more = record_next(s);
    if (more <= 0)
        return more ? -1 : err_set(e, "%s has no record ids", st_path(in));
    s->all = header_tokens(in);
    s->max_len = longest(s, asked, h);
    return 0;
}

/* Reads one sequence; tokens beyond the first max_len are discarded. */
static int sequence_read(struct sequences *s, int64_t len)
{
    int64_t kept = min64(len, s->max_len);
    s->ids.n = 0;
    if (st_read_more(s->in, &s->ids, 4 * kept))
        return -1;
    for (int64_t left = 4 * (len - kept); left > 0; left -= ST_CHUNK) {
        s->ids.n = 4 * kept;
        if (st_read_more(s->in, &s->ids, min64(left, ST_CHUNK)))
            return -1;
    }
    return 0;
}

/* The next non-empty sequence. */
static int sequence_next(struct sequences *s, const uint32_t **ids, int64_t *n)
{
    for (;;) {
        while (!s->rows_left && !s->ended)
            if (record_next(s) < 0)
                return -1;
        if (s->ended)
            return 0;
        if (sequence_read(s, s->row_len))
            return -1;
        s->rows_left--;
        s->index++;
        *ids = s->ids.data;
        *n = min64(s->row_len, s->max_len);
        s->cut += s->row_len > s->max_len;
        if (*n)
            return 1;
    }
}

int sequences_next(struct sequences *s, const uint32_t **ids, int64_t *n)
{
    const struct sequences_part *p = &s->part;
    int more;
    while ((more = sequence_next(s, ids, n)) > 0) {
        int64_t after = s->index - 1 - p->first;
        if (after < 0)
            continue;
        s->is_full |= (p->count && after >= p->count) ||
                      (p->max_tokens && s->tokens + *n > p->max_tokens);
        if (s->is_full)
            continue;
        s->tokens += *n;
        return 1;
    }
    if (!more && !s->tokens)
        return err_set(s->e,
                       "%s has no sequence that fits the options: the first one is longer than the "
                       "limit on tokens, or all are skipped",
                       st_path(s->in));
    return more;
}

int sequences_check(const struct sequences *s, const uint32_t *ids, int64_t n, int64_t vocab_size)
{
    for (int64_t i = 0; i < n; i++)
        if (ids[i] >= vocab_size)
            return err_set(s->e,
                           "%s has token id %u, but the model's vocabulary has only %lld tokens: "
                           "tokenize its text with that model",
                           st_path(s->in), ids[i], (long long)vocab_size);
    return 0;
}

void sequences_close(struct sequences *s)
{
    free(s->ids.data);
    *s = (struct sequences){0};
}
