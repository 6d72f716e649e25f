/* Learning-rate schedules: see schedule.h. */
#include "schedule.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../base/minmax.h"

static const char *const names[] = {"cosine", "linear", "wsd", "constant"};
enum { KINDS = sizeof names / sizeof *names };

int schedule_parse(const char *name, enum schedule_kind *kind, struct err *e)
{
    for (int i = 0; i < KINDS; i++)
        if (!strcmp(name, names[i])) {
            *kind = (enum schedule_kind)i;
            return 0;
        }
    return err_set(e, "--schedule must be cosine, linear, wsd or constant, not \"%s\"", name);
}

static int64_t default_decay(const struct schedule *s)
{
    int64_t rest = max64(0, s->max_steps - s->warmup_steps);
    if (s->kind == SCHEDULE_CONSTANT)
        return 0;
    return s->kind == SCHEDULE_WSD ? min64(rest, (s->max_steps + 4) / 5) : rest;
}

/* The lowest rate of a constant schedule is its peak, or it would not be constant. */
static int constant_check(const struct schedule *s, struct err *e)
{
    if (s->decay_steps)
        return err_set(e, "--decay-steps has no effect: --schedule constant does not decay");
    if (s->min_learning_rate != s->learning_rate)
        return err_set(e, "--min-learning-rate has no effect: --schedule constant does not decay");
    return 0;
}

static double default_lowest(const struct schedule *s)
{
    if (s->kind == SCHEDULE_CONSTANT)
        return s->learning_rate;
    return s->kind == SCHEDULE_COSINE ? s->learning_rate / 10 : 0;
}

int schedule_resolve(struct schedule *s, struct err *e)
{
    if (s->max_steps < 1)
        return err_set(e, "--max-steps N is required");
    if (s->warmup_steps == -1)
        s->warmup_steps = (s->max_steps + 19) / 20;
    if (s->min_learning_rate == -1)
        s->min_learning_rate = default_lowest(s);
    if (s->warmup_steps < 0)
        return err_set(e, "--warmup-steps must be -1 or at least 0, not %lld",
                       (long long)s->warmup_steps);
    if (s->decay_steps == -1)
        s->decay_steps = default_decay(s);
    if (s->kind == SCHEDULE_CONSTANT)
        return constant_check(s, e);
    int64_t most = max64(0, s->max_steps - s->warmup_steps);
    if (s->decay_steps >= 0 && s->decay_steps <= most)
        return 0;
    return err_set(e,
                   "--decay-steps must be -1 or from 0 to %lld, the steps after the warm-up, not "
                   "%lld",
                   (long long)most, (long long)s->decay_steps);
}

double schedule_rate(const struct schedule *s, int64_t step)
{
    int64_t decayed = step - (s->max_steps - s->decay_steps);
    if (step < s->warmup_steps)
        return s->learning_rate * (double)(step + 1) / (double)s->warmup_steps;
    if (decayed <= 0)
        return s->learning_rate;
    double x = (double)decayed / (double)s->decay_steps, span = s->learning_rate;
    span -= s->min_learning_rate;
    if (s->kind == SCHEDULE_COSINE)
        return s->min_learning_rate + 0.5 * span * (1 + cos(M_PI * x));
    return s->min_learning_rate + span * (1 - x);
}

/* ---- as a checkpoint records it */

void schedule_to_json(const struct schedule *s, json_t *run)
{
    /* in this order a resumed run is told what differs, the number of steps last */
    json_object_set_new(run, "learning-rate", json_real(s->learning_rate));
    json_object_set_new(run, "min-learning-rate", json_real(s->min_learning_rate));
    if (s->kind != SCHEDULE_COSINE)
        json_object_set_new(run, "schedule", json_string(names[s->kind]));
    json_object_set_new(run, "max-steps", json_integer(s->max_steps));
    json_object_set_new(run, "warmup-steps", json_integer(s->warmup_steps));
    if (s->kind != SCHEDULE_COSINE || s->decay_steps != default_decay(s))
        json_object_set_new(run, "decay-steps", json_integer(s->decay_steps));
}

int schedule_has_setting(const char *key)
{
    static const char *const keys[] = {"max-steps",         "warmup-steps", "learning-rate",
                                       "min-learning-rate", "schedule",     "decay-steps"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!strcmp(key, keys[i]))
            return 1;
    return 0;
}

/* -1: the settings are not those of a schedule */
static int schedule_from_json(const json_t *run, struct schedule *s)
{
    const json_t *kind = json_object_get(run, "schedule"),
                 *decay = json_object_get(run, "decay-steps");
    struct err ignored = {0};
    *s = (struct schedule){
        .max_steps = json_integer_value(json_object_get(run, "max-steps")),
        .warmup_steps = json_integer_value(json_object_get(run, "warmup-steps")),
        .decay_steps = decay ? json_integer_value(decay) : -1,
        .learning_rate = json_real_value(json_object_get(run, "learning-rate")),
        .min_learning_rate = json_real_value(json_object_get(run, "min-learning-rate"))};
    if (kind &&
        (!json_is_string(kind) || schedule_parse(json_string_value(kind), &s->kind, &ignored)))
        return -1;
    return schedule_resolve(s, &ignored);
}

int schedule_agrees(const json_t *was, const json_t *now, int64_t steps)
{
    struct schedule a, b;
    if (schedule_from_json(was, &a) || schedule_from_json(now, &b) || steps > a.max_steps ||
        steps > b.max_steps)
        return 0;
    for (int64_t i = 0; i < steps; i++)
        if (schedule_rate(&a, i) != schedule_rate(&b, i))
            return 0;
    return 1;
}

json_t *schedule_leg(const json_t *was, const json_t *now, int64_t steps, char note[200])
{
    struct schedule a, b;
    if (schedule_from_json(was, &a) || schedule_from_json(now, &b) || a.kind != b.kind ||
        a.learning_rate != b.learning_rate || a.min_learning_rate != b.min_learning_rate ||
        steps != a.max_steps || steps >= b.max_steps)
        return NULL;
    snprintf(note, 200,
             "--schedule %s depends on the last step, which now is %lld: the learning rate goes "
             "from %.3g in step %lld to %.3g in step %lld",
             names[a.kind], (long long)b.max_steps, schedule_rate(&a, steps - 1), (long long)steps,
             schedule_rate(&b, steps), (long long)steps + 1);
    return json_pack("{s:I, s:I, s:I}", "max-steps", (json_int_t)a.max_steps, "warmup-steps",
                     (json_int_t)a.warmup_steps, "decay-steps", (json_int_t)a.decay_steps);
}
