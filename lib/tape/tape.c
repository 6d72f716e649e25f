/* The tape from outside: recording, opening its memory, results, taps. See tape.h; what happens
 * inside is in record.c, plan.c, place.c and run.c. */
#include "tape.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tape_private.h"

/* ---- recording */

/* Has the model positions for so long a sequence? */
static int length_check(const struct model_spec *h, int64_t length, struct err *e)
{
    for (int i = 0; i < h->n_ropes; i++)
        if (h->ropes[i].most && length > h->ropes[i].most)
            return err_set(e,
                           "a sequence of %lld tokens is longer than the %lld positions up to "
                           "which dynamic rope scaling is supported",
                           (long long)length, (long long)h->ropes[i].most);
    if (h->learned_positions && length > h->max_position_embeddings)
        return err_set(
            e, "a sequence of %lld tokens is longer than the %lld learned positions of the model",
            (long long)length, (long long)h->max_position_embeddings);
    return 0;
}

static int spec_check(const struct tape_spec *s, struct err *e)
{
    if (s->n_seq < 1 || s->seq_len < 1)
        return err_set(e, "a batch of %lld sequences of %lld tokens is empty", (long long)s->n_seq,
                       (long long)s->seq_len);
    if (s->kv_len && s->train)
        return err_set(e, "a tape with a KV cache is forward only");
    int64_t length = s->kv_len ? s->kv_len : s->seq_len;
    if (length_check(&s->model->spec, length, e))
        return -1;
    return s->teacher ? length_check(&s->teacher->spec, length, e) : 0;
}

/* Refuses a call that the device cannot do. */
static int calls_check(const struct tape *t, struct err *e)
{
    const struct batch b = {
        .n_seq = t->spec.n_seq, .seq_len = t->spec.seq_len, .kv_len = t->spec.kv_len};
    for (int i = 0; i < t->n_events; i++) {
        const struct event *ev = &t->events[i];
        struct op_args c = tape_args(t, ev, &b);
        if (ev->kind != EVENT_ZERO && op_check(t->lines[ev->line].op, &c, e))
            return -1;
    }
    return 0;
}

static int plan(struct tape *t, struct err *e)
{
    tape_schedule(t);
    tape_plan_weights(t);
    tape_place(t);
    return calls_check(t, e);
}

struct tape *tape_record(struct exec *x, const struct tape_spec *spec, struct err *e)
{
    if (spec_check(spec, e))
        return NULL;
    struct tape *t = mem_alloc(sizeof *t);
    t->x = x;
    t->spec = *spec;
    t->spec.blocks_apart |= spec->model->sections != NULL;
    t->T = spec->n_seq * spec->seq_len;
    if (spec->given.form != TEACHER_MODEL)
        t->spec.token_bytes = loss_token_bytes(spec->given);
    t->positions = spec->kv_len ? spec->kv_len : spec->seq_len;
    if (tape_record_lines(t, e) || plan(t, e)) {
        tape_close(t);
        return NULL;
    }
    t->selected = mem_alloc(sizeof *t->selected * (size_t)(t->n_events + 1));
    return t;
}

static int64_t tables_bytes(const struct tape *t, int is_teacher)
{
    const struct model_spec *h = tape_model_spec(t, is_teacher);
    int64_t bytes = 0;
    for (int i = 0; i < h->n_ropes; i++)
        bytes += (h->ropes[i].long_after > 0 ? 4 : 2) *
                 (int64_t)arena_round((size_t)(t->positions * h->ropes[i].dims / 2) * 4);
    return bytes;
}

static size_t step_bytes(const struct tape *t) { return (size_t)t->n_step * sizeof *t->step; }
static size_t ids_bytes(const struct tape *t) { return (size_t)t->T * sizeof *t->ids; }
static size_t pos0_bytes(const struct tape *t) { return t->spec.kv_len ? sizeof *t->pos0 : 0; }
static size_t token_data_bytes(const struct tape *t)
{
    return (size_t)(t->T * t->spec.token_bytes);
}

/* Of a state in bytes, for all sequences; 0: the slot is none. */
static size_t state_bytes(const struct tape *t, int slot)
{
    const struct slot *s = &t->slots[slot];
    return s->is_f32 && s->kept ? (size_t)(t->spec.n_seq * s->cols) * sizeof(float) : 0;
}

static size_t marks_bytes(const struct tape *t)
{
    size_t bytes = 0;
    for (int i = 0; i < t->n_slots && t->spec.marks; i++)
        bytes += state_bytes(t, i);
    return bytes;
}

int64_t tape_working_bytes(const struct tape *t)
{
    return t->shared_bytes + (int64_t)arena_round(t->scratch_bytes);
}

int64_t tape_bytes(const struct tape *t)
{
    size_t bytes = (size_t)tape_working_bytes(t) + 3 * arena_round(ids_bytes(t)) +
                   arena_round(token_data_bytes(t)) + arena_round(step_bytes(t)) +
                   arena_round(marks_bytes(t)) + arena_round(pos0_bytes(t));
    return (int64_t)bytes + tables_bytes(t, 0) + (t->spec.teacher ? tables_bytes(t, 1) : 0);
}

int64_t tape_activation_bytes(const struct tape *t) { return t->shared_bytes; }

/* cos and sin of position * frequency, times the table's factor (lib/model/rope.c) */
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
    const struct model_spec *h = tape_model_spec(t, is_teacher);
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

int tape_open(struct tape *t, struct err *e) { return tape_open_beside(t, NULL, e); }

