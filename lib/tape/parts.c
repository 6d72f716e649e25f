/* Running segments of a tape apart: on the CPU each thread takes its own sequences through one
 * event after the other and waits for nobody, as long as nothing crosses from sequence to sequence.
 * That is a block of a forward pass, and what lies between two gradients of weights in a backward
 * pass; threads meet at the end of a block so that the memory of one can serve the next. It pays
 * because what a thread has just written is in its own cache, and because threads meet once a
 * segment, not once an op. Where there are too few sequences for the threads, events run one by one
 * and their ops use all threads. */
#include "tape_private.h"

#include <stdlib.h>

enum { MANY = 4 }; /* sequences a thread from which on an uneven split is as good */

struct part {
    struct exec x;      /* one thread */
    struct batch b;     /* its sequences */
    int64_t first, row; /* where they begin */
    void *scratch;
};

int64_t tape_parts(const struct tape *t, int64_t n_seq)
{
    int64_t threads = exec_workers(t->x);
    return !t->spec.kv_len && n_seq >= threads && (n_seq % threads == 0 || n_seq >= MANY * threads)
               ? threads
               : 1;
}

int tape_runs_in_parts(const struct tape *t, const struct event *ev)
{
    const struct line *l = &t->lines[ev->line];
    if (ops[l->op].traits & WHOLE_BATCH && ev->kind != EVENT_ZERO)
        return 0;
    for (int i = 0; ev->kind == EVENT_BACKWARD && i < OP_WEIGHTS; i++)
        /* it gets a gradient, over all sequences; its place need not be known when a tape is
         * recorded */
        if (l->w[i])
            return 0;
    return 1;
}

static int segment_goes_on(const struct tape *t, const struct event *a, const struct event *b)
{
    const struct line *l = &t->lines[a->line], *m = &t->lines[b->line];
    return tape_runs_in_parts(t, a) && tape_runs_in_parts(t, b) && l->layer == m->layer &&
           l->is_teacher == m->is_teacher && a->in_backward == b->in_backward;
}

void tape_mark_segments(struct tape *t)
{
    /* of each segment; event n_events is after the end */
    int *first = mem_alloc(sizeof *first * (size_t)(t->n_events + 2));
    int n = 0;
    for (int i = 0; i < t->n_events; i++) {
        if (!i || !segment_goes_on(t, &t->events[i - 1], &t->events[i]))
            first[n++] = i;
        t->events[i].segment = n - 1;
    }
    first[n] = t->n_events;
    for (int i = 0; i < t->n_buffers && exec_workers(t->x) > 1 && t->spec.n_seq > 1; i++) {
        struct buffer *r = &t->buffers[i];
        r->first = first[t->events[r->first].segment];
        if (r->last < t->n_events)
            r->last = first[t->events[r->last].segment + 1] - 1;
    }
    free(first);
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
    p.scratch = (char *)t->scratch + (size_t)i * t->part_scratch_bytes;
    return p;
}

static void operand_move(struct operand *o, int64_t row)
{
    int64_t bytes = dtype_bytes(o->dtype, row * o->cols);
    if (o->v)
        o->v = (char *)o->v + bytes;
    if (o->g)
        o->g = (float *)((char *)o->g + bytes);
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

size_t tape_part_scratch(const struct tape *t)
{
    int64_t threads = exec_workers(t->x);
    size_t most = 0;
    if (t->spec.kv_len || threads == 1 || t->spec.n_seq < threads)
        return 0;
    /* the largest part of any batch */
    const struct batch b = {.n_seq = (t->spec.n_seq + threads - 1) / threads,
                            .seq_len = t->spec.seq_len};
    struct part p = part_of(t, &b, 0, 1);
    for (int i = 0; i < t->n_events; i++) {
        const struct event *ev = &t->events[i];
        struct op_args c = part_args(t, ev, &p);
        size_t bytes = ev->kind != EVENT_ZERO && tape_runs_in_parts(t, ev)
                           ? op_scratch(t->lines[ev->line].op, &c)
                           : 0;
        if (bytes > most)
            most = bytes;
    }
    return arena_round(most);
}

static void run_part(struct tape *t, const struct event *const *events, int n,
                     const struct batch *b, int64_t i, int64_t parts)
{
    struct part p = part_of(t, b, i, parts);
    for (int k = 0; k < n; k++) {
        struct op_args c = part_args(t, events[k], &p);
        tape_run_call(t, events[k], &c, p.first);
    }
#pragma omp critical
    for (int k = 0; k < OP_COUNT; k++)
        for (int way = 0; way < 2; way++)
            t->x->seconds[k][way] += p.x.seconds[k][way] / (double)parts;
}

/* A thread that finds itself with fewer others than planned takes several parts. */
void tape_run_parts(struct tape *t, const struct event *const *events, int n, const struct batch *b)
{
    int64_t parts = tape_parts(t, b->n_seq);
#pragma omp parallel for schedule(static, 1) num_threads((int)parts)
    for (int64_t i = 0; i < parts; i++)
        run_part(t, events, n, b, i, parts);
}
