/* The optimiser step: see train.h. */
#include "step.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/usage.h"

/* "ce, kl, rkl": the names of all losses. */
static void loss_names(char *names, size_t size)
{
    size_t n = 0;
    for (int i = 0; i < LOSS_COUNT && n < size; i++)
        n += (size_t)snprintf(names + n, size - n, "%s%s", i ? ", " : "", loss_table[i].name);
}

static int loss_find(const char *name, size_t length)
{
    for (int i = 0; i < LOSS_COUNT; i++)
        if (strlen(loss_table[i].name) == length && !strncmp(loss_table[i].name, name, length))
            return i;
    return -1;
}

/* "0.5ce", "0.5*ce" or "ce" at the beginning of text: where it ends, or NULL. */
static const char *parse_term(const char *text, double weights[LOSS_COUNT])
{
    char *name;
    double weight = strtod(text, &name);
    if (name == text)
        weight = 1;
    else if (*name == '*')
        name++;
    size_t length = strcspn(name, "+");
    int loss = loss_find(name, length);
    if (loss < 0 || weights[loss] != 0 || !(weight > 0) || weight > 1e6)
        return NULL;
    weights[loss] = weight;
    return name + length;
}

int train_parse_loss(const char *text, double weights[LOSS_COUNT], struct err *e)
{
    char names[200];
    memset(weights, 0, LOSS_COUNT * sizeof *weights);
    const char *end = parse_term(text, weights);
    while (end && *end)
        end = parse_term(end + 1, weights);
    if (end)
        return 0;
    loss_names(names, sizeof names);
    return err_set(e,
                   "--loss must be a sum such as kl+0.5ce of %s, each at most once and with a "
                   "positive weight, not \"%s\"",
                   names, text);
}

int train_needs_teacher(const struct train_options *o)
{
    int needed = 0;
    for (int i = 0; i < LOSS_COUNT; i++)
        needed |= o->weights[i] != 0 && loss_table[i].needs_teacher;
    return needed;
}

unsigned train_loss_set(const struct train_options *o)
{
    unsigned set = LOSS_BIT(ce);
    for (int i = 0; i < LOSS_COUNT; i++)
        set |= o->weights[i] != 0 ? 1u << i : 0;
    return set;
}

double train_learning_rate(const struct train_options *o, int64_t step)
{
    if (step < o->warmup_steps)
        return o->learning_rate * (double)(step + 1) / (double)o->warmup_steps;
    double progress = (double)(step - o->warmup_steps) / (double)(o->max_steps - o->warmup_steps);
    return o->min_learning_rate +
           0.5 * (o->learning_rate - o->min_learning_rate) * (1 + cos(M_PI * progress));
}

int train_options_resolve(struct train_options *o, struct err *e)
{
    if (o->max_steps < 1)
        return err_set(e, "--max-steps N is needed, from 1");
    if (o->warmup_steps == -1)
        o->warmup_steps = (o->max_steps + 19) / 20;
    if (o->min_learning_rate == -1)
        o->min_learning_rate = o->learning_rate / 10;
    if (o->batch_size < 1 || o->batch_size > 1 << 20 || o->accumulation < 1 ||
        o->accumulation > 1 << 20)
        return err_set(e,
                       "--batch-size and --gradient-accumulation-steps are numbers from 1 to %d, "
                       "not %lld and %lld",
                       1 << 20, (long long)o->batch_size, (long long)o->accumulation);
    if (o->warmup_steps < 0)
        return err_set(e, "--warmup-steps is a number from 0, or -1, not %lld",
                       (long long)o->warmup_steps);
    if (!(o->learning_rate > 0 && o->min_learning_rate >= 0 && o->weight_decay >= 0 &&
          o->max_grad_norm >= 0))
        return err_set(e, "learning rates, weight decay and --max-grad-norm are not negative");
    if (!(o->beta1 >= 0 && o->beta1 < 1 && o->beta2 >= 0 && o->beta2 < 1 && o->epsilon > 0 &&
          o->temperature > 0))
        return err_set(e, "betas lie in [0, 1); epsilon and temperature are positive");
    if (!(o->jsd_beta > 0 && o->jsd_beta < 1))
        return err_set(e, "--jsd-beta must lie between 0 and 1, not %g", o->jsd_beta);
    return 0;
}

