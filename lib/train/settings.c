/* What a resumed run must share with the one before: see settings.h. */
#include "settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/mem.h"
#include "../base/text.h"
#include "stream.h"

static const char LEGS[] = "continued";

json_t *settings_of(const struct train_options *o, const struct data_sources *data,
                    const char *init, const char *student, const char *teacher)
{
    json_t *run = train_options_json(o);
    json_object_set_new(run, "init", json_string(init));
    json_object_set_new(run, "student", json_string(student));
    json_object_set_new(run, "teacher", json_string(teacher));
    if (o->stream)
        json_object_set_new(run, "teacher-form", json_string(train_stream_form(o->stream)));
    json_object_set_new(run, "data", data_sources_id(data));
    return run;
}

const json_t *settings_legs(const json_t *run) { return json_object_get(run, LEGS); }

/* ---- is it the same run? */

static char *setting_text(const json_t *value)
{
    return value ? json_dumps(value, JSON_ENCODE_ANY) : mem_string("absent");
}

/* A digest of values that a checkpoint lacks was not known then. */
static int may_differ(const char *key, const json_t *old, const json_t *new)
{
    return text_ends(key, "_digest") && (!old || !new);
}

static int settings_differ(const char *path, const char *key, const json_t *old, const json_t *new,
                           struct err *e)
{
    char *a = setting_text(old), *b = setting_text(new);
    int to_end = !strcmp(key, "max-steps");
    err_set(e, "%s was written with %s %s, not %s: --resume cannot continue a different run%s",
            path, key, a, b,
            to_end ? "; its schedule depends on the last step, after which more can follow" : "");
    free(a);
    free(b);
    return -1;
}

/* The legs of a run that goes on as `now` from a checkpoint of `was`: those that came before it,
 * and perhaps `was`. NULL: none. New reference */
static json_t *legs_before(const json_t *was, const json_t *now, int64_t step, char note[200])
{
    json_t *legs = json_copy(json_object_get(was, LEGS)), *leg = NULL;
    if (!schedule_agrees(was, now, step) && (leg = schedule_leg(was, now, step, note))) {
        legs = legs ? legs : json_array();
        json_array_append_new(legs, leg);
    }
    return legs;
}

/* Every setting that shapes the trajectory must be unchanged; one absent then must be absent
 * now. Settings of the schedule may differ in what they say of the steps after `step`. */
int settings_check(const char *path, const json_t *head, const json_t *now, struct err *e)
{
    const json_t *was = json_object_get(head, "run");
    int64_t step = json_integer_value(json_object_get(head, "step"));
    char note[200];
    const char *key;
    if (!json_is_object(was))
        return err_set(e, "%s does not say which run it belongs to", path);
    json_t *either = json_copy((json_t *)was), *legs = legs_before(was, now, step, note), *value;
    int goes_on = schedule_agrees(was, now, step) ||
                  json_array_size(legs) > json_array_size(json_object_get(was, LEGS));
    json_object_update(either, (json_t *)now);
    json_object_foreach(either, key, value) {
        const json_t *old = strcmp(key, LEGS) ? json_object_get(was, key) : legs,
                     *new = json_object_get(now, key);
        if (e->set || json_equal(old, new) || (!old && !new) || may_differ(key, old, new) ||
            (goes_on && schedule_has_setting(key)))
            continue;
        settings_differ(path, key, old, new, e);
    }
    json_decref(either);
    json_decref(legs);
    return e->set ? -1 : 0;
}

int settings_follow(const char *path, const json_t *head, json_t *now, char note[200],
                    struct err *e)
{
    const json_t *was = json_object_get(head, "run");
    int64_t step = json_integer_value(json_object_get(head, "step")),
            most = json_integer_value(json_object_get(now, "max-steps"));
    if (step > most)
        return err_set(e, "%s has done %lld steps, more than --max-steps %lld", path,
                       (long long)step, (long long)most);
    json_t *legs = legs_before(was, now, step, note);
    if (legs)
        json_object_set_new(now, LEGS, legs);
    return settings_check(path, head, now, e);
}

/* The step of a header's history that made what it heads. */
static const json_t *own_step(const json_t *head)
{
    const json_t *hist = json_object_get(head, "hist"), *id = json_object_get(head, "id");
    for (size_t i = json_array_size(hist); i-- > 0;)
        if (json_equal(json_object_get(json_array_get(hist, i), "id"), id))
            return json_array_get(hist, i);
    return NULL;
}

static char *fact_text(const char *key, const json_t *value)
{
    return value || strcmp(key, "processes") ? setting_text(value) : mem_string("1");
}

void settings_note(const json_t *was, const json_t *now, char note[700])
{
    static const char *const keys[] = {"device", "compute", "threads", "math", "processes"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const json_t *old = json_object_get(own_step(was), keys[i]),
                     *new = json_object_get(own_step(now), keys[i]);
        size_t used = strlen(note);
        if (json_equal(old, new) || (!old && !new))
            continue;
        char *a = fact_text(keys[i], old), *b = fact_text(keys[i], new);
        snprintf(note + used, 700 - used, "%s%s is now %s, was %s: the result may differ slightly",
                 used ? "; " : "", keys[i], b, a);
        free(a);
        free(b);
    }
}
