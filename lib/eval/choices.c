/* Running a model over items: see choices.h.
 *
 * The stems of a batch (choice_batches.h) are read up to where all of them end. From that place on
 * the longest choice of each item is read, then the next longest, each over the one before; where
 * rope tables go by the length of a text and another choice needs the other table, the stem is read
 * again. A tape has room for one length, and lengths are rounded up to powers of two, so that few
 * tapes are made. */
#include "choices.h"

#include <math.h>
#include <stdlib.h>

#include "../base/mem.h"
#include "../base/minmax.h"
#include "../base/turns.h"
#include "choice_batches.h"

/* TOGETHER: tokens of a batch, padding included; LEAST: places of a tape; LOGITS: tokens of a call
 * that keeps the logits of all; LISTING: bytes of the most probable token, its id and two
 * logarithms */
enum { TOGETHER = 2048, LEAST = 32, LOGITS = 256, LISTING = 12 };

struct runner {
    struct exec *x;
    struct model *m;
    struct choice_run o;
    struct choice_batches b;
    int with_logits;
    struct tape *tape;
    int64_t room, length, most;     /* of the tape: items, places, tokens of a call */
    int32_t *ids, *labels, *starts; /* [most] */
    struct arena memory;            /* of the rest */
    int64_t end;                    /* where the texts end that are being read */
    void *residual;                 /* what enters the blocks that are left out */
    void *listings, *scratch, *host;
};

/* ---- the tape */

static int64_t length_of(const struct runner *r, const struct choice_entry *q)
{
    int64_t n = LEAST;
    while (n < choice_places(q))
        n *= 2;
    return min64(n, r->m->spec.max_position_embeddings);
}

static void tape_end(struct runner *r)
{
    tape_close(r->tape);
    arena_close(&r->memory);
    free(r->ids);
    free(r->labels);
    free(r->starts);
    r->tape = NULL;
    r->ids = r->labels = r->starts = NULL;
}

static int tape_make(struct runner *r, int64_t length, struct err *e)
{
    tape_end(r);
    r->length = length;
    r->room = min64(r->o.batch_size ? r->o.batch_size : max64(1, TOGETHER / length), r->b.items);
    int64_t most = min64(r->room * length, r->with_logits ? LOGITS : TOGETHER);
    struct tape_spec spec = {.model = r->m,
                             .n_seq = r->room,
                             .seq_len = max64(1, most / r->room),
                             .kv_len = length,
                             .marks = 1,
                             .end = r->with_logits ? TAPE_LOGITS : TAPE_LOSS,
                             .losses = {{.kind.set = LOSS_BIT(ce)}}};
    r->most = spec.n_seq * spec.seq_len;
    r->tape = tape_record(r->x, &spec, e);
    return r->tape ? 0 : -1;
}

static size_t residual_bytes(const struct runner *r, int64_t tokens)
{
    return (size_t)dtype_bytes(r->x->compute, tokens * r->m->spec.hidden_size);
}

static struct op_args pick_call(const struct runner *r, const struct batch *b)
{
    int64_t rows = b->n_seq * b->seq_len;
    struct op_args c = {.x = r->x, .batch = b, .rows = rows, .scratch = r->scratch};
    c.in[0] = tape_logits_there(r->tape, rows);
    c.p.pick = (struct pick_params){.n = 1, .temperature = 1, .out = r->listings};
    return c;
}

/* Sizes of residual, listings and scratch. */
static void memory_sizes(const struct runner *r, size_t bytes[3])
{
    struct batch longest = {.n_seq = 1, .seq_len = r->most};
    bytes[0] = r->o.without ? residual_bytes(r, r->most) : 0;
    bytes[1] = bytes[2] = 0;
    if (!r->with_logits)
        return;
    struct op_args c = pick_call(r, &longest);
    bytes[1] = (size_t)(r->most * LISTING);
    bytes[2] = op_scratch(OP_pick, &c);
}

static size_t memory_bytes(const struct runner *r)
{
    size_t bytes[3];
    memory_sizes(r, bytes);
    return arena_round(bytes[0]) + arena_round(bytes[1]) + arena_round(bytes[2]);
}

static int tape_begin(struct runner *r, struct err *e)
{
    size_t bytes[3], call = (size_t)r->most * sizeof *r->ids;
    memory_sizes(r, bytes);
    if (tape_open(r->tape, e) || exec_arena(r->x, &r->memory, memory_bytes(r), e))
        return -1;
    r->residual = arena_take(&r->memory, bytes[0]);
    r->listings = arena_take(&r->memory, bytes[1]);
    r->scratch = arena_take(&r->memory, bytes[2]);
    r->ids = mem_alloc(call);
    r->labels = mem_alloc(call);
    r->starts = mem_alloc(call);
    return 0;
}

