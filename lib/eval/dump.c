/* See dump.h. One batch of windows at a time: its logits on the device, from which pick takes what
 * is written, unless that is all of them. Refused: logits that are no numbers. */
#include "dump.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../base/mem.h"
#include "../base/minmax.h"
#include "../base/turns.h"

struct dump {
    struct exec *x;
    const struct logits_spec *spec;
    struct windows windows;
    struct data_batch batch;
    struct tape *tape;
    struct batches batches;
    int64_t batch_size, layers;
    struct st_out *out; /* of a run */
    dump_progress *progress;
    void *user;
    /* in device memory: draws [T, n] and listings; on the host: draws of a batch, a row */
    struct arena arena;
    double *uniform, *host_uniform;
    void *listings, *host_listings, *scratch;
    unsigned char *record;
};

static int64_t listing_bytes(const struct logits_spec *s) { return 8 * s->n + 4; }

static struct op_args pick_call(const struct dump *d, int64_t rows)
{
    const struct logits_spec *s = d->spec;
    struct op_args c = {.x = d->x, .batch = &d->batch.b, .rows = rows, .scratch = d->scratch};
    c.in[0] = tape_logits_there(d->tape, rows);
    c.p.pick = (struct pick_params){.n = s->n,
                                    .temperature = (float)s->temperature,
                                    .uniform = s->form == LOGITS_SAMPLE ? d->uniform : NULL,
                                    .out = d->listings};
    return c;
}

/* ---- opening */

/* How many windows there are to do: those asked for, and no more than max_tokens allow. */
static int64_t windows_count(const struct dump *d, int64_t max_tokens)
{
    int64_t n = 0, tokens = 0, end = d->windows.n;
    if (d->spec->count && d->spec->count < end - d->spec->first)
        end = d->spec->first + d->spec->count;
    for (int64_t i = d->spec->first; i < end; i++, n++) {
        tokens += windows_row(&d->windows, i).n;
        if (max_tokens && tokens > max_tokens)
            break;
    }
    return n;
}

static int cut(struct dump *d, const struct model_spec *h, const struct tokens *tokens,
               struct logits_spec *s, int64_t seq_length, int64_t max_tokens, struct err *e)
{
    struct window_options o = {.seq_length = window_length_of(tokens, seq_length, h)};
    if (row_bos_of_stream(&o.bos, tokens->head, "auto", h, e) ||
        windows_open(&d->windows, tokens, &o, e))
        return -1;
    s->seq_length = o.seq_length;
    s->bos = o.bos;
    s->vocab_size = h->vocab_size;
    strcpy(s->model, h->id);
    strcpy(s->tokenizer, h->tokenizer_id);
    strcpy(s->tokens, tokens->id);
    if ((s->count = windows_count(d, max_tokens)))
        return 0;
    return err_set(e,
                   "none of the %lld windows fits the options (--max-tokens, "
                   "--first-window, --windows)",
                   (long long)d->windows.n);
}

/* Of a window that is packed here, or comes from another process. */
static int64_t record_bytes(const struct dump *d)
{
    int is_needed = d->spec->form != LOGITS_FULL || world_size() > 1;
    return is_needed ? d->windows.longest * logits_row_bytes(d->spec) : 0;
}

static int64_t picks_bytes(const struct dump *d, int64_t rows)
{
    const struct logits_spec *s = d->spec;
    struct op_args c = pick_call(d, rows);
    if (s->form == LOGITS_FULL)
        return 0;
    return (int64_t)(arena_round((size_t)(rows * listing_bytes(s))) +
                     arena_round((size_t)(rows * s->n) * sizeof(double)) +
                     arena_round(op_scratch(OP_pick, &c)));
}

static int picks_open(struct dump *d, int64_t rows, struct err *e)
{
    const struct logits_spec *s = d->spec;
    struct op_args c = pick_call(d, rows);
    if (s->form == LOGITS_FULL)
        return 0;
    if (exec_arena(d->x, &d->arena, (size_t)picks_bytes(d, rows), e))
        return -1;
    d->listings = arena_take(&d->arena, (size_t)(rows * listing_bytes(s)));
    d->uniform = arena_take(&d->arena, (size_t)(rows * s->n) * sizeof *d->uniform);
    d->scratch = arena_take(&d->arena, op_scratch(OP_pick, &c));
    d->host_uniform = mem_alloc((size_t)(rows * s->n) * sizeof *d->host_uniform);
    return 0;
}

struct batches *dump_batches(struct dump *d) { return &d->batches; }

int64_t dump_bytes(const struct dump *d)
{
    return tape_bytes(d->tape) + picks_bytes(d, d->batch_size * d->windows.longest) +
           record_bytes(d);
}

void dump_close(struct dump *d)
{
    if (!d)
        return;
    if (d->tape)
        tape_close(d->tape);
    batches_close(&d->batches);
    data_batch_close(&d->batch);
    windows_close(&d->windows);
    arena_close(&d->arena);
    free(d->host_uniform);
    free(d->host_listings);
    free(d->record);
    free(d);
}

/* ---- a batch */

/* The listings of a batch that begins with a window, on the host. */
static const char *pick(struct dump *d, int64_t window)
{
    const struct batch *b = &d->batch.b;
    int64_t n = d->spec->n, rows = b->n_seq * b->seq_len;
    if (d->spec->form == LOGITS_SAMPLE) {
        for (int64_t i = 0; i < rows; i++)
            logits_uniform(d->spec, window + i / b->seq_len, i % b->seq_len,
                           d->host_uniform + i * n);
        exec_put(d->x, d->uniform, d->host_uniform, (size_t)(rows * n) * sizeof *d->uniform);
    }
    struct op_args c = pick_call(d, rows);
    op_forward(OP_pick, &c);
    return exec_view(d->x, &d->host_listings, d->listings, (size_t)(rows * listing_bytes(d->spec)));
}

