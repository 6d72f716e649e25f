/* Steps of a history: see steps.h. */
#include "steps.h"

#include "../../formats/stream.h"

static int input_is_sound(const json_t *input)
{
    const char *id = json_string_value(json_object_get(input, "id"));
    return json_is_string(json_object_get(input, "path")) && id && (!*id || digest_is(id));
}

static int step_is_sound(const json_t *step)
{
    const char *id = json_string_value(json_object_get(step, "id"));
    const json_t *inputs = json_object_get(step, "inputs"), *input;
    int sound = id && digest_is(id) && json_is_array(inputs) &&
                json_is_string(json_object_get(step, "tool"));
    size_t i;
    json_array_foreach(inputs, i, input)
        sound = sound && input_is_sound(input);
    return sound;
}

int steps_add(json_t *steps, const json_t *hist, const char *path, struct err *e)
{
    size_t i;
    json_t *step;
    if (hist && !json_is_array(hist))
        return err_set(e, "%s: damaged header: its hist is not a list", path);
    json_array_foreach(hist, i, step) {
        if (!step_is_sound(step))
            return err_set(e,
                           "%s: damaged header: step %zu of its hist is not {id, tool, inputs: "
                           "[{path, id}], ...} with digests for ids",
                           path, i + 1);
        const char *id = json_string_value(json_object_get(step, "id"));
        if (!json_object_get(steps, id))
            json_object_set(steps, id, step);
    }
    return 0;
}

json_t *steps_list(const json_t *steps)
{
    const char *id;
    json_t *list = json_array(), *step;
    json_object_foreach((json_t *)steps, id, step)
        json_array_append(list, step);
    return list;
}
