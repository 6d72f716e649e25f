/* The tape: opening its memory and running it. See tape.h; recording and planning are in record.c
 * and plan.c. */
#include "tape.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tape_private.h"

/* ---- recording */

static const struct model_spec *spec_of(const struct tape *t, int is_teacher)
{
    return is_teacher ? &t->spec.teacher->spec : &t->spec.model->spec;
}

static int spec_check(const struct tape_spec *s, struct err *e)
{
    if (s->n_seq < 1 || s->seq_len < 1)
        return err_set(e, "a batch of %lld sequences of %lld tokens cannot be run",
                       (long long)s->n_seq, (long long)s->seq_len);
    if (s->kv_len && (s->train || s->n_seq != 1))
        return err_set(e, "keeping k and v between calls is for generating one sequence");
    const struct model *models[] = {s->model, s->teacher};
    int64_t length = s->kv_len ? s->kv_len : s->seq_len;
    for (int i = 0; i < 2; i++)
        if (models[i] && models[i]->spec.learned_positions &&
            length > models[i]->spec.max_position_embeddings)
            return err_set(
                e,
                "a sequence of %lld tokens is longer than the %lld learned positions of the model",
                (long long)length, (long long)models[i]->spec.max_position_embeddings);
    return 0;
}

struct tape *tape_record(struct exec *x, const struct tape_spec *spec, struct err *e)
{
    if (spec_check(spec, e))
        return NULL;
    struct tape *t = mem_alloc(sizeof *t);
    t->x = x;
    t->spec = *spec;
    t->T = spec->n_seq * spec->seq_len;
    t->positions = spec->kv_len ? spec->kv_len : spec->seq_len;
    if (tape_record_lines(t, e)) {
        tape_close(t);
        return NULL;
    }
    tape_schedule(t);
    tape_plan_weights(t);
    tape_place(t);
    t->selected = mem_alloc(sizeof *t->selected * (size_t)(t->n_events + 1));
    return t;
}

static int64_t tables_bytes(const struct tape *t, int is_teacher)
{
    const struct model_spec *h = spec_of(t, is_teacher);
    int64_t bytes = 0;
    for (int i = 0; i < h->n_ropes; i++)
        bytes += (h->ropes[i].long_after > 0 ? 4 : 2) *
                 (int64_t)arena_round((size_t)(t->positions * h->ropes[i].dims / 2) * 4);
    return bytes;
}

static size_t step_bytes(const struct tape *t) { return (size_t)t->n_step * sizeof *t->step; }
static size_t ids_bytes(const struct tape *t) { return (size_t)t->T * sizeof *t->ids; }

int64_t tape_bytes(const struct tape *t)
{
    size_t bytes = (size_t)t->shared_bytes + arena_round(t->scratch_bytes) +
                   2 * arena_round(ids_bytes(t)) + arena_round(step_bytes(t));
    return (int64_t)bytes + tables_bytes(t, 0) + (t->spec.teacher ? tables_bytes(t, 1) : 0);
}

int64_t tape_activation_bytes(const struct tape *t) { return t->shared_bytes; }

/* cos and sin of position * frequency, times the table's factor (families: rope types give
 * frequencies and factor) */
static void table_fill(float *cos_out, float *sin_out, int64_t positions, int64_t half,
                       const double *inv_freq, double factor)
{
    for (int64_t p = 0; p < positions; p++)
        for (int64_t i = 0; i < half; i++) {
            double angle = (double)p * inv_freq[i];
            cos_out[p * half + i] = (float)(factor * cos(angle));
            sin_out[p * half + i] = (float)(factor * sin(angle));
        }
}

static float *table_put(struct tape *t, const float *from, size_t bytes)
{
    float *to = arena_take(&t->arena, bytes);
    exec_put(t->x, to, from, bytes);
    return to;
}

static void tables_open(struct tape *t, int is_teacher)
{
    const struct model_spec *h = spec_of(t, is_teacher);
    t->tables[is_teacher] = mem_alloc(sizeof *t->tables[0] * (size_t)(h->n_ropes + 1));
    for (int i = 0; i < h->n_ropes; i++) {
        const struct rope_table *r = &h->ropes[i];
        size_t bytes = (size_t)(t->positions * r->dims / 2) * 4;
        float *c = mem_alloc(bytes), *s = mem_alloc(bytes);
        for (int k = 0; k < (r->long_after > 0 ? 2 : 1); k++) {
            table_fill(c, s, t->positions, r->dims / 2, k ? r->long_inv_freq : r->inv_freq,
                       k ? r->long_factor : r->factor);
            t->tables[is_teacher][i].cos[k] = table_put(t, c, bytes);
            t->tables[is_teacher][i].sin[k] = table_put(t, s, bytes);
        }
        free(c);
        free(s);
    }
}

