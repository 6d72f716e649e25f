/* Running a tape: the events of a direction, one by one, in parts, or captured as a graph.
 *
 * In parts: on the CPU each thread takes its own sequences through all events of a segment, without
 * waiting for the others, as long as sequences do not depend on each other. Such a segment is a
 * block of a forward pass, or the events between two weight gradients of a backward pass; threads
 * synchronise at its end, so that the next can reuse its memory. This pays because a thread reads
 * what it has just written from its own cache, and because threads synchronise once per segment
 * instead of once per op. With too few sequences for the threads, events run one by one and each op
 * uses all threads. */
#include "tape_private.h"

enum { MANY = 4 }; /* sequences per thread from which an uneven split does not hurt */

struct part {
    struct exec x;      /* one thread */
    struct batch b;     /* its sequences */
    int64_t first, row; /* where they begin */
    void *scratch;
};

/* ---- one event */

static void run_taps(const struct tape *t, const struct event *ev, int after,
                     const struct op_args *c, int64_t first)
{
    const struct tapped tapped = {c->x, c->batch, first, after ? &c->out : &c->in[0], c};
    for (int i = 0; i < t->n_taps && ev->kind == EVENT_FORWARD && !ev->in_backward; i++) {
        const struct tap_row *tap = &t->taps[i];
        if (tap->line == ev->line && tap->after == after)
            tap->fn(tap->user, &tapped);
    }
}

static void run_call(const struct tape *t, const struct event *ev, const struct op_args *c,
                     int64_t first)
{
    const struct line *l = &t->lines[ev->line];
    run_taps(t, ev, 0, c, first);
    if (ev->kind == EVENT_ZERO)
        exec_zero(c->x, c->out.g,
                  (size_t)dtype_bytes(c->out.dtype, c->rows * t->slots[l->out].cols));
    else if (ev->kind == EVENT_BACKWARD)
        op_backward(l->op, c);
    else
        op_forward(l->op, c);
    run_taps(t, ev, 1, c, first);
}

static void operand_move(struct operand *o, int64_t row)
{
    int64_t bytes = dtype_bytes(o->dtype, row * o->cols);
    if (o->v)
        o->v = (char *)o->v + bytes;
    if (o->g)
        o->g = (float *)((char *)o->g + bytes);
}

/* The sequences take rope tables of their own: one by one. */
static void run_ropes(const struct tape *t, const struct event *ev, const struct op_args *c)
{
    for (int64_t i = 0; i < c->batch->n_seq; i++) {
        struct batch b = *c->batch;
        b.n_seq = 1;
        b.lengths += i;
        if (b.starts)
            b.starts += i * b.seq_len;
        struct op_args own = *c, table = tape_args(t, ev, &b);
        own.batch = &b;
        own.rows = b.seq_len;
        own.p.rope = table.p.rope;
        operand_move(&own.in[0], i * b.seq_len);
        operand_move(&own.out, i * b.seq_len);
        run_call(t, ev, &own, 0);
    }
}

static int ropes_differ(const struct tape *t, const struct event *ev, const struct batch *b)
{
    const struct line *l = &t->lines[ev->line];
    int differ = 0;
    for (int64_t i = 1; l->rope >= 0 && b->lengths && i < b->n_seq; i++)
        differ |= tape_rope_is_long(t, l, b, i) != tape_rope_is_long(t, l, b, 0);
    return differ;
}

static void run_args(const struct tape *t, const struct event *ev, const struct op_args *c,
                     int64_t first)
{
    if (ropes_differ(t, ev, c->batch))
        run_ropes(t, ev, c);
    else
        run_call(t, ev, c, first);
}

static void run_event(struct tape *t, const struct event *ev, const struct batch *b)
{
    struct op_args c = tape_args(t, ev, b);
    run_args(t, ev, &c, 0);
}

/* ---- a segment in parts */

/* Number of parts that a batch of n_seq sequences is split into; 1: not split. */
static int64_t parts_of(const struct tape *t, int64_t n_seq)
{
    int64_t threads = exec_workers(t->x);
    if (t->spec.kv_len || n_seq < threads)
        return 1;
    return n_seq % threads == 0 || n_seq >= MANY * threads ? threads : 1;
}