/* ---- a call */

static int forward(struct runner *r, const struct batch *b, struct err *e)
{
    int64_t from = r->o.first, to = from + r->o.without;
    size_t bytes = residual_bytes(r, b->n_seq * b->seq_len);
    if (from == to)
        return tape_forward(r->tape, b, e);
    if (tape_forward_range(r->tape, b, 0, from, e))
        return -1;
    exec_copy(r->x, r->residual, tape_boundary(r->tape, from), bytes);
    exec_copy(r->x, tape_boundary(r->tape, to), r->residual, bytes);
    return tape_forward_range(r->tape, b, to, r->m->spec.num_hidden_layers, e);
}

/* Token k behind the stem, and what it is to predict. */
static void put_token(struct runner *r, const struct choice_row *row, int64_t k, int64_t at)
{
    int within = k < row->n - 1, scored = k >= row->n - 1 - row->scored;
    r->ids[at] = within ? row->ids[k] : 0;
    r->labels[at] = within ? LABEL_UNCOUNTED : LABEL_PADDING;
    if (within && scored)
        r->labels[at] = row->ids[k + 1];
}

/* Place p of entry i, in its stem or in one of its choices. */
static void put_place(struct runner *r, int64_t i, int64_t choice, int64_t p, int64_t at)
{
    const struct choice_entry *q = &r->b.batch[i];
    r->starts[at] = p < q->pad ? 0 : (int32_t)q->pad;
    if (p >= r->b.stem)
        put_token(r, q->rows[choice], p - r->b.stem, at);
    else
        r->ids[at] = p < q->pad ? 0 : q->item->stem[p - q->pad];
}

static void take_greedy(struct choice_row *row, const int32_t *labels, const char *listing,
                        int64_t n)
{
    for (int64_t j = 0; j < n; j++, listing += LISTING)
        if (labels[j] >= 0)
            row->greedy &= *(const int32_t *)(const void *)listing == labels[j];
}

static void take_results(struct runner *r, const struct batch *b, int64_t choice)
{
    const double *losses = tape_losses(r->tape, 0);
    for (int64_t i = 0; i < b->n_seq * b->seq_len; i++)
        r->b.batch[i / b->seq_len].rows[choice]->log_likelihood -= losses[i];
    if (!r->with_logits)
        return;
    struct op_args c = pick_call(r, b);
    op_forward(OP_pick, &c);
    const char *listings = exec_view(r->x, &r->host, r->listings, (size_t)(c.rows * LISTING));
    for (int64_t i = 0; i < b->n_seq; i++)
        take_greedy(r->b.batch[i].rows[choice], b->labels + i * b->seq_len,
                    listings + i * b->seq_len * LISTING, b->seq_len);
}

/* Places from .. to - 1 of the first n entries, piece by piece; choice -1: of their stems, where
 * nothing is predicted. */
static int read_places(struct runner *r, int64_t n, int64_t choice, int64_t from, int64_t to,
                       struct err *e)
{
    struct batch b = {.n_seq = n,
                      .kv_len = r->length,
                      .ids = r->ids,
                      .labels = choice < 0 ? NULL : r->labels,
                      .starts = r->b.padded ? r->starts : NULL,
                      .lengths = r->b.n == 1 ? &r->end : NULL};
    for (b.pos0 = from; b.pos0 < to; b.pos0 += b.seq_len) {
        b.seq_len = min64(r->most / n, to - b.pos0);
        for (int64_t at = 0; at < n * b.seq_len; at++)
            put_place(r, at / b.seq_len, choice, b.pos0 + at % b.seq_len, at);
        if (forward(r, &b, e))
            return -1;
        if (choice >= 0)
            take_results(r, &b, choice);
    }
    return 0;
}

/* ---- a batch */

/* Places that several items may take together: beyond some length a model's rope tables differ,
 * and a padded text cannot have them (generate.h). */
static int64_t places_together(const struct runner *r)
{
    const struct model_spec *h = &r->m->spec;
    int64_t most = r->length;
    for (int i = 0; i < h->n_ropes; i++)
        if (h->ropes[i].long_after > 0)
            most = min64(most, h->ropes[i].long_after);
    return most;
}

/* How many rope tables are those of long texts. */
static int long_tables(const struct runner *r, int64_t length)
{
    const struct model_spec *h = &r->m->spec;
    int n = 0;
    for (int i = 0; i < h->n_ropes; i++)
        n += h->ropes[i].long_after > 0 && length > h->ropes[i].long_after;
    return n;
}