int tape_open(struct tape *t, struct err *e)
{
    if (exec_arena(t->x, &t->arena, (size_t)tape_bytes(t), e))
        return -1;
    t->shared = arena_take(&t->arena, (size_t)t->shared_bytes);
    t->scratch = arena_take(&t->arena, t->scratch_bytes);
    t->ids = arena_take(&t->arena, ids_bytes(t));
    t->labels = arena_take(&t->arena, ids_bytes(t));
    t->step = arena_take(&t->arena, step_bytes(t));
    tape_loss_scale(t, 1);
    for (int i = 0; i < t->n_losses; i++)
        tape_loss_weights(t, i, t->spec.losses[i].weights);
    tables_open(t, 0);
    if (t->spec.teacher)
        tables_open(t, 1);
    return 0;
}

void tape_close(struct tape *t)
{
    if (!t)
        return;
    for (int i = 0; i < 4; i++)
        exec_graph_free(t->x, t->captures[i / 2][i % 2].graph);
    arena_close(&t->arena);
    free(t->tables[0]);
    free(t->tables[1]);
    free(t->slots);
    free(t->lines);
    free(t->events);
    free(t->buffers);
    free(t->taps);
    free(t->boundary);
    free(t->cleared);
    free(t->selected);
    free(t->host);
    free(t->widened);
    free(t);
}

/* ---- calls */

static void *buffer_ptr(const struct tape *t, int buffer)
{
    return buffer == NO_BUFFER || !t->shared ? NULL : t->shared + t->buffers[buffer].offset;
}

static struct operand operand_of(const struct tape *t, int slot, int value, int grad, int64_t rows)
{
    if (slot == NO_SLOT)
        return (struct operand){0};
    return (struct operand){.v = buffer_ptr(t, value),
                            .g = buffer_ptr(t, grad),
                            .dtype = tape_slot_dtype(t, slot),
                            .rows = rows,
                            .cols = t->slots[slot].cols};
}

static void call_rope(const struct tape *t, const struct line *l, const struct batch *b,
                      struct rope_params *p)
{
    const struct rope_table *r = &spec_of(t, l->is_teacher)->ropes[l->rope];
    int64_t length = t->spec.kv_len ? t->spec.kv_len : b->seq_len;
    int k = r->long_after > 0 && length > r->long_after;
    p->cos = t->tables[l->is_teacher] ? t->tables[l->is_teacher][l->rope].cos[k] : NULL;
    p->sin = t->tables[l->is_teacher] ? t->tables[l->is_teacher][l->rope].sin[k] : NULL;
}

struct op_args tape_args(const struct tape *t, const struct event *ev, const struct batch *b)
{
    const struct line *l = &t->lines[ev->line];
    struct op_args c = l->sizes;
    int64_t rows = b->n_seq * b->seq_len;
    int trained = t->spec.train && !l->is_teacher;
    c.x = t->x;
    c.batch = b;
    c.rows = rows;
    c.scratch = t->scratch;
    c.memo = buffer_ptr(t, ev->memo);
    for (int i = 0; i < OP_INPUTS; i++) {
        c.in[i] = operand_of(t, l->in[i], ev->in[i], ev->in_grad[i], rows);
        if (l->in[i] != NO_SLOT && t->slots[l->in[i]].is_kv)
            c.in[i].rows = t->spec.kv_len;
    }
    for (int i = 0; i < OP_WEIGHTS; i++)
        if (l->w[i])
            c.w[i] = (struct operand){.v = l->w[i]->v,
                                      .g = trained && i < 2 ? l->w[i]->g : NULL,
                                      .dtype = l->w[i]->dtype,
                                      .rows = l->w[i]->rows,
                                      .cols = l->w[i]->cols};
    for (int i = 0; i < OP_INPUTS; i++)
        c.in[i].overwrite = ev->in_overwrite[i];
    c.w[0].overwrite = ev->w_overwrite && t->first_pass;
    c.out = operand_of(t, l->out, ev->out, ev->out_grad, rows);
    if (c.out.v && t->slots[l->out].is_kv)
        c.out.v = (char *)c.out.v + dtype_bytes(c.out.dtype, b->pos0 * c.out.cols);
    c.step = t->step && l->n_step ? t->step + l->step : NULL;
    if (l->rope >= 0)
        call_rope(t, l, b, &c.p.rope);
    return c;
}