/* ce and kl always, others where they are in the sum: so are the runs of earlier releases. */
static void losses_json(const struct train_options *o, json_t *j)
{
    for (int i = 0; i < LOSS_COUNT; i++) {
        char name[80];
        snprintf(name, sizeof name, "loss weight of %s", loss_table[i].name);
        if (o->weights[i] != 0 || i == LOSS_ce || i == LOSS_kl)
            json_object_set_new(j, name, json_real(o->weights[i]));
    }
    json_object_set_new(j, "temperature", json_real(o->temperature));
    if (o->temperature_squared)
        json_object_set_new(j, "temperature-squared", json_true());
    if (o->weights[LOSS_jsd] != 0)
        json_object_set_new(j, "jsd-beta", json_real(o->jsd_beta));
}

json_t *train_options_json(const struct train_options *o)
{
    json_t *j = json_object();
    const struct {
        const char *name;
        int64_t value;
    } integers[] = {{"max-steps", o->max_steps},
                    {"batch-size", o->batch_size},
                    {"gradient-accumulation-steps", o->accumulation},
                    {"warmup-steps", o->warmup_steps},
                    {"seed", o->seed}};
    const struct {
        const char *name;
        double value;
    } reals[] = {{"learning-rate", o->learning_rate},
                 {"min-learning-rate", o->min_learning_rate},
                 {"weight-decay", o->weight_decay},
                 {"adam-beta1", o->beta1},
                 {"adam-beta2", o->beta2},
                 {"adam-epsilon", o->epsilon},
                 {"max-grad-norm", o->max_grad_norm}};
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++)
        json_object_set_new(j, integers[i].name, json_integer(integers[i].value));
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++)
        json_object_set_new(j, reals[i].name, json_real(reals[i].value));
    losses_json(o, j);
    json_object_set_new(j, "order", json_string(o->shuffled ? "shuffled" : "sequential"));
    return j;
}

static int64_t longest(const struct tokens *data)
{
    int64_t n = 0;
    for (int64_t i = 0; i < data->n; i++)
        n = data->start[i + 1] - data->start[i] > n ? data->start[i + 1] - data->start[i] : n;
    return n;
}

/* Sum of squares of the whole gradient. */
static struct op_args norm_call(const struct trainer *t)
{
    struct op_args c = {
        .x = t->x, .rows = 1, .scratch = t->norm_scratch, .p.sumsq.out = t->sums + SUM_SQUARES};
    c.in[0] = (struct operand){
        .v = t->student->grads.base, .dtype = DT_F32, .rows = 1, .cols = t->student->n_values};
    return c;
}

/* Where the values that decay begin and end, one after the other: matrices do, vectors (norms,
 * biases) do not. Free it. */
static int64_t *train_decayed(const struct model_spec *h, int64_t *n)
{
    int64_t *edges = mem_alloc(sizeof *edges * (size_t)(h->n_tensors + 2)), at = 0;
    *n = 0;
    for (int i = 0; i < h->n_tensors; at += tensor_count(&h->tensors[i++]))
        if ((h->tensors[i].ndim >= 2) != *n % 2)
            edges[(*n)++] = at;
    if (*n % 2 || !*n)
        edges[(*n)++] = at;
    return edges;
}

/* Bytes of what a step keeps besides weights and gradients; fills n_edges. */
static int64_t moments_bytes(struct trainer *t)
{
    struct op_args c = norm_call(t);
    free(train_decayed(&t->student->spec, &t->n_edges));
    return (int64_t)(2 * arena_round((size_t)t->student->n_values * sizeof(float)) +
                     arena_round(4 * sizeof(float)) + arena_round(TRAIN_SUMS * sizeof(double)) +
                     arena_round(op_scratch(OP_sumsq, &c)) +
                     arena_round((size_t)t->n_edges * sizeof *t->edges));
}

