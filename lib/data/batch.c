/* Batches: see batch.h. */
#include "batch.h"

#include <stdlib.h>
#include <string.h>

#include "../base/mem.h"
#include "../base/minmax.h"

int64_t data_row_text(const struct data_row *r) { return r->n - (r->bos ? r->bos->n : 0); }

int data_row_read(const struct data_row *r, uint32_t *ids, uint8_t *flags, struct err *e)
{
    int64_t text = data_row_text(r), front = r->n - text;
    if (front)
        memcpy(ids, r->bos->ids, (size_t)front * sizeof *ids);
    if (flags)
        memset(flags, 0, (size_t)front);
    return tokens_read(r->from, TOKEN_IDS, r->at, text, ids + front, e) ||
                   (flags && tokens_read(r->from, TOKEN_FLAGS, r->at, text, flags + front, e))
               ? -1
               : 0;
}

/* The label of position t of a row that was read. */
static int32_t label_of(const struct data_batch *d, const struct data_row *r, int64_t t)
{
    if (t + 1 >= r->n)
        return LABEL_PADDING;
    if (d->flags[t] & d->flags[t + 1] & TOKEN_BEGINS)
        return LABEL_PADDING;
    int is_counted = t + 1 >= r->first && !d->flags[t + 1];
    return is_counted ? (int32_t)d->row[t + 1] : LABEL_UNCOUNTED;
}

void data_batch_open(struct data_batch *d, int64_t n_seq, int64_t n)
{
    size_t room = (size_t)(n_seq * n);
    *d = (struct data_batch){.whole = 0};
    d->rows = mem_alloc((size_t)n_seq * sizeof *d->rows);
    d->ids = mem_alloc(room * sizeof *d->ids);
    d->labels = mem_alloc(room * sizeof *d->labels);
    d->starts = mem_alloc(room * sizeof *d->starts);
    d->lengths = mem_alloc((size_t)n_seq * sizeof *d->lengths);
    d->row = mem_alloc((size_t)n * sizeof *d->row);
    d->flags = mem_alloc((size_t)n);
    d->b = (struct batch){.ids = d->ids, .labels = d->labels, .lengths = d->lengths};
}

/* Row `i` of a batch of rows of `len` positions. */
static int row_fill(struct data_batch *d, const struct data_row *r, int64_t i, int64_t len,
                    struct err *e)
{
    int32_t *ids = d->ids + i * len, *labels = d->labels + i * len, *starts = d->starts + i * len;
    if (data_row_read(r, d->row, d->flags, e))
        return -1;
    for (int64_t t = 0; t < len; t++) {
        int begins = t < r->n && d->flags[t] & TOKEN_BEGINS;
        ids[t] = t + !d->whole < r->n ? (int32_t)d->row[t] : 0;
        labels[t] = label_of(d, r, t);
        starts[t] = begins || !t ? (int32_t)t : starts[t - 1];
    }
    if (starts[len - 1])
        d->b.starts = d->starts;
    d->lengths[i] = r->n;
    return 0;
}

int data_batch_fill(struct data_batch *d, const struct data_row *rows, int64_t n_seq, struct err *e)
{
    int64_t len = 1;
    for (int64_t i = 0; i < n_seq; i++)
        len = max64(len, rows[i].n - !d->whole);
    d->b.starts = NULL;
    for (int64_t i = 0; i < n_seq; i++)
        if (row_fill(d, &rows[i], i, len, e))
            return -1;
    d->b.n_seq = n_seq;
    d->b.seq_len = len;
    return 0;
}

void data_batch_close(struct data_batch *d)
{
    free(d->rows);
    free(d->ids);
    free(d->labels);
    free(d->starts);
    free(d->lengths);
    free(d->row);
    free(d->flags);
    *d = (struct data_batch){0};
}

int data_check_tokenizers(const char *a_name, const char *a_id, const char *b_name,
                          const char *b_id, struct err *e)
{
    if (!a_id[0] || !b_id[0] || !strcmp(a_id, b_id))
        return 0;
    return err_set(e,
                   "%s and %s come from different tokenizers (%.8s, %.8s), so their token ids "
                   "differ in meaning: tokenize with one of them, or use --any-tokenizer to go on",
                   a_name, b_name, a_id, b_id);
}

int data_check_model(const struct tokens *t, const char *tokens_name, const struct model_spec *h,
                     const char *model_name, int any_tokenizer, struct err *e)
{
    if (tokens_check(t, h->vocab_size, tokens_name, e))
        return -1;
    return any_tokenizer ? 0
                         : data_check_tokenizers(model_name, h->tokenizer_id, tokens_name,
                                                 t->tokenizer_id, e);
}
