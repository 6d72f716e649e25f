/* Windows of tokens: see windows.h. */
#include "windows.h"

#include <stdio.h>
#include <stdlib.h>

#include "../base/mem.h"
#include "../base/minmax.h"

enum { DOCUMENT_TOKENS = 2048 };

int64_t window_length(int64_t asked, int64_t row, const struct model_spec *h)
{
    if (asked)
        return asked;
    return min64(row ? row : DOCUMENT_TOKENS, h->max_position_embeddings);
}

int64_t window_length_of(const struct tokens *t, int64_t asked, const struct model_spec *h)
{
    int64_t row = json_integer_value(json_object_get(t->head, "seq_length")), longest = 0;
    int64_t length = window_length(asked, row > 0 ? row : 0, h);
    for (int64_t i = 0; i < t->n; i++)
        longest = max64(longest, t->start[i + 1] - t->start[i]);
    return asked || longest > length ? length : 0;
}

int window_note(char text[200], int64_t length, int asked, const struct model_spec *h)
{
    int64_t positions = h->max_position_embeddings;
    if (length > positions)
        snprintf(text, 200,
                 "windows of up to %lld tokens go beyond the %lld positions of the model "
                 "(max_position_embeddings)",
                 (long long)length, (long long)positions);
    else if (length && !asked)
        snprintf(text, 200, "sequences are cut to %lld tokens (--seq-length)", (long long)length);
    return length > positions || (length && !asked);
}

int window_options_check(const struct window_options *o, struct err *e)
{
    if (o->context < 0 || o->context == 1)
        return err_set(e, "--context must be at least 2 to predict a token, not %lld",
                       (long long)o->context);
    if (o->seq_length < 0 || o->seq_length == 1)
        return err_set(e, "--seq-length must be at least 2 to predict a token, not %lld",
                       (long long)o->seq_length);
    if (o->context && o->seq_length)
        return err_set(
            e, "--context cuts the joined text and --seq-length each sequence by itself: give one");
    if (o->stride && !o->context)
        return err_set(e, "--stride needs --context, the length of a window");
    if (o->stride < 0 || o->stride > o->context)
        return err_set(e, "--stride %lld leaves gaps between windows of --context %lld",
                       (long long)o->stride, (long long)o->context);
    int64_t window = o->context + o->seq_length; /* one of them is 0 */
    if (o->score_from < 0 || (window && o->score_from >= window))
        return err_set(e, "windows of %lld tokens have no position %lld (--score-from)",
                       (long long)window, (long long)o->score_from);
    return 0;
}

/* Windows that begin with an added BOS have less room for text. */
static int bos_check(const struct window_options *o, struct err *e)
{
    int64_t window = o->context + o->seq_length, text = window - o->bos.n;
    if (window && text < 1)
        return err_set(e, "windows of %lld tokens have no room for text after their BOS (%lld)",
                       (long long)window, (long long)o->bos.n);
    if (o->stride && o->stride > text)
        return err_set(e,
                       "--stride %lld leaves gaps between windows of --context %lld: each begins "
                       "with a BOS (--row-bos) and has room for %lld tokens of the text",
                       (long long)o->stride, (long long)o->context, (long long)text);
    return 0;
}

static int64_t text_tokens(const struct data_row *r) { return r->n - (r->bos ? r->bos->n : 0); }

static int begins_with_bos(const struct windows *w, const struct tokens *t, int64_t at)
{
    return at >= 0 && row_bos_present(&w->bos, t->ids + at, t->start[t->n] - at);
}

/* Adds a window of `length` tokens: the text from `at` on if it begins with the BOS, else a BOS and
 * the text from at + shift on, unless that begins with one. */
static struct data_row row_at(const struct windows *w, const struct tokens *t, int64_t at,
                              int64_t shift, int64_t length, int64_t first)
{
    int64_t n = w->bos.n;
    if (!n || begins_with_bos(w, t, at))
        return (struct data_row){t->ids + at, length, first, NULL};
    if (begins_with_bos(w, t, at + shift))
        return (struct data_row){t->ids + at + shift, length - n, max64(1, first - n), NULL};
    return (struct data_row){t->ids + at + shift, length, max64(first, n), &w->bos};
}

/* Windows of joined text: one after the other or, with a stride, each ending one stride after the
 * last. */
static void cut_joined(struct windows *w, const struct tokens *t, const struct window_options *o)
{
    int64_t end = 0, at = 0, shift = 0, first = max64(1, o->score_from);
    for (;; w->n++) {
        struct data_row r = row_at(w, t, at, shift, o->context, first);
        end = r.ids - t->ids + text_tokens(&r);
        if (end > t->start[t->n])
            return;
        w->rows[w->n] = r;
        at = end;
        if (!o->stride)
            continue;
        at = end + o->stride - o->context;
        shift = w->bos.n;
        first = max64(first, o->context - o->stride);
    }
}

/* The sequences as they are, or each in pieces of at most seq_length. */
static void cut_sequences(struct windows *w, const struct tokens *t, const struct window_options *o)
{
    int64_t most = o->seq_length ? o->seq_length : INT64_MAX, first = max64(1, o->score_from);
    for (int64_t i = 0; i < t->n; i++)
        for (int64_t at = t->start[i], end = t->start[i + 1]; at < end;) {
            struct data_row r = row_at(w, t, at, 0, most, first);
            if (at == t->start[i])
                r = (struct data_row){t->ids + at, most, first, NULL};
            int64_t text = min64(text_tokens(&r), end - at);
            r.n += text - text_tokens(&r);
            w->rows[w->n] = r;
            w->n += data_predictions(&r) > 0;
            at += text;
        }
}

static void count(struct windows *w, const struct tokens *t, const struct window_options *o)
{
    w->bytes = t->bytes ? 0 : -1;
    for (int64_t i = 0; i < w->n; i++) {
        const struct data_row *r = &w->rows[i];
        int64_t text = text_tokens(r), front = r->n - text;
        w->tokens += i && o->stride ? o->stride : text;
        w->predictions += data_predictions(r);
        w->bos_added += r->bos != NULL;
        for (int64_t j = r->first; t->bytes && j < r->n; j++)
            w->bytes += t->bytes[r->ids - t->ids + j - front];
    }
    w->left_out = t->start[t->n] - w->tokens;
}

int windows_open(struct windows *w, const struct tokens *t, const struct window_options *o,
                 struct err *e)
{
    *w = (struct windows){.bos = o->bos};
    if (window_options_check(o, e) || bos_check(o, e))
        return -1;
    int64_t total = t->start[t->n], window = o->context + o->seq_length;
    int64_t step = o->stride ? o->stride : window - o->bos.n;
    w->rows = mem_alloc((size_t)((window ? total / step : 0) + t->n + 1) * sizeof *w->rows);
    if (o->context)
        cut_joined(w, t, o);
    else
        cut_sequences(w, t, o);
    count(w, t, o);
    if (w->predictions)
        return 0;
    windows_close(w);
    return err_set(e, "the %lld tokens have no window with a prediction to score",
                   (long long)total);
}

int64_t windows_longest(const struct windows *w)
{
    int64_t n = 2;
    for (int64_t i = 0; i < w->n; i++)
        n = max64(n, w->rows[i].n);
    return n;
}

void windows_close(struct windows *w)
{
    free(w->rows);
    *w = (struct windows){0};
}
