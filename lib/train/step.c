/* The optimiser step: see step.h. */
#include "step.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../base/usage.h"
#include "../base/world.h"
#include "stream.h"

/* Adds the sum of squares of n values to that of the step. */
static struct op_args norm_call(const struct trainer *t, const float *values, int64_t n)
{
    struct op_args c = {
        .x = t->x, .rows = 1, .scratch = t->norm_scratch, .p.sumsq.out = t->sums + SUM_SQUARES};
    c.in[0] = (struct operand){.v = (void *)values, .dtype = DT_F32, .rows = 1, .cols = n};
    return c;
}

static size_t norm_scratch_bytes(const struct trainer *t)
{
    struct op_args c = norm_call(t, NULL, t->trained->n_values);
    return op_scratch(OP_sumsq, &c);
}

/* Bytes that a step keeps besides weights and gradients. */
static int64_t moments_bytes(const struct trainer *t)
{
    return (int64_t)(2 * arena_round((size_t)t->shards.owned * sizeof(float)) +
                     arena_round(4 * sizeof(float)) + 2 * arena_round(TRAIN_SUMS * sizeof(double)) +
                     arena_round(2 * TRAIN_SUMS * sizeof(float)) +
                     arena_round(norm_scratch_bytes(t)) +
                     arena_round((size_t)t->shards.n_edges * sizeof *t->edges));
}

static int train_open_moments(struct trainer *t, struct err *e)
{
    size_t bytes = (size_t)t->shards.owned * sizeof(float),
           edges_bytes = (size_t)t->shards.n_edges * sizeof *t->edges;
    if (exec_arena(t->x, &t->moments, (size_t)moments_bytes(t), e))
        return -1;
    t->m = arena_take(&t->moments, bytes);
    t->v = arena_take(&t->moments, bytes);
    t->step_slot = arena_take(&t->moments, 4 * sizeof(float));
    t->sums = arena_take(&t->moments, TRAIN_SUMS * sizeof(double));
    t->micro = arena_take(&t->moments, TRAIN_SUMS * sizeof(double));
    t->factors = arena_take(&t->moments, 2 * TRAIN_SUMS * sizeof(float));
    t->norm_scratch = arena_take(&t->moments, norm_scratch_bytes(t));
    t->edges = arena_take(&t->moments, edges_bytes);
    exec_put(t->x, t->edges, t->shards.edges, edges_bytes);
    return 0;
}

static struct tape_loss tape_loss_of(const struct train_options *o)
{
    struct tape_loss loss = {.kind = {.set = train_loss_set(o),
                                      .temperature = (float)o->temperature,
                                      .jsd_beta = (float)o->jsd_beta,
                                      .squared = o->temperature_squared}};
    for (int i = 0; i < LOSS_COUNT; i++)
        loss.weights[i] = (float)o->weights[i];
    return loss;
}

/* Computes all sizes, before anything is moved or allocated. */
static int train_plan(struct trainer *t, const struct tape_spec *spec, struct err *e)
{
    if (t->teacher)
        t->teacher->how = MODEL_FROZEN; /* whatever it was loaded as: it needs no f32 masters */
    if (shards_plan(&t->shards, t->x, t->trained, t->o.nested.n > 0, e))
        return -1;
    t->student_bytes = model_plan(t->student, t->x);
    t->moved_bytes = t->student_bytes + (t->teacher ? model_plan(t->teacher, t->x) : 0);
    t->state_bytes = moments_bytes(t) + 4 * t->trained->n_values;
    if (t->o.nested.n) {
        t->nested = nested_plan(t->x, &t->o.nested, t->student, spec, e);
        t->state_bytes += t->nested ? nested_model_bytes(t->nested) : 0;
        return t->nested ? 0 : -1;
    }
    t->tape = tape_record(t->x, spec, e);
    return t->tape ? 0 : -1;
}

static int train_allocate(struct trainer *t, struct err *e)
{
    if (model_move(t->student, t->x, e) || (t->teacher && model_move(t->teacher, t->x, e)))
        return -1;
    if (model_add_grads(t->trained, e) || train_open_moments(t, e))
        return -1;
    return t->nested ? nested_open(t->nested, e) : tape_open(t->tape, e);
}

