/* Planning, second half: segments of events that threads can run independently, the offset of each
 * buffer in the arena, and the scratch memory of the largest batch. */
#include "tape_private.h"

#include <stdlib.h>

/* ---- segments */

/* Can an event be run for some of the sequences alone? Not if it reads the whole batch, nor if it
 * writes a weight gradient, which is a sum over all sequences. */
static int runs_in_parts(const struct tape *t, const struct event *ev)
{
    const struct line *l = &t->lines[ev->line];
    if (ops[l->op].traits & WHOLE_BATCH && ev->kind != EVENT_ZERO)
        return 0;
    for (int i = 0; ev->kind == EVENT_BACKWARD && i < OP_WEIGHTS; i++)
        if (tape_trained(t, l->w[i]) >= 0)
            return 0;
    return 1;
}

static int segment_goes_on(const struct tape *t, const struct event *a, const struct event *b)
{
    const struct line *l = &t->lines[a->line], *m = &t->lines[b->line];
    return a->in_parts && b->in_parts && l->layer == m->layer && l->is_teacher == m->is_teacher &&
           a->in_backward == b->in_backward;
}

/* Numbers the segments; first[i] is the first event of segment i, and n_events that of the one
 * after the last. */
static void segments_number(struct tape *t, int *first)
{
    int n = 0;
    for (int i = 0; i < t->n_events; i++) {
        t->events[i].in_parts = runs_in_parts(t, &t->events[i]);
        if (!i || !segment_goes_on(t, &t->events[i - 1], &t->events[i]))
            first[n++] = i;
        t->events[i].segment = n - 1;
    }
    first[n] = t->n_events;
}

/* Threads run through a segment each at its own speed, so its buffers must live from its beginning
 * to its end. */
static void segments_mark(struct tape *t)
{
    int *first = mem_alloc(sizeof *first * (size_t)(t->n_events + 2));
    segments_number(t, first);
    for (int i = 0; i < t->n_buffers && exec_workers(t->x) > 1 && t->spec.n_seq > 1; i++) {
        struct buffer *r = &t->buffers[i];
        r->first = first[t->events[r->first].segment];
        if (r->last < t->n_events)
            r->last = first[t->events[r->last].segment + 1] - 1;
    }
    free(first);
}

/* ---- offsets: the largest buffers first, each at the lowest offset that no buffer alive at the
 * same time occupies */

static int by_size(const void *a, const void *b)
{
    const struct buffer *x = *(const struct buffer *const *)a,
                        *y = *(const struct buffer *const *)b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    if (x->first != y->first)
        return x->first > y->first ? 1 : -1;
    return (x > y) - (x < y);
}

static int by_offset(const void *a, const void *b)
{
    const struct buffer *x = *(const struct buffer *const *)a,
                        *y = *(const struct buffer *const *)b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

static int64_t place_one(struct buffer *r, struct buffer **placed, int n, struct buffer **alive)
{
    int k = 0;
    for (int i = 0; i < n; i++)
        if (placed[i]->first <= r->last && r->first <= placed[i]->last)
            alive[k++] = placed[i];
    qsort(alive, (size_t)k, sizeof *alive, by_offset);
    int64_t offset = 0;
    for (int i = 0; i < k && alive[i]->offset < offset + r->bytes; i++)
        if (alive[i]->offset + alive[i]->bytes > offset)
            offset = alive[i]->offset + alive[i]->bytes;
    return offset;
}

/* Results, and what is kept between calls, outlive the schedule. */
static void results_keep(struct tape *t)
{
    for (int i = 0; i < t->n_slots; i++) {
        const struct slot *s = &t->slots[i];
        if (s->value == NO_BUFFER || !(s->kept || s->is_result || i == t->normed))
            continue;
        t->buffers[s->value].last = t->n_events;
        if (s->kept)
            t->buffers[s->value].first = 0;
    }
}

static void buffers_place(struct tape *t)
{
    struct buffer **order = mem_alloc(sizeof *order * (size_t)(t->n_buffers + 1)),
                  **alive = mem_alloc(sizeof *alive * (size_t)(t->n_buffers + 1));
    for (int i = 0; i < t->n_buffers; i++)
        order[i] = &t->buffers[i];
    qsort(order, (size_t)t->n_buffers, sizeof *order, by_size);
    t->shared_bytes = 0;
    for (int i = 0; i < t->n_buffers; i++) {
        order[i]->offset = place_one(order[i], order, i, alive);
        if (order[i]->offset + order[i]->bytes > t->shared_bytes)
            t->shared_bytes = order[i]->offset + order[i]->bytes;
    }
    free(order);
    free(alive);
}

/* ---- scratch */

/* The most that any event takes for a batch of n_seq sequences on x; `parts`: only events that run
 * in parts. */
static size_t scratch_most(const struct tape *t, struct exec *x, int64_t n_seq, int parts)
{
    const struct batch b = {.n_seq = n_seq, .seq_len = t->spec.seq_len, .kv_len = t->spec.kv_len};
    size_t most = 0;
    for (int i = 0; i < t->n_events; i++) {
        const struct event *ev = &t->events[i];
        if (ev->kind == EVENT_ZERO || (parts && !ev->in_parts))
            continue;
        struct op_args c = tape_args(t, ev, &b);
        c.x = x;
        size_t bytes = op_scratch(t->lines[ev->line].op, &c);
        most = bytes > most ? bytes : most;
    }
    return most;
}

/* The scratch of one part, the most for any batch; 0 if no batch is split. */
static size_t part_scratch(const struct tape *t)
{
    int64_t threads = exec_workers(t->x);
    struct exec one = {.device = t->x->device, .threads = 1, .compute = t->x->compute};
    if (t->spec.kv_len || threads == 1 || t->spec.n_seq < threads)
        return 0;
    return arena_round(scratch_most(t, &one, (t->spec.n_seq + threads - 1) / threads, 1));
}

void tape_place(struct tape *t)
{
    segments_mark(t);
    results_keep(t);
    buffers_place(t);
    t->part_scratch_bytes = part_scratch(t);
    size_t parts = (size_t)exec_workers(t->x) * t->part_scratch_bytes;
    size_t whole = scratch_most(t, t->x, t->spec.n_seq, 0);
    t->scratch_bytes = parts > whole ? parts : whole;
}