/* ---- running */

static int batch_check(const struct tape *t, const struct batch *b, struct err *e)
{
    int64_t rows = b->n_seq * b->seq_len, vocab = t->spec.model->spec.vocab_size;
    if (b->n_seq < 1 || b->seq_len < 1 || rows > t->T || b->pos0 < 0 ||
        b->pos0 + b->seq_len > t->positions || (b->pos0 && !t->spec.kv_len))
        return err_set(e,
                       "a batch of %lld x %lld tokens at position %lld does not fit the recorded "
                       "%lld tokens and %lld positions",
                       (long long)b->n_seq, (long long)b->seq_len, (long long)b->pos0,
                       (long long)t->T, (long long)t->positions);
    if (t->spec.teacher && t->spec.teacher->spec.vocab_size < vocab)
        vocab = t->spec.teacher->spec.vocab_size;
    for (int64_t i = 0; i < rows; i++) {
        if (b->ids[i] < 0 || b->ids[i] >= vocab)
            return err_set(e, "token id %d is beyond the vocabulary of %lld", b->ids[i],
                           (long long)vocab);
        if (b->labels && b->labels[i] != -100 && (b->labels[i] < 0 || b->labels[i] >= vocab))
            return err_set(e, "label %d is beyond the vocabulary of %lld", b->labels[i],
                           (long long)vocab);
    }
    return 0;
}

static void run_taps(const struct tape *t, const struct event *ev, int after,
                     const struct op_args *c, int64_t first)
{
    const struct tapped tapped = {c->x, c->batch, first, after ? &c->out : &c->in[0]};
    for (int i = 0; i < t->n_taps && ev->kind == EVENT_FORWARD && !ev->in_backward; i++) {
        const struct tap_row *tap = &t->taps[i];
        if (tap->line == ev->line && tap->after == after)
            tap->fn(tap->user, &tapped);
    }
}

