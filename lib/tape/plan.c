/* Planning: lines -> events (forward, reruns, backward) and the buffers they use. place.c assigns
 * offsets. See tape_private.h.
 *
 * The backward schedule is built by requesting, line by line in reverse, the values that each
 * line's backward reads: a value that was dropped is recomputed at that point, its own inputs
 * first. So "rerun the cheap lines" and "recompute whole blocks" are one mechanism with two rules
 * for what to keep. */
#include "tape_private.h"

#include <stdlib.h>
#include <string.h>

/* ---- events and buffer lifetimes */

static const struct event no_buffers = {.in = {NO_BUFFER, NO_BUFFER, NO_BUFFER, NO_BUFFER},
                                        .in_grad = {NO_BUFFER, NO_BUFFER, NO_BUFFER, NO_BUFFER},
                                        .out = NO_BUFFER,
                                        .out_grad = NO_BUFFER,
                                        .memo = NO_BUFFER,
                                        .state = NO_BUFFER};

/* Appends an event with the buffers of `ev`. */
static void event_add(struct tape *t, enum event_kind kind, int line, int in_backward,
                      struct event ev)
{
    ev.kind = kind;
    ev.line = line;
    ev.in_backward = in_backward;
    t->events = mem_grow(t->events, sizeof *t->events * (size_t)(t->n_events + 1));
    t->events[t->n_events++] = ev;
}

static int buffer_new(struct tape *t, int slot)
{
    const struct slot *s = &t->slots[slot];
    int64_t rows = s->kept ? t->spec.n_seq * s->kept : t->T,
            bytes = dtype_bytes(tape_slot_dtype(t, slot), rows * s->cols);
    t->buffers = mem_grow(t->buffers, sizeof *t->buffers * (size_t)(t->n_buffers + 1));
    t->buffers[t->n_buffers] = (struct buffer){
        .bytes = (int64_t)arena_round((size_t)bytes), .first = t->n_events, .last = t->n_events};
    return t->n_buffers++;
}

/* Extends the buffer's life to the next event. */
static int buffer_use(struct tape *t, int buffer)
{
    if (buffer != NO_BUFFER)
        t->buffers[buffer].last = t->n_events;
    return buffer;
}

static int grad_wanted(const struct tape *t, int slot)
{
    return slot != NO_SLOT && t->slots[slot].is_trained;
}

/* Gradients that an op adds to start as zeros. */
static void grad_begin(struct tape *t, int slot, int in_backward)
{
    struct slot *s = &t->slots[slot];
    if (s->grad != NO_BUFFER)
        return;
    struct event ev = no_buffers;
    ev.out_grad = s->grad = buffer_new(t, slot);
    event_add(t, EVENT_ZERO, s->line, in_backward, ev);
}

/* The inputs whose gradients the line's forward call adds. */
static void begin_gradients(struct tape *t, int line)
{
    const struct line *l = &t->lines[line];
    for (int i = 0; i < OP_INPUTS; i++)
        if (ops[l->op].traits & GRADIENTS_IN_FORWARD && grad_wanted(t, l->in[i]))
            grad_begin(t, l->in[i], 0);
}

static void schedule_forward(struct tape *t, int line, int in_backward)
{
    const struct line *l = &t->lines[line];
    struct event ev = no_buffers;
    if (!l->in_place)
        ev.out = buffer_new(t, l->out);
    if (l->memo != NO_SLOT)
        ev.memo = buffer_new(t, l->memo);
    if (l->state != NO_SLOT)
        t->slots[l->state].value = ev.state = buffer_new(t, l->state);
    for (int i = 0; i < OP_INPUTS; i++) {
        if (l->in[i] != NO_SLOT)
            ev.in[i] = buffer_use(t, t->slots[l->in[i]].value);
        if (ops[l->op].traits & GRADIENTS_IN_FORWARD && grad_wanted(t, l->in[i]))
            ev.in_grad[i] = buffer_use(t, t->slots[l->in[i]].grad);
    }
    if (l->in_place) {
        ev.out = ev.in[0];
        t->slots[l->in[0]].value = NO_BUFFER;
    }
    t->slots[l->out].value = ev.out;
    if (l->memo != NO_SLOT)
        t->slots[l->memo].value = ev.memo;
    event_add(t, EVENT_FORWARD, line, in_backward, ev);
}

