/* Windows of tokens: see windows.h. Where they begin and what counts in them follows from their
 * number, or else from a table: of documents, where a BOS comes between (a window that begins with
 * one needs no other, so it holds more text), and where flags decide what counts. */
#include "windows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    int64_t row = json_integer_value(json_object_get(t->head, "seq_length"));
    int64_t length = window_length(asked, row > 0 ? row : 0, h);
    return asked || t->longest > length ? length : 0;
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
    if (o->context > INT32_MAX || o->seq_length > INT32_MAX)
        return err_set(e, "windows must have at most %d tokens, not %lld", INT32_MAX,
                       (long long)max64(o->context, o->seq_length));
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

struct window {
    int64_t at; /* as in data_row */
    int32_t n, first, predictions, inputs, bos;
};

static int64_t first_counted(const struct window_options *o)
{
    return min64(max64(1, o->score_from), INT32_MAX);
}

/* ---- a table */

struct cutting {
    struct windows *w;
    const struct tokens *t;
    struct err *e;
    int64_t room;
    uint8_t *flags; /* of a window */
};

/* What a window of `length` tokens holds: bos, whether it begins with an added one. */
static int64_t text_tokens(const struct windows *w, const struct window *r)
{
    return r->n - (r->bos ? w->o.bos.n : 0);
}

/* Does the text from `at` on begin with the BOS? 1, 0, or -1. */
static int begins_with_bos(const struct cutting *c, int64_t at)
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
    if (!n || begins_with_bos(c, at))
        return r;
    r.at = at + shift;
    r.bos = !begins_with_bos(c, at + shift);
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

/* Adds a window to the table, if anything counts in it. */
static void window_add(struct cutting *c, struct window r)
{
    struct windows *w = c->w;
    int64_t text = text_tokens(w, &r);
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
        int64_t end = r.at + text_tokens(c->w, &r);
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
            text = min64(text_tokens(c->w, &r), end - at);
            r.n += (int32_t)(text - text_tokens(c->w, &r));
            window_add(c, r);
        }
    }
}

static int cut_table(struct windows *w, struct err *e)
{
    struct cutting c = {.w = w, .t = w->from, .e = e};
    w->table = mem_alloc(sizeof *w->table);
    if (w->o.context)
        cut_joined(&c);
    else
        cut_sequences(&c);
    free(c.flags);
    return e->set ? -1 : 0;
}

/* ---- regular places */

static int is_regular(const struct windows *w)
{
    const struct tokens *t = w->from;
    if (t->flags)
        return 0;
    if (w->o.context)
        return !w->o.bos.n;
    return t->row && (!w->o.bos.n || !w->o.seq_length || w->o.seq_length >= t->row);
}

/* The pieces of a row; 0: it is not cut. */
static int64_t piece_length(const struct windows *w)
{
    int64_t row = w->from->row;
    return w->o.seq_length ? min64(w->o.seq_length, row) : row;
}

/* Pieces of a row of n tokens in which anything counts. */
static int64_t pieces(const struct windows *w, int64_t n)
{
    int64_t length = piece_length(w), first = first_counted(&w->o);
    return (length > first ? n / length : 0) + (n % length > first);
}

/* How many there are. */
static void count_regular(struct windows *w)
{
    const struct window_options *o = &w->o;
    int64_t total = w->from->total, step = o->stride ? o->stride : o->context;
    if (o->context) {
        w->n = total < o->context ? 0 : (total - o->context) / step + 1;
        return;
    }
    w->each = pieces(w, w->from->row);
    w->n = total / w->from->row * w->each + pieces(w, total % w->from->row);
}

static struct data_row regular_row(const struct windows *w, int64_t i)
{
    const struct window_options *o = &w->o;
    struct data_row r = {.from = w->from, .first = first_counted(o)};
    if (o->context) {
        r.at = i * (o->stride ? o->stride : o->context);
        r.n = o->context;
        if (i && o->stride)
            r.first = max64(r.first, o->context - o->stride);
    } else {
        int64_t row = i / w->each, length = piece_length(w), in_row = i % w->each * length;
        r.at = tokens_start(w->from, row) + in_row;
        r.n = min64(length, tokens_start(w->from, row + 1) - r.at);
    }
    r.predictions = r.n - r.first;
    r.inputs = r.n - 1;
    return r;
}