void tape_run_call(const struct tape *t, const struct event *ev, const struct op_args *c,
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

static void run_event(struct tape *t, const struct event *ev, const struct batch *b)
{
    struct op_args c = tape_args(t, ev, b);
    tape_run_call(t, ev, &c, 0);
}

/* The events of a direction, and forward of the blocks from .. to - 1 alone, in `events`; how many.
 */
static int events_select(const struct tape *t, int in_backward, int64_t from, int64_t to,
                         const struct event **events)
{
    int n = 0;
    for (int i = 0; i < t->n_events; i++) {
        const struct event *ev = &t->events[i];
        const struct line *l = &t->lines[ev->line];
        int outside = l->layer < 0              ? from > 0
                      : l->layer == t->n_layers ? to < t->n_layers
                                                : l->layer < from || l->layer >= to;
        if (ev->in_backward == in_backward && (in_backward || l->is_teacher || !outside))
            events[n++] = ev;
    }
    return n;
}

static void run_events(struct tape *t, const struct batch *b, int in_backward, int64_t from,
                       int64_t to)
{
    const struct event **events = t->selected;
    int n = events_select(t, in_backward, from, to, events), parts = tape_parts(t, b->n_seq) > 1,
        segment;
    for (int i = 0; i < n && !t->x->err.set; i += segment ? segment : 1) {
        for (segment = 0; parts && i + segment < n &&
                          events[i]->segment == events[i + segment]->segment &&
                          tape_runs_in_parts(t, events[i + segment]);)
            segment++;
        if (segment)
            tape_run_parts(t, events + i, segment, b);
        else
            run_event(t, events[i], b);
    }
}

/* 1 if the whole direction was run as one; 0: it must be run event by event. */
static int run_captured(struct tape *t, const struct batch *b, int in_backward)
{
    struct tape_capture *c = &t->captures[in_backward][t->first_pass];
    if (!c->runs) {
        c->n_seq = b->n_seq;
        c->seq_len = b->seq_len;
    }
    if (c->n_seq != b->n_seq || c->seq_len != b->seq_len || !c->runs++)
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

static void batch_put(struct tape *t, const struct batch *b)
{
    size_t bytes = (size_t)(b->n_seq * b->seq_len) * sizeof *t->ids;
    exec_put(t->x, t->ids, b->ids, bytes);
    if (b->labels)
        exec_put(t->x, t->labels, b->labels, bytes);
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
    batch.labels = t->labels;
    int whole = from == 0 && to == t->n_layers && !t->n_taps && !t->spec.kv_len;
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

void tape_clear_gradients(struct tape *t)
{
    const struct param *p = t->spec.model->params;
    int n = t->spec.model->spec.n_tensors;
    for (int i = 0, first; i < n; i++) {
        int64_t values = 0;
        /* parameters that follow one another are cleared as one */
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
        return err_set(e, "blocks %lld to %lld cannot be run on their own", (long long)from,
                       (long long)to);
    return run(t, b, 0, from, to, e);
}

void *tape_boundary(struct tape *t, int64_t block)
{
    return buffer_ptr(t, t->slots[t->boundary[block]].value);
}

static float *loss_step(const struct tape *t, int line)
{
    return t->step + t->lines[t->losses[line]].step;
}

void tape_loss_scale(struct tape *t, float scale)
{
    for (int i = 0; i < t->n_losses; i++)
        exec_put(t->x, loss_step(t, i) + LOSS_SCALE, &scale, sizeof scale);
}

void tape_loss_weights(struct tape *t, int line, const float weights[LOSS_COUNT])
{
    exec_put(t->x, loss_step(t, line) + LOSS_WEIGHTS, weights, LOSS_COUNT * sizeof *weights);
}

/* Values of a loss line. */
static struct operand loss_values(const struct tape *t, int line, int64_t rows)
{
    int slot = t->lines[t->losses[line]].out;
    return operand_of(t, slot, t->slots[slot].value, NO_BUFFER, rows);
}

const double *tape_losses(struct tape *t, int line)
{
    struct operand o = loss_values(t, line, t->T);
    return exec_view(t->x, &t->host, o.v, (size_t)dtype_bytes(o.dtype, o.rows * o.cols));
}

void tape_add_losses(struct tape *t, const struct batch *b, double *sums)
{
    for (int i = 0; i < t->n_losses; i++) {
        struct op_args c = {.x = t->x, .rows = b->n_seq * b->seq_len, .p.column_sum.out = sums};
        c.in[0] = loss_values(t, i, c.rows);
        op_forward(OP_column_sum, &c);
        sums += c.in[0].cols;
    }
}

const float *tape_logits(struct tape *t, int64_t first, int64_t rows)
{
    int64_t cols = t->slots[t->last].cols, n = rows * cols;
    enum dtype d = tape_slot_dtype(t, t->last);
    const char *from = buffer_ptr(t, t->slots[t->last].value);
    const void *v = exec_view(t->x, &t->host, from + dtype_bytes(d, first * cols),
                              (size_t)dtype_bytes(d, n));
    if (d == DT_F32)
        return v;
    t->widened = mem_grow(t->widened, (size_t)n * sizeof *t->widened);
    to_f32(t->widened, v, d, n);
    return t->widened;
}

/* ---- taps */

static int tap_line(const struct tape *t, enum tap what, int64_t layer, const char *stem)
{
    int first_of_layer = -1, last = -1;
    for (int i = 0; i < t->n_lines; i++) {
        const struct line *l = &t->lines[i];
        if (l->is_teacher)
            continue;
        if (first_of_layer < 0 && l->layer == layer)
            first_of_layer = i;
        if (l->out == t->normed)
            last = i;
        if (what != TAP_BLOCK_INPUT && l->op == OP_linear && l->layer == layer && l->stem &&
            !strcmp(l->stem, stem))
            return i;
    }
    if (what == TAP_BLOCK_INPUT)
        return first_of_layer;
    return layer < 0 && !strcmp(stem, "lm_head") ? last : -1;
}

int tape_tap(struct tape *t, enum tap what, int64_t layer, const char *stem, tap_fn *fn, void *user,
             struct err *e)
{
    int line = tap_line(t, what, layer, stem);
    if (line < 0)
        return err_set(e, "layer %lld has nothing to tap at \"%s\"", (long long)layer,
                       stem ? stem : "its input");
    const struct line *l = &t->lines[line];
    int after = what == TAP_OUTPUT_OF || (what != TAP_BLOCK_INPUT && l->out == t->normed);
    if (what == TAP_BLOCK_INPUT && l->in[0] != t->boundary[layer])
        return err_set(e, "layer %lld does not begin with the residual stream", (long long)layer);
    t->taps = mem_grow(t->taps, sizeof *t->taps * (size_t)(t->n_taps + 1));
    t->taps[t->n_taps++] = (struct tap_row){line, after, fn, user};
    return 0;
}