/* Ensures that the slot's value is in a buffer: it was kept, or its line is rerun here. */
static void value_ensure(struct tape *t, int slot)
{
    if (slot == NO_SLOT || t->slots[slot].value != NO_BUFFER)
        return;
    const int line = t->slots[slot].line;
    for (int i = 0; i < OP_INPUTS; i++)
        value_ensure(t, t->lines[line].in[i]);
    schedule_forward(t, line, 1);
}

/* The same for all values that the line's backward reads. */
static void reads_ensure(struct tape *t, const struct line *l)
{
    const unsigned reads = ops[l->op].reads;
    for (int i = 0; i < OP_INPUTS; i++)
        if (reads & (READS_IN0 << i))
            value_ensure(t, l->in[i]);
    if (reads & READS_OUT)
        value_ensure(t, l->out);
    if (reads & READS_MEMO)
        value_ensure(t, l->memo);
}

/* Does any of the lines from .. to - 1 read the slot? */
static int is_read(const struct tape *t, int slot, int from, int to)
{
    int found = 0;
    for (int line = from; line < to; line++)
        for (int i = 0; i < OP_INPUTS; i++)
            found |= t->lines[line].in[i] == slot;
    return found;
}

/* Can the slot's gradient share the buffer with those that lines before `line` will still read? Not
 * if something is added to one of two before the line of the other has read it. */
static int can_share(const struct tape *t, int slot, int buffer, int line)
{
    for (int s = 0; s < t->n_slots; s++) {
        const struct slot *other = &t->slots[s];
        if (s != slot && other->grad == buffer && other->line < line &&
            (is_read(t, slot, other->line, line) || is_read(t, s, t->slots[slot].line, line)))
            return 0;
    }
    return 1;
}

/* y = a + s b: where a has no gradient yet it simply takes over the buffer of y's, and so does b if
 * s is 1, and the second input of linear. */
static int passes(const struct tape *t, int line, int i)
{
    const struct line *l = &t->lines[line];
    int is_summand = l->op == OP_linear
                         ? i == 1
                         : l->op == OP_add && (i == 0 || l->sizes.p.scale.scale == 1);
    return is_summand && l->in[0] != l->in[1] && t->slots[l->in[i]].grad == NO_BUFFER &&
           can_share(t, l->in[i], t->slots[l->out].grad, line);
}

/* Gradients of the inputs: passed, or if they do not exist yet begun as zeros, or uninitialised if
 * the op overwrites them. Returns how many are not passed. */
static int input_gradients_begin(struct tape *t, int line, struct event *ev)
{
    const struct line *l = &t->lines[line];
    int n = 0;
    for (int i = 0; i < OP_INPUTS; i++) {
        if (!grad_wanted(t, l->in[i]))
            continue;
        struct slot *s = &t->slots[l->in[i]];
        if (passes(t, line, i)) {
            s->grad = t->slots[l->out].grad;
            continue;
        }
        ev->in_overwrite[i] = s->grad == NO_BUFFER && op_kernel(t->x, l->op)->sets;
        if (ev->in_overwrite[i])
            s->grad = buffer_new(t, l->in[i]);
        else
            grad_begin(t, l->in[i], 1);
        ev->in_grad[i] = s->grad;
        n++;
    }
    return n;
}