static int not_numbers(int64_t window, struct err *e)
{
    return err_set(e, "window %lld: the model's logits are not all numbers", (long long)window);
}

/* Values of row i of the batch, window `window`; NULL: error. */
static const void *full_record(const struct dump *d, int64_t window, int64_t i, struct err *e)
{
    int64_t n = windows_row(&d->windows, window).n;
    const float *z = tape_logits(d->tape, i * d->batch.b.seq_len, n);
    for (int64_t k = 0; k < n * d->spec->vocab_size; k++)
        if (!isfinite(z[k])) {
            not_numbers(window, e);
            return NULL;
        }
    return z;
}

/* listings: of the batch */
static const void *picked_record(struct dump *d, int64_t window, int64_t i, const char *listings,
                                 struct err *e)
{
    const struct logits_spec *s = d->spec;
    int64_t n = windows_row(&d->windows, window).n, first = i * d->batch.b.seq_len;
    for (int64_t t = 0; t < n; t++) {
        const void *listing = listings + (first + t) * listing_bytes(s);
        const int32_t *ids = listing;
        struct loss_listing l = {ids, (const float *)(ids + s->n)};
        if (isnan(l.log_p[s->n])) {
            not_numbers(window, e);
            return NULL;
        }
        logits_pack(s, &l, d->record + t * logits_row_bytes(s));
    }
    return d->record;
}

/* Writes the record of a window, once its values are where the stream is written. */
static int put(const struct dump *d, int64_t batch, int64_t window, const void *values,
               struct err *e)
{
    struct tensor r = logits_record(d->spec, window, windows_row(&d->windows, window).n);
    if (turn_bring(batch, (void *)values, (size_t)tensor_bytes(&r), e))
        return -1;
    return turns_end_here() ? st_put(d->out, &r, values) : 0;
}

/* Batch i: its windows from .. to - 1. */
static void range(const struct dump *d, int64_t i, int64_t *from, int64_t *to)
{
    *from = d->spec->first + i * d->batch_size;
    *to = min64(*from + d->batch_size, d->spec->first + d->spec->count);
}

static const struct batch *fill(void *user, int64_t i, struct err *e)
{
    struct dump *d = user;
    int64_t from, to;
    range(d, i, &from, &to);
    return windows_fill(&d->windows, from, to - from, &d->batch, e) ? NULL : &d->batch.b;
}

static int done(void *user, int64_t i, int64_t from, int64_t to, struct err *e)
{
    struct dump *d = user;
    int64_t first, end;
    (void)from;
    if (to < d->layers)
        return 0;
    range(d, i, &first, &end);
    const char *listings = d->spec->form == LOGITS_FULL ? NULL : pick(d, first);
    for (int64_t w = first; w < end; w++) {
        const void *values = listings ? picked_record(d, w, w - first, listings, e)
                                      : full_record(d, w, w - first, e);
        if (!values || put(d, i, w, values, e))
            return -1;
    }
    return d->x->err.set ? err_set(e, "%s", d->x->err.msg) : 0;
}

static int left(void *user, int64_t i, int64_t from, int64_t to, struct err *e)
{
    const struct dump *d = user;
    int64_t first, end;
    (void)from;
    range(d, i, &first, &end);
    for (int64_t w = first; w < end && to == d->layers; w++)
        if (put(d, i, w, d->record, e))
            return -1;
    return 0;
}

static void progress(void *user, int64_t n, int64_t of)
{
    const struct dump *d = user;
    if (!d->progress)
        return;
    if (d->batches.bytes)
        d->progress(d->user, n, of);
    else
        d->progress(d->user, min64(n * d->batch_size, d->spec->count), d->spec->count);
}

/* ---- opening and running */

struct dump *dump_open(struct exec *x, struct model *m, const struct tokens *tokens,
                       struct logits_spec *s, int64_t seq_length, int64_t batch_size,
                       int64_t max_tokens, struct err *e)
{
    struct dump *d = mem_alloc(sizeof *d);
    d->x = x;
    d->spec = s;
    if (cut(d, &m->spec, tokens, s, seq_length, max_tokens, e)) {
        dump_close(d);
        return NULL;
    }
    int64_t n = d->windows.longest;
    d->layers = m->spec.num_hidden_layers;
    d->batch_size = min64(batch_size ? batch_size : max64(1, 1024 / n), s->count);
    data_batch_open(&d->batch, d->batch_size, n);
    d->batch.whole = 1;
    d->record = mem_alloc((size_t)record_bytes(d));
    struct tape_spec spec = {.model = m, .n_seq = d->batch_size, .seq_len = n, .end = TAPE_LOGITS};
    d->tape = tape_record(x, &spec, e);
    d->batches = (struct batches){.tape = d->tape,
                                  .n = (s->count + d->batch_size - 1) / d->batch_size,
                                  .fill = fill,
                                  .done = done,
                                  .left = left,
                                  .progress = progress,
                                  .user = d};
    if (d->tape && !tape_open(d->tape, e) && !picks_open(d, d->batch_size * n, e) &&
        !batches_plan(&d->batches, e))
        return d;
    dump_close(d);
    return NULL;
}

int dump_run(struct dump *d, struct st_out *out, dump_progress *show, void *user, struct err *e)
{
    d->out = out;
    d->progress = show;
    d->user = user;
    return batches_run(&d->batches, e);
}