int train_open(struct trainer *t, struct exec *x, const struct train_options *o,
               struct model *student, struct model *teacher, struct data_sources *data,
               struct err *e)
{
    *t = (struct trainer){.o = *o,
                          .x = x,
                          .student = student,
                          .trained = model_trained(student),
                          .teacher = teacher,
                          .data = data};
    struct param *lift = NULL;
    if (train_rows_of(&t->own, o, e))
        return -1;
    if (o->states.needs_lift &&
        !(lift = train_states_add_lift(&o->states, student, &teacher->spec, o->seed, e)))
        return -1;
    int64_t n = data_sources_longest(data);
    struct tape_spec spec = {.model = student,
                             .teacher = teacher,
                             .n_seq = t->own.rows,
                             .seq_len = n - 1,
                             .end = TAPE_LOSS,
                             .train = 1,
                             .recompute = o->recompute,
                             .losses = {tape_loss_of(o)},
                             .state_loss = o->states.loss,
                             .raw_states = o->states.is_raw,
                             .lift = lift};
    memcpy(spec.states, o->states.terms, sizeof spec.states);
    if (o->stream)
        spec.given = o->stream->form;
    if (train_plan(t, &spec, e) || train_check_memory(t, &spec, e) || train_allocate(t, e))
        return -1;
    data_batch_open(&t->batch, t->own.rows, n);
    t->rows = mem_alloc((size_t)(t->own.rows * t->own.passes) * sizeof *t->rows);
    if (o->stream)
        train_stream_room(o->stream, &t->own, n);
    return 0;
}

void train_close(struct trainer *t)
{
    if (!t->nested)
        tape_close(t->tape);
    nested_close(t->nested);
    shards_close(&t->shards);
    arena_close(&t->moments);
    data_batch_close(&t->batch);
    free(t->rows);
    *t = (struct trainer){0};
}

/* Takes the sequences of one step from the order, counts what is in all of them, and keeps this
 * process's. */
static int train_take_rows(struct trainer *t, struct train_record *r, struct err *e)
{
    const struct train_rows *own = &t->own;
    struct train_stream *stream = t->o.stream;
    int64_t kept = 0;
    for (int64_t i = 0; i < t->o.batch_size * t->o.accumulation; i++) {
        struct data_row row = data_sources_next(t->data);
        int64_t pass = i / t->o.batch_size - own->pass, at = i % t->o.batch_size - own->row;
        int is_own = pass >= 0 && pass < own->passes && at >= 0 && at < own->rows;
        r->predictions += row.predictions;
        r->tokens += row.inputs;
        if (stream && train_stream_take(stream, &row, is_own, e))
            return -1;
        if (is_own)
            t->rows[kept++] = row;
    }
    return 0;
}

/* Nothing here waits for the device: while it works on one batch, the next is prepared and
 * queued. */
static int train_micro_batch(struct trainer *t, const struct data_row *rows, struct err *e)
{
    const struct batch *b = &t->batch.b;
    if (data_batch_fill(&t->batch, rows, t->own.rows, e) ||
        (t->o.stream && train_stream_fill(t->o.stream, &t->batch, rows, e)) ||
        tape_forward(t->tape, b, e) || train_states_losses(t, b, e) || tape_backward(t->tape, b, e))
        return -1;
    return t->x->err.set ? err_set(e, "%s", t->x->err.msg) : 0;
}

void train_step_put(struct exec *x, const struct train_options *o, float *slot,
                    double learning_rate, double clip, int64_t step)
{
    const float values[4] = {(float)learning_rate, (float)(1 / (1 - pow(o->beta1, (double)step))),
                             (float)(1 / (1 - pow(o->beta2, (double)step))), (float)clip};
    exec_put(x, slot, values, sizeof values);
}

void train_adamw(struct exec *x, const struct train_options *o, const struct adamw_params *range)
{
    struct op_args c = {.x = x, .rows = 1, .p.adamw = *range};
    c.p.adamw.beta1 = (float)o->beta1;
    c.p.adamw.beta2 = (float)o->beta2;
    c.p.adamw.eps = (float)o->epsilon;
    op_forward(OP_adamw, &c);
}