/* The choice'th longest choice of each item that has so many. */
static int read_choice(struct runner *r, int64_t choice, struct err *e)
{
    int64_t n = 0, longest = 0, before = r->end;
    for (; n < r->b.n && r->b.batch[n].item->n > choice; n++)
        longest = max64(longest, r->b.batch[n].rows[choice]->n - 1);
    r->end = r->b.stem + longest;
    if (!choice || long_tables(r, before) != long_tables(r, r->end)) {
        if (read_places(r, r->b.n, -1, 0, r->b.stem, e))
            return -1;
        tape_mark(r->tape);
    }
    tape_rewind(r->tape);
    return read_places(r, n, choice, r->b.stem, r->end, e);
}

/* ---- all of them */

static void runner_open(struct runner *r, struct choices *c, struct exec *x, struct model *m,
                        const struct choice_run *o)
{
    *r = (struct runner){.x = x, .m = m, .o = *o, .with_logits = c->single};
    choice_batches_open(&r->b, c);
}

static void runner_close(struct runner *r)
{
    tape_end(r);
    choice_batches_close(&r->b);
    free(r->host);
}

/* A tape for the item, unless it is there. */
static int tape_for(struct runner *r, const struct choice_entry *q, int open, struct err *e)
{
    int64_t length = length_of(r, q);
    if (r->tape && length == r->length)
        return 0;
    return tape_make(r, length, e) || (open && tape_begin(r, e)) ? -1 : 0;
}

int64_t choices_run_bytes(struct choices *c, struct exec *x, struct model *m,
                          const struct choice_run *o, struct err *e)
{
    struct runner r;
    int64_t most = 0;
    runner_open(&r, c, x, m, o);
    for (int64_t i = 0; i < r.b.items && !tape_for(&r, &r.b.order[i], 0, e); i++)
        most = max64(most, tape_bytes(r.tape) + (int64_t)memory_bytes(&r));
    runner_close(&r);
    return e->set ? -1 : most;
}

static void results_set(struct choice_tokens *item, int greedy)
{
    for (int64_t k = 0; k < item->n; k++) {
        item->rows[k].log_likelihood = 0;
        item->rows[k].greedy = greedy;
    }
}

/* Results that this process does not compute are zeros until they are joined. */
static int results_join(struct choices *c, struct err *e)
{
    double *values = NULL;
    int64_t n = 0;
    for (int64_t i = 0; i < c->items->n; i++) {
        values = mem_grow(values, (size_t)(n + 2 * c->all[i].n) * sizeof *values);
        for (int64_t k = 0; k < c->all[i].n; k++) {
            values[n++] = c->all[i].rows[k].log_likelihood;
            values[n++] = c->all[i].rows[k].greedy;
        }
    }
    int failed = turns_join(values, n, e);
    for (int64_t i = c->items->n - 1; i >= 0; i--)
        for (int64_t k = c->all[i].n - 1; k >= 0; k--) {
            c->all[i].rows[k].greedy = values[--n] > 0;
            c->all[i].rows[k].log_likelihood = values[--n];
        }
    free(values);
    return failed;
}

static int results_check(const struct choices *c, struct err *e)
{
    for (int64_t i = 0; i < c->items->n; i++)
        for (int64_t k = 0; k < c->all[i].n; k++)
            if (!isfinite(c->all[i].rows[k].log_likelihood))
                return err_set(e, "%s: line %lld: the log-likelihood of choice %lld is not finite",
                               c->items->path, (long long)c->items->all[i].line, (long long)k);
    return 0;
}

static void read_batch(struct runner *r, int is_mine, struct err *e)
{
    for (int64_t i = 0; i < r->b.n; i++)
        results_set(r->b.batch[i].item, is_mine);
    for (int64_t i = 0; is_mine && i < r->b.batch[0].item->n && !e->set; i++)
        read_choice(r, i, e);
}

int choices_run(struct choices *c, struct exec *x, struct model *m, const struct choice_run *o,
                choices_progress *progress, void *user, struct err *e)
{
    struct runner r;
    int64_t tokens = 0;
    runner_open(&r, c, x, m, o);
    if (progress)
        progress(user, 0, c->tokens);
    for (int64_t first = 0, batch = 0, n; first < r.b.items && !e->set; first += n, batch++) {
        if (tape_for(&r, &r.b.order[first], 1, e))
            break;
        choice_batch_begin(&r.b, first, r.room, places_together(&r));
        n = r.b.n;
        read_batch(&r, turn_is_mine(batch), e);
        tokens += choice_batch_end(&r.b);
        if (progress && !e->set)
            progress(user, tokens, c->tokens);
    }
    runner_close(&r);
    return e->set || results_join(c, e) ? -1 : results_check(c, e);
}
