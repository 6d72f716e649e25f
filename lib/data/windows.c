/* Windows of tokens: see windows.h. Where they begin and what counts in them follows from their
 * number, or else from a table (windows_cut.c). */
#include "windows_private.h"

#include <stdio.h>
#include <stdlib.h>

#include "../base/mem.h"

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

/* ---- regular places */

static int is_regular(const struct windows *w)
{
    const struct tokens *t = w->from;
    if (t->flags || w->o.convention > CONVENTION_GPTQ)
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
    if (w->o.convention == CONVENTION_HF_STRIDE || w->o.convention == CONVENTION_HARNESS)
        w->tokens = w->from->total;
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

static int windows_list(struct windows *w, struct err *e)
{
    static void (*const cuts[CONVENTIONS])(struct cutting *) = {
        cut_by_options, cut_by_options, cut_hf_stride, cut_harness, cut_llama_cpp};
    struct cutting c = {.w = w, .t = w->from, .e = e};
    w->table = mem_alloc(sizeof *w->table);
    cuts[w->o.convention](&c);
    free(c.flags);
    return e->set ? -1 : 0;
}

int windows_open(struct windows *w, const struct tokens *t, const struct window_options *o,
                 struct err *e)
{
    *w = (struct windows){.from = t, .o = *o};
    if (window_options_check(o, e) || bos_check(o, e) || packed_check(t, o, e))
        return -1;
    if (is_regular(w))
        count_regular(w);
    else if (windows_list(w, e))
        return -1;
    count(w);
    if (w->predictions)
        return 0;
    windows_close(w);
    if (t->flags & TOKEN_UNCOUNTED)
        return err_set(e, "%s: none of its %lld tokens counts in a loss: all belong to prompts",
                       t->file.path, (long long)t->total);
    if (o->context > t->total)
        return err_set(e, "%s: its %lld tokens do not fill a window of %lld (--context)",
                       t->file.path, (long long)t->total, (long long)o->context);
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