static void update_shard(struct trainer *t, int64_t i)
{
    struct model *m = t->trained;
    const struct model_run *of = &t->shards.of[i];
    const struct shard_edges *edges = &t->shards.edges_of[i];
    struct adamw_params range = {.p = model_weights_of(m, of),
                                 .m = t->m + of->at,
                                 .v = t->v + of->at,
                                 .g = (float *)m->grads.base + of->first,
                                 .n = of->n,
                                 .weight_decay = (float)t->o.weight_decay,
                                 .step = t->step_slot,
                                 .edges = t->edges + edges->at,
                                 .n_edges = edges->n};
    if (m->copies.base)
        range.copy = m->copies.base + dtype_bytes(DT_BF16, of->first);
    if (of->n)
        train_adamw(t->x, &t->o, &range);
}

static int train_update(struct trainer *t, double learning_rate, double clip, struct err *e)
{
    train_step_put(t->x, &t->o, t->step_slot, learning_rate, clip, t->step + 1);
    for (int64_t i = 0; i < t->shards.n; i++) {
        update_shard(t, i);
        shards_spread(&t->shards, i);
    }
    if (shards_wait(&t->shards, e))
        return -1;
    return t->x->err.set ? err_set(e, "%s", t->x->err.msg) : 0;
}

/* In the first step, weights and text alone are to blame. */
static int train_finite(double value, const char *what, int64_t step, struct err *e)
{
    if (isfinite(value))
        return 0;
    return err_set(e, "step %lld: the %s is %s%s", (long long)step, what,
                   isnan(value) ? "not a number" : "infinite",
                   step > 1 ? ": --learning-rate may be too high" : "");
}

/* The sums of the step over all processes, fetched in one copy; and whether any is to stop. */
static int train_sums(struct trainer *t, const volatile sig_atomic_t *stop, double sums[TRAIN_SUMS],
                      struct train_record *r, struct err *e)
{
    enum { STOPPED = TRAIN_SUMS, SIGNALS, ALL };
    double all[ALL];
    for (int64_t i = 0; i < t->shards.n; i++) {
        const struct model_run *of = &t->shards.of[i];
        struct op_args c = norm_call(t, (float *)t->trained->grads.base + of->first, of->n);
        op_forward(OP_sumsq, &c);
    }
    exec_get(t->x, all, t->sums, TRAIN_SUMS * sizeof *all);
    if (t->x->err.set)
        return err_set(e, "%s", t->x->err.msg);
    all[SIGNALS] = *stop;
    all[STOPPED] = all[SIGNALS] > 0;
    if (world_sum(all, ALL, e))
        return -1;
    memcpy(sums, all, TRAIN_SUMS * sizeof *all);
    r->stopped = all[STOPPED] > 0 ? (int)(all[SIGNALS] / all[STOPPED]) : 0;
    return 0;
}

/* Losses and gradient norm of the step. */
static int train_measure(struct trainer *t, const volatile sig_atomic_t *stop,
                         struct train_record *r, struct err *e)
{
    double sums[TRAIN_SUMS], n = (double)r->predictions;
    if (train_sums(t, stop, sums, r, e))
        return -1;
    unsigned set = train_loss_set(&t->o);
    for (int i = 0; i < LOSS_COUNT; i++)
        if (set >> i & 1) {
            r->losses[i] = sums[loss_column(set, (enum loss)i)] / n;
            r->loss += t->o.weights[i] * r->losses[i];
        }
    train_states_measure(t, sums, r);
    r->grad_norm = sqrt(sums[SUM_SQUARES]);
    return train_finite(r->loss, "loss", r->step, e) ||
                   train_finite(r->grad_norm, "gradient's norm", r->step, e)
               ? -1
               : 0;
}