static struct part part_of(const struct tape *t, const struct batch *b, int64_t i, int64_t parts)
{
    int64_t first = b->n_seq * i / parts;
    struct part p = {.x = {.device = t->x->device, .threads = 1, .compute = t->x->compute},
                     .b = *b,
                     .first = first,
                     .row = first * b->seq_len};
    p.b.n_seq = b->n_seq * (i + 1) / parts - first;
    if (b->ids)
        p.b.ids += p.row;
    if (b->labels)
        p.b.labels += p.row;
    if (b->starts)
        p.b.starts += p.row;
    if (b->lengths)
        p.b.lengths += first;
    if (b->token_data)
        p.b.token_data = (const char *)b->token_data + p.row * b->token_bytes;
    p.scratch = (char *)t->scratch + (size_t)i * t->part_scratch_bytes;
    return p;
}

static struct op_args part_args(const struct tape *t, const struct event *ev, struct part *p)
{
    const struct line *l = &t->lines[ev->line];
    struct op_args c = tape_args(t, ev, &p->b);
    c.x = &p->x;
    c.scratch = p->scratch;
    if (c.memo)
        c.memo += p->row * t->slots[l->memo].cols;
    for (int i = 0; i < OP_INPUTS; i++)
        operand_move(&c.in[i], p->row);
    operand_move(&c.out, p->row);
    return c;
}

static void run_part(struct tape *t, const struct event *const *events, int n,
                     const struct batch *b, int64_t i, int64_t parts)
{
    struct part p = part_of(t, b, i, parts);
    for (int k = 0; k < n; k++) {
        struct op_args c = part_args(t, events[k], &p);
        run_args(t, events[k], &c, p.first);
    }
#pragma omp critical
    for (int k = 0; k < OP_COUNT; k++)
        for (int way = 0; way < 2; way++)
            t->x->seconds[k][way] += p.x.seconds[k][way] / (double)parts;
}

/* If the region has fewer threads than planned, each takes several parts. */
static void run_parts(struct tape *t, const struct event *const *events, int n,
                      const struct batch *b)
{
    int64_t parts = parts_of(t, b->n_seq);
#pragma omp parallel for schedule(static, 1) num_threads((int)parts)
    for (int64_t i = 0; i < parts; i++)
        run_part(t, events, n, b, i, parts);
}

/* ---- a direction */

/* Is the line outside the blocks from .. to - 1? The lines before the first block count as
 * part of it, and those after the last one as part of that, unless the tape keeps them apart. */
static int is_outside(const struct tape *t, const struct line *l, int64_t from, int64_t to)
{
    if (l->layer < 0)
        return from > 0 || (t->spec.blocks_apart && to > 0);
    if (l->layer == t->n_layers)
        return to < t->n_layers || (t->spec.blocks_apart && from < t->n_layers);
    return l->layer < from || l->layer >= to;
}

/* Without labels, a tape with losses runs up to the input of its head. */
static int has_head(const struct tape *t, const struct batch *b)
{
    return b->labels || !t->n_losses;
}

/* The events of a direction, and forward of the blocks from .. to - 1 alone, in t->selected; how
 * many. */
static int events_select(const struct tape *t, const struct batch *b, int in_backward, int64_t from,
                         int64_t to)
{
    int n = 0, end = has_head(t, b) ? t->n_lines : t->slots[t->normed].line + 1;
    for (int i = 0; i < t->n_events; i++) {
        const struct event *ev = &t->events[i];
        const struct line *l = &t->lines[ev->line];
        if (ev->in_backward == in_backward && ev->line < end &&
            (in_backward || l->is_teacher || !is_outside(t, l, from, to)))
            t->selected[n++] = ev;
    }
    return n;
}

/* How many events, from the first on, are in its segment; 0 if they do not run in parts. */
static int segment_length(const struct event *const *events, int n)
{
    int k = 0;
    while (k < n && events[k]->in_parts && events[k]->segment == events[0]->segment)
        k++;
    return k;
}

/* ev NULL: before the backward pass, of parameters to which it adds nothing. */
static void tell_final(const struct tape *t, const struct event *ev)
{
    const struct model *m = model_trained(t->spec.model);
    for (int i = 0; i < m->spec.n_tensors + m->n_added; i++) {
        const struct event *last = t->final[i] < 0 ? NULL : &t->events[t->final[i]];
        if (last && !last->in_backward)
            last = NULL;
        if (last == ev)
            t->on_final(t->on_final_user, i);
    }
}

