/* --algorithms FILE: how the products of a device are computed, kept from run to run.
 *
 *   {"for": "cuBLASLt 130100 on NVIDIA H100", "products": {"bf16 N T 4096 x ...": "1f00...", ...}}
 *
 * A product that FILE does not have is timed when it first occurs, and FILE is replaced at once, so
 * that a run that ends early can be resumed by the same algorithms. Several processes only read it:
 * each would time for itself, and they might choose differently. Refused: a file that is not one of
 * these, or is of another library or device. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../formats/json.h"
#include "../base/file_out.h"
#include "../base/world.h"
#include "tool_private.h"

static const char *find(void *tool, const char *product)
{
    struct tool *t = tool;
    return json_string_value(json_object_get(json_object_get(t->choices, "products"), product));
}

static void save(struct tool *t)
{
    char *text = json_dumps(t->choices, JSON_INDENT(1));
    struct file_out f = {.fd = -1};
    if (file_create(&f, t->algorithms, &t->err) ||
        file_append(&f, text, (int64_t)strlen(text), &t->err) || file_publish(&f, &t->err))
        file_abandon(&f);
    free(text);
    tool_check(t);
}

static void chosen(void *tool, const char *product, const char *algorithm)
{
    struct tool *t = tool;
    json_object_set_new(json_object_get(t->choices, "products"), product, json_string(algorithm));
    save(t);
}

static json_t *read_choices(struct tool *t, const char *made_for)
{
    static const struct json_limits limits = {16 << 20, 1 << 17, 4};
    json_t *j = json_parse_file(t->algorithms, &limits, &t->err);
    tool_check(t);
    const char *was_for = json_string_value(json_object_get(j, "for"));
    if (was_for && strcmp(was_for, made_for))
        tool_die(t, "--algorithms: %s is of %s, not %s: name another file", t->algorithms, was_for,
                 made_for);
    if (!was_for || !json_is_object(json_object_get(j, "products")))
        tool_die(t, "--algorithms: %s has no algorithms of matrix products: name another file",
                 t->algorithms);
    return j;
}

void tool_algorithms(struct tool *t)
{
    const char *made_for = exec_algorithms_for(&t->exec);
    int is_there = !access(t->algorithms, F_OK), several = world_size() > 1;
    if (several && !is_there)
        tool_die(t,
                 "--algorithms: %s does not exist, and several processes do not make it: run one "
                 "process first",
                 t->algorithms);
    t->choices = is_there ? read_choices(t, made_for)
                          : json_pack("{s:s, s:{}}", "for", made_for, "products");
    if (!several)
        save(t); /* if it cannot be written, better to know now */
    t->choose = (struct algorithms){find, several ? NULL : chosen, t};
    t->exec.algorithms = &t->choose;
}