int tape_open_beside(struct tape *t, const struct tape *other, struct err *e)
{
    size_t lent = other ? (size_t)tape_working_bytes(t) : 0;
    if (exec_arena(t->x, &t->arena, (size_t)tape_bytes(t) - lent, e))
        return -1;
    t->shared = other ? other->shared : arena_take(&t->arena, (size_t)t->shared_bytes);
    t->scratch = other ? t->shared + t->shared_bytes : arena_take(&t->arena, t->scratch_bytes);
    t->ids = arena_take(&t->arena, ids_bytes(t));
    t->labels = arena_take(&t->arena, ids_bytes(t));
    t->starts = arena_take(&t->arena, ids_bytes(t));
    t->token_data = arena_take(&t->arena, token_data_bytes(t));
    t->step = arena_take(&t->arena, step_bytes(t));
    t->marks = arena_take(&t->arena, marks_bytes(t));
    t->pos0 = t->spec.kv_len ? arena_take(&t->arena, pos0_bytes(t)) : NULL;
    tape_loss_scale(t, 1);
    for (int i = 0; i < t->n_losses; i++)
        tape_loss_weights(t, i, t->spec.losses[i].weights);
    if (t->states[0].n)
        tape_state_step(t, 1, 1);
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
    free(t->boundary[0]);
    free(t->boundary[1]);
    free(t->cleared);
    free(t->final);
    free(t->selected);
    free(t->host);
    free(t->widened);
    free(t);
}

/* ---- results */

void *tape_boundary(struct tape *t, int64_t block)
{
    return tape_buffer(t, t->slots[t->boundary[0][block]].value);
}

void tape_move_cache(struct tape *t, int64_t to, int64_t from)
{
    for (int i = 0; i < t->n_slots; i++) {
        const struct slot *s = &t->slots[i];
        if (!s->kept)
            continue;
        int64_t bytes = dtype_bytes(tape_slot_dtype(t, i), s->kept * s->cols);
        char *base = tape_buffer(t, s->value);
        exec_copy(t->x, base + to * bytes, base + from * bytes, (size_t)bytes);
    }
}

/* Copies all states: 0 to their marks, 1 back. */
static void states_copy(struct tape *t, int back)
{
    unsigned char *mark = t->marks;
    for (int i = 0; i < t->n_slots; i++) {
        size_t bytes = state_bytes(t, i);
        void *both[] = {tape_buffer(t, t->slots[i].value), mark};
        if (bytes)
            exec_copy(t->x, both[!back], both[back], bytes);
        mark += bytes;
    }
}

void tape_mark(struct tape *t)
{
    assert(t->spec.marks);
    states_copy(t, 0);
}

void tape_rewind(struct tape *t) { states_copy(t, 1); }

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

void tape_state_step(struct tape *t, float scale, float weight)
{
    const float values[STATE_STEP] = {[STATE_SCALE] = scale, [STATE_WEIGHT] = weight};
    exec_put(t->x, t->step + t->state_step, values, sizeof values);
}

float *tape_state_weight(struct tape *t) { return t->step + t->state_step + STATE_WEIGHT; }

/* What a line with losses has written. */
static struct operand line_values(const struct tape *t, int line, int64_t rows)
{
    int slot = t->lines[line].out;
    return tape_operand(t, slot, t->slots[slot].value, NO_BUFFER, rows);
}

const double *tape_losses(struct tape *t, int line)
{
    struct operand o = line_values(t, t->losses[line], t->T);
    return exec_view(t->x, &t->host, o.v, (size_t)dtype_bytes(o.dtype, o.rows * o.cols));
}

/* Adds up each column of losses; returns the sum after them. */
static double *add_line(struct tape *t, int line, const struct batch *b, double *sums)
{
    struct op_args c = {.x = t->x, .rows = b->n_seq * b->seq_len, .p.column_sum.out = sums};
    c.in[0] = line_values(t, line, c.rows);
    op_forward(OP_column_sum, &c);
    return sums + c.in[0].cols;
}

void tape_add_losses(struct tape *t, const struct batch *b, double *sums)
{
    for (int i = 0; i < t->n_losses; i++)
        sums = add_line(t, t->losses[i], b, sums);
    for (int i = 0; i < TAPE_STATES && t->states[i].n; i++, sums++)
        for (int k = 0; k < t->states[i].n; k++)
            add_line(t, t->states[i].line[k], b, sums);
}

struct operand tape_logits_there(const struct tape *t, int64_t rows)
{
    return tape_operand(t, t->last, t->slots[t->last].value, NO_BUFFER, rows);
}

const float *tape_logits(struct tape *t, int64_t first, int64_t rows)
{
    int64_t cols = t->slots[t->last].cols, n = rows * cols;
    enum dtype d = tape_slot_dtype(t, t->last);
    const char *from = tape_buffer(t, t->slots[t->last].value);
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
        if (what != TAP_BLOCK_INPUT && (l->op == OP_linear || l->op == OP_mixture) &&
            l->layer == layer && l->stem && !strcmp(l->stem, stem))
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
        return err_set(e, "layer %lld has nothing to record at \"%s\"", (long long)layer,
                       stem ? stem : "its input");
    const struct line *l = &t->lines[line];
    assert(what != TAP_OUTPUT_OF || l->op != OP_linear || l->in[1] == NO_SLOT);
    int after = what == TAP_OUTPUT_OF || (what != TAP_BLOCK_INPUT && l->out == t->normed);
    if (what == TAP_BLOCK_INPUT && l->in[0] != t->boundary[0][layer])
        return err_set(e, "layer %lld does not begin with the residual stream", (long long)layer);
    t->taps = mem_grow(t->taps, sizeof *t->taps * (size_t)(t->n_taps + 1));
    t->taps[t->n_taps++] = (struct tap_row){line, after, fn, user};
    return 0;
}