static void run_events(struct tape *t, const struct batch *b, int in_backward, int64_t from,
                       int64_t to)
{
    const struct event **events = t->selected;
    int n = events_select(t, b, in_backward, from, to), apart = parts_of(t, b->n_seq) > 1;
    if (in_backward && t->on_final)
        tell_final(t, NULL);
    for (int i = 0, k; i < n && !t->x->err.set; i += k) {
        k = apart ? segment_length(events + i, n - i) : 0;
        if (k) {
            run_parts(t, events + i, k, b);
        } else {
            run_event(t, events[i], b);
            k = 1;
            if (in_backward && t->on_final)
                tell_final(t, events[i]);
        }
    }
}

static struct tape_capture capture_of(const struct batch *b)
{
    int64_t pieces = (b->pos0 + b->seq_len + KEY_PIECE - 1) / KEY_PIECE;
    return (struct tape_capture){.n_seq = b->n_seq,
                                 .seq_len = b->seq_len,
                                 .pieces = b->kv_len ? pieces : 0,
                                 .documents = b->starts != NULL};
}

static int has_shape(const struct tape_capture *c, const struct tape_capture *as)
{
    return c->n_seq == as->n_seq && c->seq_len == as->seq_len && c->pieces == as->pieces &&
           c->documents == as->documents;
}

/* 1: the whole direction was run as one graph; 0: it must be run event by event. */
static int run_captured(struct tape *t, const struct batch *b, int in_backward)
{
    struct tape_capture *c = &t->captures[in_backward][t->first_pass], now = capture_of(b);
    /* generation does not come back to an earlier shape */
    if (!c->runs || (t->spec.kv_len && !has_shape(c, &now))) {
        exec_graph_free(t->x, c->graph);
        *c = now;
    }
    if (!has_shape(c, &now) || !c->runs++)
        return 0;
    if (!c->graph) {
        if (!exec_capture(t->x))
            return 0;
        run_events(t, b, in_backward, 0, t->n_layers);
        c->graph = exec_captured(t->x);
    }
    if (c->graph)
        exec_replay(t->x, c->graph);
    return 1;
}

/* ---- a batch */

/* Documents of a sequence share its rope tables. */
static int document_ropes_check(const struct tape *t, const struct batch *b, struct err *e)
{
    for (int i = 0; i < t->n_lines; i++)
        for (int64_t k = 0; t->lines[i].rope >= 0 && k < b->n_seq; k++)
            if (tape_rope_is_long(t, &t->lines[i], b, k))
                return err_set(e, "rows of this length cannot be packed: the model's rotary "
                                  "embeddings depend on the length of each document");
    return 0;
}

static int documents_check(const struct tape *t, const struct batch *b, struct err *e)
{
    for (int64_t i = 0; i < b->n_seq * b->seq_len; i++) {
        int64_t j = i % b->seq_len, start = b->starts[i];
        if (start < (j ? b->starts[i - 1] : 0) || start > b->pos0 + j)
            return err_set(e, "the document of token %lld cannot start at %lld", (long long)i,
                           (long long)start);
    }
    return document_ropes_check(t, b, e);
}

static int label_is_valid(int32_t label, int64_t vocabulary)
{
    return label >= 0 ? label < vocabulary : label == LABEL_UNCOUNTED || label == LABEL_PADDING;
}

static int batch_check(const struct tape *t, const struct batch *b, struct err *e)
{
    int64_t rows = b->n_seq * b->seq_len, vocab = t->spec.model->spec.vocab_size;
    if (b->n_seq < 1 || b->seq_len < 1 || rows > t->T || b->pos0 < 0 ||
        b->pos0 + b->seq_len > t->positions || (b->pos0 && !t->spec.kv_len))
        return err_set(e,
                       "a batch of %lld x %lld tokens at position %lld exceeds the tape's %lld "
                       "tokens and %lld positions",
                       (long long)b->n_seq, (long long)b->seq_len, (long long)b->pos0,
                       (long long)t->T, (long long)t->positions);
    if (b->token_bytes != t->spec.token_bytes || !b->token_data != !b->token_bytes)
        return err_set(e, "a batch with %lld bytes of data a token, where the tape has %lld",
                       (long long)b->token_bytes, (long long)t->spec.token_bytes);
    if (t->spec.teacher && t->spec.teacher->spec.vocab_size < vocab)
        vocab = t->spec.teacher->spec.vocab_size;
    for (int64_t i = 0; i < rows; i++) {
        if (b->ids[i] < 0 || b->ids[i] >= vocab)
            return err_set(e, "token id %d is outside the vocabulary of %lld tokens", b->ids[i],
                           (long long)vocab);
        if (b->labels && !label_is_valid(b->labels[i], vocab))
            return err_set(e, "label %d is outside the vocabulary of %lld tokens", b->labels[i],
                           (long long)vocab);
    }
    return b->starts ? documents_check(t, b, e) : 0;
}