int train_check_finite(const struct trainer *t, struct err *e)
{
    const struct model *m = t->trained;
    const struct {
        const char *name;
        const float *values;
        int64_t n;
    } all[] = {{"weights", (const float *)m->weights.base, m->kept.runs ? m->kept.n : m->n_values},
               {"first moments", t->m, t->shards.owned},
               {"second moments", t->v, t->shards.owned}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        double sum;
        struct op_args c = norm_call(t, all[i].values, all[i].n);
        exec_zero(t->x, t->sums + SUM_SQUARES, sizeof sum);
        op_forward(OP_sumsq, &c);
        exec_get(t->x, &sum, t->sums + SUM_SQUARES, sizeof sum);
        if (world_sum(&sum, 1, e))
            return -1;
        if (!isfinite(sum))
            return err_set(e, "after step %lld the %s are not finite: lower the --learning-rate",
                           (long long)t->step, all[i].name);
    }
    return t->x->err.set ? err_set(e, "%s", t->x->err.msg) : 0;
}

/* Chooses the nested model of this step. */
static void train_draw(struct trainer *t, struct train_record *r)
{
    int64_t i = nested_draw(t->nested, (uint64_t)t->o.seed, t->step);
    r->model = i;
    r->shape = t->o.nested.models[i].name;
    nested_enter(t->nested, i);
    t->tape = nested_tape(t->nested, i);
}

/* Gradients and losses of all micro-batches. 1: done; 0: stopped; -1: error. */
static int train_gradients(struct trainer *t, const volatile sig_atomic_t *stop,
                           struct train_record *r, struct err *e)
{
    if (t->nested)
        train_draw(t, r);
    tape_clear_gradients(t->tape);
    tape_loss_scale(t->tape, (float)(1 / (double)r->predictions));
    train_states_begin(t, r);
    exec_zero(t->x, t->sums, TRAIN_SUMS * sizeof *t->sums);
    for (int64_t i = 0; i < t->own.passes; i++) {
        if (*stop && world_size() == 1)
            return 0;
        if (i == t->own.passes - 1 && !t->nested)
            shards_expect(&t->shards, t->tape);
        if (train_micro_batch(t, t->rows + i * t->own.rows, e))
            return -1;
    }
    if (t->nested)
        nested_leave(t->nested);
    return shards_reduce(&t->shards, e) || train_measure(t, stop, r, e) ? -1 : 1;
}

int train_step(struct trainer *t, const volatile sig_atomic_t *stop, struct train_record *r,
               struct err *e)
{
    int64_t position = t->data->position;
    *r = (struct train_record){.step = t->step + 1,
                               .learning_rate = schedule_rate(&t->o.schedule, t->step)};
    int done = train_take_rows(t, r, e) ? -1 : train_gradients(t, stop, r, e);
    if (done != 1) {
        t->data->position = position;
        return done;
    }
    double max = t->o.max_grad_norm, clip = max > 0 ? fmin(1, max / (r->grad_norm + 1e-6)) : 1;
    if (train_update(t, r->learning_rate, clip, e))
        return -1;
    t->step++;
    t->predictions += r->predictions;
    return 1;
}

json_t *train_record_json(const struct trainer *t, const struct train_record *r, double seconds)
{
    json_t *j = json_pack("{s:I, s:f}", "step", (json_int_t)r->step, "loss", r->loss);
    if (r->shape)
        json_object_set_new(j, "shape", json_string(r->shape));
    for (int i = 0; i < LOSS_COUNT; i++)
        if (train_loss_set(&t->o) >> i & 1)
            json_object_set_new(j, loss_table[i].name, json_real(r->losses[i]));
    train_states_log(t, r, j);
    json_object_set_new(j, "grad_norm", json_real(r->grad_norm));
    json_object_set_new(j, "learning_rate", json_real(r->learning_rate));
    json_object_set_new(j, "tokens", json_integer(t->predictions));
    if (t->data->n > 1)
        json_object_set_new(j, "sequences", data_sources_counts(t->data, t->data->position));
    json_object_set_new(j, "tokens_per_second",
                        json_integer(llround((double)r->predictions / seconds)));
    json_object_set_new(j, "peak_rss", json_integer(usage_peak_bytes()));
    return j;
}