/* ---- both */

static struct data_row row_of(const struct windows *w, int64_t i)
{
    if (!w->table)
        return regular_row(w, i);
    const struct window *r = &w->table[i];
    return (struct data_row){.from = w->from,
                             .at = r->at,
                             .n = r->n,
                             .first = r->first,
                             .predictions = r->predictions,
                             .inputs = r->inputs,
                             .bos = r->bos ? &w->o.bos : NULL};
}

struct data_row windows_row(const struct windows *w, int64_t i)
{
    struct data_row r = row_of(w, i);
    r.window = i;
    return r;
}

static void count(struct windows *w)
{
    w->longest = 2;
    for (int64_t i = 0; i < w->n; i++) {
        struct data_row r = windows_row(w, i);
        w->longest = max64(w->longest, r.n);
        w->tokens += i && w->o.stride ? w->o.stride : data_row_text(&r);
        w->predictions += r.predictions;
        w->bos_added += r.bos != NULL;
    }
    w->left_out = w->from->total - w->tokens;
    w->tokens -= w->padding;
}

/* Packed documents keep to their rows. */
static int packed_check(const struct tokens *t, const struct window_options *o, struct err *e)
{
    if (!(t->flags & TOKEN_BEGINS))
        return 0;
    if (o->context || o->score_from)
        return err_set(e,
                       "%s has packed documents: --context, --stride and --score-from need "
                       "tokens that were made without --pack",
                       t->file.path);
    if (o->seq_length && o->seq_length < t->longest)
        return err_set(e,
                       "%s has packed rows of %lld tokens, which cannot be cut to %lld: make it "
                       "with tokenize --pack --seq-length %lld",
                       t->file.path, (long long)t->longest, (long long)o->seq_length,
                       (long long)o->seq_length);
    return 0;
}

int windows_open(struct windows *w, const struct tokens *t, const struct window_options *o,
                 struct err *e)
{
    *w = (struct windows){.from = t, .o = *o};
    if (window_options_check(o, e) || bos_check(o, e) || packed_check(t, o, e))
        return -1;
    if (is_regular(w))
        count_regular(w);
    else if (cut_table(w, e))
        return -1;
    count(w);
    if (w->predictions)
        return 0;
    windows_close(w);
    if (t->flags & TOKEN_UNCOUNTED)
        return err_set(e, "%s: none of its %lld tokens counts in a loss: all belong to prompts",
                       t->file.path, (long long)t->total);
    return err_set(e, "%s: its %lld tokens have no window with a prediction to score", t->file.path,
                   (long long)t->total);
}

int windows_fill(const struct windows *w, int64_t first, int64_t n, struct data_batch *d,
                 struct err *e)
{
    for (int64_t i = 0; i < n; i++)
        d->rows[i] = windows_row(w, first + i);
    return data_batch_fill(d, d->rows, n, e);
}

int64_t windows_bytes(const struct windows *w, struct err *e)
{
    return windows_part_bytes(w, 0, w->n, e);
}

int64_t windows_part_bytes(const struct windows *w, int64_t first, int64_t n, struct err *e)
{
    int64_t sum = 0;
    if (!w->from->has_bytes)
        return -1;
    uint32_t *bytes = mem_alloc((size_t)w->longest * sizeof *bytes);
    uint8_t *flags = mem_alloc((size_t)w->longest);
    for (int64_t i = first; i < first + n && !e->set; i++) {
        struct data_row r = windows_row(w, i);
        int64_t at = r.at + r.first - (r.n - data_row_text(&r)), counted = r.n - r.first;
        tokens_read(w->from, TOKEN_BYTES, at, counted, bytes, e);
        tokens_read(w->from, TOKEN_FLAGS, at, counted, flags, e);
        for (int64_t j = 0; j < counted; j++)
            sum += flags[j] ? 0 : bytes[j];
    }
    free(bytes);
    free(flags);
    return e->set ? -1 : sum;
}

void windows_close(struct windows *w)
{
    free(w->table);
    *w = (struct windows){0};
}