static void batch_put(struct tape *t, const struct batch *b)
{
    size_t tokens = (size_t)(b->n_seq * b->seq_len), bytes = tokens * sizeof *t->ids;
    int32_t pos0 = (int32_t)b->pos0;
    exec_put(t->x, t->ids, b->ids, bytes);
    if (b->labels)
        exec_put(t->x, t->labels, b->labels, bytes);
    if (b->starts)
        exec_put(t->x, t->starts, b->starts, bytes);
    if (b->token_data)
        exec_put(t->x, t->token_data, b->token_data, tokens * (size_t)b->token_bytes);
    if (t->pos0)
        exec_put(t->x, t->pos0, &pos0, sizeof pos0);
}

/* A captured graph has the rope tables of one batch. */
static int ropes_change(const struct tape *t)
{
    for (int i = 0; i < t->n_lines; i++) {
        const struct line *l = &t->lines[i];
        if (l->rope >= 0 && tape_model_spec(t, l->is_teacher)->ropes[l->rope].long_after > 0)
            return 1;
    }
    return 0;
}

/* In generation only a token of each sequence: not the first, which finds nothing kept. */
static int is_replayable(const struct tape *t, const struct batch *b)
{
    return (!t->spec.kv_len || (b->seq_len == 1 && b->pos0)) && !ropes_change(t);
}

static int run(struct tape *t, const struct batch *b, int in_backward, int64_t from, int64_t to,
               struct err *e)
{
    struct batch batch = *b;
    batch.kv_len = t->spec.kv_len;
    if (batch_check(t, &batch, e))
        return -1;
    if (!in_backward)
        batch_put(t, b);
    batch.ids = t->ids;
    batch.labels = b->labels ? t->labels : NULL;
    batch.starts = b->starts ? t->starts : NULL;
    batch.token_data = t->spec.token_bytes ? t->token_data : NULL;
    batch.pos0_there = t->pos0;
    int whole = from == 0 && to == t->n_layers && has_head(t, b) && !t->n_taps &&
                is_replayable(t, b) && !(in_backward && t->on_final);
    if (!whole || !run_captured(t, &batch, in_backward))
        run_events(t, &batch, in_backward, from, to);
    return t->x->err.set ? err_set(e, "%s", t->x->err.msg) : 0;
}

int tape_forward(struct tape *t, const struct batch *b, struct err *e)
{
    return run(t, b, 0, 0, t->n_layers, e);
}

int tape_backward(struct tape *t, const struct batch *b, struct err *e)
{
    int failed = run(t, b, 1, 0, t->n_layers, e);
    t->first_pass = 0;
    return failed;
}

void tape_on_final(struct tape *t, tape_final_fn *fn, void *user)
{
    t->on_final = fn;
    t->on_final_user = user;
}

void tape_clear_gradients(struct tape *t)
{
    const struct model *m = model_trained(t->spec.model);
    const struct param *p = m->params;
    int n = m->spec.n_tensors + m->n_added;
    for (int i = 0, first; i < n; i++) {
        int64_t values = 0;
        /* adjacent parameters are cleared together */
        for (first = i; i < n && t->cleared[i]; i++)
            values += p[i].rows * p[i].cols;
        if (values)
            exec_zero(t->x, p[first].g, (size_t)values * sizeof *p[first].g);
    }
    t->first_pass = 1;
}

int tape_forward_range(struct tape *t, const struct batch *b, int64_t from, int64_t to,
                       struct err *e)
{
    if (t->spec.train || from < 0 || to < from || to > t->n_layers)
        return err_set(e, "blocks %lld to %lld are not a valid range", (long long)from,
                       (long long)to);
    return run(t, b, 0, from, to, e);
}
