/* Options of training: the sum of losses, defaults and checks, and the options that a checkpoint
 * records. See options.h. */
#include "options.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../base/text.h"
#include "../data/data.h"
#include "sum.h"

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

/* The end of a leading "0.5ce", "0.5*ce" or "ce", or NULL. */
static const char *parse_term(const char *text, double weights[LOSS_COUNT])
{
    double weight;
    const char *name = sum_term(text, &weight);
    if (!name)
        return NULL;
    size_t length = strcspn(name, "+");
    int loss = loss_find(name, length);
    if (loss < 0 || weights[loss] != 0)
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
                   "weight from 1e-6 to 1e6, not \"%s\"",
                   names, text);
}

int train_options_parse(struct train_options *o, struct err *e)
{
    const char *order = o->typed.order;
    o->shuffled = !order || text_choice("order", order, "sequential", "shuffled", e);
    return e->set || loss_on_check(o->loss_on, e) ||
                   schedule_parse(o->typed.schedule, &o->schedule.kind, e) ||
                   train_parse_loss(o->typed.loss, o->weights, e) ||
                   train_states_resolve(&o->states, &o->typed.states, e) ||
                   train_lora_resolve(&o->lora, e)
               ? -1
               : 0;
}

static int losses_need_teacher(const struct train_options *o)
{
    int needed = 0;
    for (int i = 0; i < LOSS_COUNT; i++)
        needed |= o->weights[i] != 0 && loss_table[i].needs_teacher;
    return needed;
}

int train_needs_teacher(const struct train_options *o)
{
    return o->states.n || losses_need_teacher(o);
}

int train_teacher_check(const struct train_options *o, const char *model, const char *logits,
                        const char *rest, struct err *e)
{
    const char *loss = o->typed.loss;
    if (model && logits)
        return err_set(e, "--teacher and --teacher-logits are both teachers: give one");
    if (o->states.n && !model)
        return err_set(e, "--states needs a --teacher%s",
                       logits ? ": logits have no hidden states" : "");
    if ((model || logits) && !train_needs_teacher(o))
        return err_set(e, "--loss %s does not use --teacher%s", loss, logits ? "-logits" : "");
    if (!model && !logits && train_needs_teacher(o))
        return err_set(e, "--loss %s needs a --teacher, or --teacher-logits", loss);
    if (!logits && strcmp(rest, "auto"))
        return err_set(e, "--teacher-rest %s has no effect without --teacher-logits", rest);
    return 0;
}

unsigned train_loss_set(const struct train_options *o)
{
    unsigned set = LOSS_BIT(ce);
    for (int i = 0; i < LOSS_COUNT; i++)
        set |= o->weights[i] != 0 ? 1u << i : 0;
    return set;
}

/* Does a loss of the sum depend on the temperature? */
static int temperature_matters(const struct train_options *o)
{
    int matters = 0;
    for (int i = 0; i < LOSS_COUNT; i++)
        matters |= o->weights[i] != 0 && loss_table[i].has_temperature;
    return matters;
}

/* Kernels take both as f32, hence the bounds. --jsd-beta is recorded only for runs that it
 * affects. */
static int losses_resolve(struct train_options *o, struct err *e)
{
    if (!(o->temperature >= 1e-3 && o->temperature <= 1e3))
        return err_set(e, "--temperature must be from 0.001 to 1000, not %g", o->temperature);
    if ((o->temperature != 1 || o->temperature_squared) && !temperature_matters(o))
        return err_set(e, "--temperature%s has no effect: no loss in --loss has a temperature",
                       o->temperature_squared ? "-squared" : "");
    if (o->weights[LOSS_jsd] == 0) {
        if (!isnan(o->jsd_beta))
            return err_set(e, "--jsd-beta has no effect: --loss does not contain jsd");
        return 0;
    }
    if (isnan(o->jsd_beta))
        o->jsd_beta = 0.5;
    if (!(o->jsd_beta >= 1e-3 && o->jsd_beta <= 1 - 1e-3))
        return err_set(e, "--jsd-beta must be from 0.001 to 0.999, not %g", o->jsd_beta);
    return 0;
}