static void schedule_backward(struct tape *t, int line)
{
    const struct line *l = &t->lines[line];
    const unsigned reads = ops[l->op].reads;
    const int out_grad = t->slots[l->out].grad;
    struct event ev = no_buffers;
    if (!grad_wanted(t, l->out) || ops[l->op].traits & GRADIENTS_IN_FORWARD ||
        (out_grad == NO_BUFFER && !(ops[l->op].traits & STARTS_BACKWARD)))
        return;
    reads_ensure(t, l);
    if (!input_gradients_begin(t, line, &ev) && l->op == OP_add)
        return;
    for (int i = 0; i < OP_INPUTS; i++) {
        if (l->in[i] != NO_SLOT && (reads & (READS_IN0 << i)))
            ev.in[i] = buffer_use(t, t->slots[l->in[i]].value);
        buffer_use(t, ev.in_grad[i]);
    }
    if (reads & READS_OUT)
        ev.out = buffer_use(t, t->slots[l->out].value);
    if (reads & READS_MEMO)
        ev.memo = buffer_use(t, t->slots[l->memo].value);
    ev.out_grad = buffer_use(t, out_grad);
    event_add(t, EVENT_BACKWARD, line, 1, ev);
}

/* Kept for the backward pass: everything that is not cheap to rerun; with recompute, only block
 * inputs. */
static void choose_kept(struct tape *t)
{
    for (int i = 0; i < t->n_slots; i++) {
        const struct line *l = &t->lines[t->slots[i].line];
        t->slots[i].keep = !t->spec.recompute && !(ops[l->op].traits & RERUN);
        t->slots[i].keep |= t->slots[i].is_result;
    }
    for (int64_t b = 0; b <= t->n_layers; b++)
        t->slots[t->boundary[0][b]].keep = 1;
    /* the teacher is never rerun */
    for (int i = 0; i < t->n_lines; i++)
        for (int k = 0; k < OP_INPUTS && ops[t->lines[i].op].traits & STARTS_BACKWARD; k++)
            if (t->lines[i].in[k] != NO_SLOT && !grad_wanted(t, t->lines[i].in[k]))
                t->slots[t->lines[i].in[k]].keep = 1;
}

void tape_schedule(struct tape *t)
{
    choose_kept(t);
    for (int i = 0; i < t->n_lines; i++) {
        if (t->lines[i].unread)
            continue;
        begin_gradients(t, i);
        schedule_forward(t, i, 0);
    }
    if (t->spec.train) {
        for (int i = 0; i < t->n_slots; i++)
            if (!t->slots[i].keep)
                t->slots[i].value = NO_BUFFER;
        for (int i = t->n_lines - 1; i >= 0; i--)
            if (!t->lines[i].is_teacher)
                schedule_backward(t, i);
    }
}

static int adds_gradients(const struct event *ev, const struct line *l)
{
    return ev->kind == EVENT_BACKWARD ||
           (ev->kind == EVENT_FORWARD && ops[l->op].traits & GRADIENTS_IN_FORWARD);
}

/* The first event with a parameter's gradient overwrites it, if its op can; gradients of other
 * parameters are cleared before a step. */
void tape_plan_weights(struct tape *t)
{
    const struct model *m = model_trained(t->spec.model);
    int n = m->spec.n_tensors + m->n_added;
    char *seen = mem_alloc((size_t)n + 1);
    t->cleared = mem_alloc((size_t)n + 1);
    t->final = mem_alloc(((size_t)n + 1) * sizeof *t->final);
    memset(t->cleared, 1, (size_t)n);
    for (int i = 0; i < n; i++)
        t->final[i] = -1;
    for (int i = 0; t->spec.train && i < t->n_events; i++) {
        struct event *ev = &t->events[i];
        const struct line *l = &t->lines[ev->line];
        if (!adds_gradients(ev, l))
            continue;
        for (int k = 0; k < 2; k++) {
            int at = tape_trained(t, l->w[k]);
            if (at < 0)
                continue;
            t->final[at] = i;
            if (seen[at]++)
                continue;
            if (k == 0 && op_kernel(t->x, l->op)->sets) {
                ev->w_overwrite = 1;
                t->cleared[at] = 0;
            }
        }
    }
    free(seen);
}