static int train_open_moments(struct trainer *t, struct err *e)
{
    size_t bytes = (size_t)t->student->n_values * sizeof(float);
    struct op_args c = norm_call(t);
    if (exec_arena(t->x, &t->moments, (size_t)moments_bytes(t), e))
        return -1;
    t->m = arena_take(&t->moments, bytes);
    t->v = arena_take(&t->moments, bytes);
    t->step_slot = arena_take(&t->moments, 4 * sizeof(float));
    t->sums = arena_take(&t->moments, TRAIN_SUMS * sizeof(double));
    t->norm_scratch = arena_take(&t->moments, op_scratch(OP_sumsq, &c));
    int64_t *edges = train_decayed(&t->student->spec, &t->n_edges);
    size_t edges_bytes = (size_t)t->n_edges * sizeof *edges;
    t->edges = arena_take(&t->moments, edges_bytes);
    exec_put(t->x, t->edges, edges, edges_bytes);
    free(edges);
    return 0;
}

/* ---- does it fit? */

static double gigabytes(int64_t bytes) { return 1e-9 * (double)bytes; }

/* The largest batch, by halves, with which a step takes at most `room` bytes of activations: its
 * sequences and bytes; 0: none does. */
static int64_t batch_that_fits(const struct trainer *t, struct tape_spec spec, int64_t room,
                               int64_t *bytes)
{
    *bytes = 0;
    for (; spec.n_seq > 0; spec.n_seq /= 2) {
        struct err e = {0};
        struct tape *tape = tape_record(t->x, &spec, &e);
        *bytes = tape ? tape_bytes(tape) : INT64_MAX;
        tape_close(tape);
        if (*bytes <= room)
            break;
    }
    return spec.n_seq;
}

/* "; with --recompute and --batch-size 4 it would be 12.30 GB" */
static int64_t advise(const struct trainer *t, struct tape_spec spec, int recompute, int64_t room,
                      int64_t others, char *advice, size_t size)
{
    int64_t bytes, n;
    int added = recompute && !spec.recompute;
    spec.recompute = recompute;
    n = batch_that_fits(t, spec, room, &bytes);
    char batch[100] = "";
    if (n && n < spec.n_seq)
        snprintf(batch, sizeof batch,
                 "%s--batch-size %lld (and more --gradient-accumulation-steps)",
                 added ? " and " : "", (long long)n);
    if (n)
        snprintf(advice, size, "; with %s%s it would be %.2f GB", added ? "--recompute" : "", batch,
                 gigabytes(others + bytes));
    return n;
}

/* Before anything is moved or allocated: refuses a step that is too large for the device, and says
 * which options would make it fit. */