/* Kernels take these as f32, in which a small value may be 0, one near 1 be 1, a large one
 * infinite. NaN passes none of the comparisons. */
static int optimiser_check(const struct train_options *o, struct err *e)
{
    const struct {
        const char *name;
        double value;
        int positive;
        double below;
        const char *rule;
    } rows[] = {{"learning-rate", o->schedule.learning_rate, 1, INFINITY, "above 0"},
                {"min-learning-rate", o->schedule.min_learning_rate, 0, INFINITY, "-1, 0 or above"},
                {"weight-decay", o->weight_decay, 0, INFINITY, "0 or above"},
                {"max-grad-norm", o->max_grad_norm, 0, INFINITY, "0 or above"},
                {"adam-beta1", o->beta1, 0, 1, "at least 0 and below 1"},
                {"adam-beta2", o->beta2, 0, 1, "at least 0 and below 1"},
                {"adam-epsilon", o->epsilon, 1, INFINITY, "above 0"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        double value = rows[i].value, f = (float)value;
        if (f >= 0 && f < rows[i].below && (f > 0 || (value == 0 && !rows[i].positive)))
            continue;
        char as_f32[40] = "";
        if (f != value && (f == 0 || f == rows[i].below))
            snprintf(as_f32, sizeof as_f32, " (%g in f32)", f);
        return err_set(e, "--%s must be %s, not %.15g%s", rows[i].name, rows[i].rule, value,
                       as_f32);
    }
    return 0;
}

int train_options_resolve(struct train_options *o, struct err *e)
{
    if (schedule_resolve(&o->schedule, e))
        return -1;
    if (o->batch_size < 1 || o->batch_size > 1 << 20 || o->accumulation < 1 ||
        o->accumulation > 1 << 20)
        return err_set(e,
                       "--batch-size and --gradient-accumulation-steps must be from 1 to %d, not "
                       "%lld and %lld",
                       1 << 20, (long long)o->batch_size, (long long)o->accumulation);
    if (o->seq_length < 0 || o->seq_length == 1)
        return err_set(e, "--seq-length must be at least 2 to predict a token, not %lld",
                       (long long)o->seq_length);
    if (o->states.n && o->states.balanced && !losses_need_teacher(o))
        return err_set(e, "--states-weight auto balances the states with losses on the teacher's "
                          "logits, of which --loss has none: give a number");
    if (optimiser_check(o, e))
        return -1;
    return losses_resolve(o, e);
}

/* ce and kl always, others if they are in the sum, as earlier releases recorded them. */
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

static json_t *nested_json(const struct nested_list *l)
{
    json_t *j = json_array();
    for (int64_t i = 0; i < l->n; i++)
        json_array_append_new(j, json_pack("[s, f]", l->models[i].name, l->models[i].weight));
    return j;
}

json_t *train_options_json(const struct train_options *o)
{
    json_t *j = json_object();
    schedule_to_json(&o->schedule, j);
    const struct {
        const char *name;
        int64_t value;
    } integers[] = {{"batch-size", o->batch_size},
                    {"gradient-accumulation-steps", o->accumulation},
                    {"seed", o->seed}};
    if (o->seq_length)
        json_object_set_new(j, "seq-length", json_integer(o->seq_length));
    const struct {
        const char *name;
        double value;
    } reals[] = {{"weight-decay", o->weight_decay},
                 {"adam-beta1", o->beta1},
                 {"adam-beta2", o->beta2},
                 {"adam-epsilon", o->epsilon},
                 {"max-grad-norm", o->max_grad_norm}};
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++)
        json_object_set_new(j, integers[i].name, json_integer(integers[i].value));
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++)
        json_object_set_new(j, reals[i].name, json_real(reals[i].value));
    losses_json(o, j);
    if (o->nested.n)
        json_object_set_new(j, "widths", nested_json(&o->nested));
    train_states_to_json(&o->states, j);
    train_lora_to_json(&o->lora, j);
    json_object_set_new(j, "loss-on", json_string(o->loss_on));
    json_object_set_new(
        j, "order", json_string(o->shuffled ? "shuffled by a keyed permutation" : "sequential"));
    return j;
}