static int train_check_memory(const struct trainer *t, const struct tape_spec *spec, struct err *e)
{
    int64_t n = t->student->n_values, teacher = t->teacher ? t->moved_bytes - t->student_bytes : 0,
            others = train_bytes(t) - tape_bytes(t->tape);
    int64_t available = exec_available(t->x), room = available - others;
    char lean[200] = "", less[200] = "";
    if (train_bytes(t) <= available)
        return 0;
    int64_t fits = advise(t, *spec, 1, room, others, lean, sizeof lean);
    if (!spec->recompute)
        fits |= advise(t, *spec, 0, room, others, less, sizeof less);
    return err_set(e,
                   "a step takes %.2f GB (weights, gradients and moments of the student's %.2f "
                   "billion parameters %.2f, teacher %.2f, activations of %lld x %lld "
                   "tokens %.2f), and the device has %.2f GB left%s%s%s",
                   gigabytes(train_bytes(t)), gigabytes(n), gigabytes(others - teacher),
                   gigabytes(teacher), (long long)spec->n_seq, (long long)spec->seq_len,
                   gigabytes(tape_bytes(t->tape)), gigabytes(available), lean, less,
                   fits       ? ""
                   : room < 0 ? "; no option makes that fit: it needs a smaller student or "
                                "teacher, or a larger device"
                              : "; not even --recompute with --batch-size 1 fits: it needs shorter "
                                "sequences, or a smaller student or teacher");
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

int train_open(struct trainer *t, struct exec *x, const struct train_options *o,
               struct model *student, struct model *teacher, const struct tokens *data,
               struct err *e)
{
    *t = (struct trainer){.o = *o, .x = x, .student = student, .teacher = teacher, .data = data};
    int64_t n = longest(data);
    if (n < 2)
        return err_set(e, "the training data has no sequence of at least two tokens");
    struct tape_spec spec = {.model = student,
                             .teacher = teacher,
                             .n_seq = o->batch_size,
                             .seq_len = n - 1,
                             .end = TAPE_LOSS,
                             .train = 1,
                             .recompute = o->recompute,
                             .losses = {tape_loss_of(o)}};
    if (teacher)
        teacher->how = MODEL_FROZEN; /* however it was loaded: it needs no f32 masters */
    t->student_bytes = model_plan(student, x);
    t->moved_bytes = t->student_bytes + (teacher ? model_plan(teacher, x) : 0);
    t->state_bytes = moments_bytes(t) + 4 * student->n_values;
    t->tape = tape_record(x, &spec, e);
    if (!t->tape || train_check_memory(t, &spec, e) || model_move(student, x, e) ||
        (teacher && model_move(teacher, x, e)) || model_add_grads(student, e) ||
        train_open_moments(t, e) || tape_open(t->tape, e))
        return -1;
    data_order_open(&t->order, data->n, o->shuffled, (uint64_t)o->seed);
    data_batch_open(&t->batch, o->batch_size, n);
    t->rows = mem_alloc((size_t)(o->batch_size * o->accumulation) * sizeof *t->rows);
    return 0;
}

int64_t train_activation_bytes(const struct trainer *t) { return tape_bytes(t->tape); }
int64_t train_bytes(const struct trainer *t)
{
    return t->moved_bytes + t->state_bytes + tape_bytes(t->tape);
}

void train_close(struct trainer *t)
{
    if (t->tape)
        tape_close(t->tape);
    arena_close(&t->moments);
    data_order_close(&t->order);
    data_batch_close(&t->batch);
    free(t->rows);
    *t = (struct trainer){0};
}

/* Takes the sequences of one step from the order; returns the predictions in them. */
static int64_t train_take_rows(struct trainer *t)
{
    int64_t counted = 0;
    for (int64_t i = 0; i < t->o.batch_size * t->o.accumulation; i++) {
        const int64_t *start = t->data->start + data_order_next(&t->order);
        t->rows[i] = (struct data_row){t->data->ids + start[0], start[1] - start[0], 1};
        counted += data_predictions(&t->rows[i]);
    }
    return counted;
}

/* Nothing here waits for a device: while it works on one batch the next is made and handed over. */
static int train_micro_batch(struct trainer *t, const struct data_row *rows, struct err *e)
{
    data_batch_fill(&t->batch, rows, t->o.batch_size);
    const struct batch *b = &t->batch.b;
    if (tape_forward(t->tape, b, e) || tape_backward(t->tape, b, e))
        return -1;
    tape_add_losses(t->tape, b, t->sums);
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

static void train_update(struct trainer *t, double learning_rate, double clip)
{
    struct model *m = t->student;
    struct adamw_params all = {.p = (float *)m->weights.base,
                               .m = t->m,
                               .v = t->v,
                               .g = (float *)m->grads.base,
                               .n = m->n_values,
                               .weight_decay = (float)t->o.weight_decay,
                               .step = t->step_slot,
                               .copy = m->copies.base,
                               .edges = t->edges,
                               .n_edges = t->n_edges};
    train_step_put(t->x, &t->o, t->step_slot, learning_rate, clip, t->step + 1);
    train_adamw(t->x, &t->o, &all);
}

static int train_finite(double value, const char *what, int64_t step, struct err *e)
{
    return isfinite(value) ? 0
                           : err_set(e, "step %lld: the %s is %s", (long long)step, what,
                                     isnan(value) ? "not a number" : "infinite");
}

/* Losses and the gradient's norm of the step, fetched at once. */
static int train_measure(struct trainer *t, struct train_record *r, struct err *e)
{
    double sums[TRAIN_SUMS], n = (double)r->predictions;
    struct op_args c = norm_call(t);
    op_forward(OP_sumsq, &c);
    exec_get(t->x, sums, t->sums, sizeof sums);
    if (t->x->err.set)
        return err_set(e, "%s", t->x->err.msg);
    unsigned set = train_loss_set(&t->o);
    for (int i = 0; i < LOSS_COUNT; i++)
        if (set >> i & 1) {
            r->losses[i] = sums[loss_column(set, (enum loss)i)] / n;
            r->loss += t->o.weights[i] * r->losses[i];
        }
    r->grad_norm = sqrt(sums[SUM_SQUARES]);
    return train_finite(r->loss, "loss", r->step, e) ||
                   train_finite(r->grad_norm, "gradient's norm", r->step, e)
               ? -1
               : 0;
}

/* Gradients and losses of all micro-batches: 1, 0 when stopped, -1. */
static int train_gradients(struct trainer *t, const volatile sig_atomic_t *stop,
                           struct train_record *r, struct err *e)
{
    tape_clear_gradients(t->tape);
    tape_loss_scale(t->tape, (float)(1 / (double)r->predictions));
    exec_zero(t->x, t->sums, TRAIN_SUMS * sizeof *t->sums);
    for (int64_t i = 0; i < t->o.accumulation; i++) {
        if (*stop)
            return 0;
        if (train_micro_batch(t, t->rows + i * t->o.batch_size, e))
            return -1;
    }
    return train_measure(t, r, e) ? -1 : 1;
}

int train_step(struct trainer *t, const volatile sig_atomic_t *stop, struct train_record *r,
               struct err *e)
{
    int64_t position = t->order.position;
    *r = (struct train_record){.step = t->step + 1,
                               .predictions = train_take_rows(t),
                               .learning_rate = train_learning_rate(&t->o, t->step)};
    if (!r->predictions)
        return err_set(e,
                       "step %lld: its sequences have fewer than two tokens each, so there is "
                       "nothing to predict",
                       (long long)r->step);
    int done = train_gradients(t, stop, r, e);
    if (done != 1) {
        t->order.position = position;
        return done;
    }
    double max = t->o.max_grad_norm, clip = max > 0 ? fmin(1, max / (r->grad_norm + 1e-6)) : 1;
    train_update(t, r->learning_rate, clip);
    if (t->x->err.set)
        return err_set(e, "%s", t->x->err.msg);
    t->step++;
    t->predictions += r->predictions;
    return 1;
}

json_t *train_record_json(const struct trainer *t, const struct train_record *r, double seconds)
{
    json_t *j = json_pack("{s:I, s:f}", "step", (json_int_t)r->step, "loss", r->loss);
    for (int i = 0; i < LOSS_COUNT; i++)
        if (train_loss_set(&t->o) >> i & 1)
            json_object_set_new(j, loss_table[i].name, json_real(r->losses[i]));
    json_object_set_new(j, "grad_norm", json_real(r->grad_norm));
    json_object_set_new(j, "learning_rate", json_real(r->learning_rate));
    json_object_set_new(j, "tokens", json_integer(t->predictions));
    json_object_set_new(j, "tokens_per_second",
                        json_integer(llround((double)r->predictions / seconds)));
    json_object_set_new(j, "peak_rss", json_integer(usage_peak_bytes()));
    return j;
}
