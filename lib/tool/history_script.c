/* The history of a stream as a shell script: see history.h. In: a header whose "hist" lists steps
 * {tool, options, operands, inputs: [{path, id}], id, ...}, parents before children. A step's input
 * was made by the earlier step that has the input's id; inputs without such a step are roots
 * (directories, texts, output of other programs) and must still be where they were. Intermediate
 * files keep the names that were typed, since those are part of the result's own history; pipes
 * become temporary files, read through the same descriptor: <(command) is /dev/fd/63 in bash,
 * /proc/self/fd/11 in zsh.
 *
 * A history is untrusted: anybody can write one. The script therefore calls only this project's
 * stream-writing tools, with options that they record, every word quoted. Refused: other options,
 * control characters, a result made by another program. */
#include <stdlib.h>
#include <string.h>

#include "../base/mem.h"
#include "../base/utf8.h"
#include "history.h"
#include "steps.h"

struct script {
    const json_t *steps; /* [step, ...] */
    int64_t n;
    json_t *made;    /* {id: number of the step that made it} */
    json_t **reads;  /* by step: {path: null} of its inputs, pipes left out */
    json_t **wanted; /* by step: {path: null}, the paths that later steps typed; "-": a pipe */
    int needs_bash;  /* sh knows descriptors of one digit */
    FILE *f;
};

static const json_t *step_at(const struct script *x, int64_t s)
{
    return json_array_get(x->steps, (size_t)s);
}

static const char *step_tool(const struct script *x, int64_t s)
{
    return json_string_value(json_object_get(step_at(x, s), "tool"));
}

static const char *input_text(const json_t *step, size_t i, const char *key)
{
    return json_string_value(
        json_object_get(json_array_get(json_object_get(step, "inputs"), i), key));
}

static size_t input_count(const json_t *step)
{
    return json_array_size(json_object_get(step, "inputs"));
}

/* Of a pipe that a path names; -1: the path is that of a file. */
static int descriptor_of(const char *path)
{
    static const char *const places[] = {"/dev/fd/", "/proc/self/fd/"};
    if (!strcmp(path, "-") || !strcmp(path, "/dev/stdin"))
        return 0;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        const char *number = path + strlen(places[i]);
        if (strncmp(path, places[i], strlen(places[i])))
            continue;
        size_t digits = strspn(number, "0123456789");
        if (digits && digits < 6 && !number[digits])
            return atoi(number);
    }
    return -1;
}

static void set_add(json_t *set, const char *text) { json_object_set_new(set, text, json_null()); }

/* -1: two steps with one id. */
static int script_open(struct script *x, const json_t *hist, const char *path, struct err *e)
{
    json_t *known = json_object();
    int failed = steps_add(known, hist, path, e);
    if (!failed && json_object_size(known) != json_array_size(hist))
        failed = err_set(e, "%s: its history has a step twice", path);
    json_decref(known);
    if (failed)
        return -1;
    *x = (struct script){.steps = hist, .n = (int64_t)json_array_size(hist), .made = json_object()};
    x->reads = mem_alloc((size_t)x->n * sizeof *x->reads);
    x->wanted = mem_alloc((size_t)x->n * sizeof *x->wanted);
    for (int64_t s = 0; s < x->n; s++) {
        const json_t *step = step_at(x, s);
        json_object_set_new(x->made, json_string_value(json_object_get(step, "id")),
                            json_integer(s));
        x->reads[s] = json_object();
        x->wanted[s] = json_object();
        for (size_t i = 0; i < input_count(step); i++)
            if (descriptor_of(input_text(step, i, "path")) < 0)
                set_add(x->reads[s], input_text(step, i, "path"));
    }
    return 0;
}

static void script_close(struct script *x)
{
    for (int64_t s = 0; s < x->n; s++) {
        json_decref(x->reads[s]);
        json_decref(x->wanted[s]);
    }
    free(x->reads);
    free(x->wanted);
    json_decref(x->made);
}

/* The step before `s` that makes its input i; -1: a root. Imports keep the id of their input, so a
 * path that a step itself reads is not its product. */
static int64_t producer(const struct script *x, int64_t s, size_t i)
{
    const json_t *step = step_at(x, s), *made = json_object_get(x->made, input_text(step, i, "id"));
    int64_t p = made ? json_integer_value(made) : -1;
    if (p < 0 || p >= s || json_object_get(x->reads[p], input_text(step, i, "path")) ||
        !hist_may_call(step_tool(x, p)))
        return -1;
    return p;
}

static int options_check(const struct script *x, int64_t s, const char *path, struct err *e)
{
    const char *name;
    json_t *value;
    json_object_foreach(json_object_get(step_at(x, s), "options"), name, value)
        if (!hist_may_give(name))
            return err_set(e, "%s: its history calls %s with --%s, which no history records", path,
                           step_tool(x, s), name);
    return 0;
}

static void want(struct script *x, int64_t s, const char *path)
{
    int descriptor = descriptor_of(path);
    x->needs_bash |= descriptor > 9;
    set_add(x->wanted[s], descriptor < 0 ? path : "-");
}

/* Determines, from the last step back, which steps are needed and under which names their products
 * are wanted. */
static int script_plan(struct script *x, const char *path, struct err *e)
{
    if (!hist_may_call(step_tool(x, x->n - 1)))
        return err_set(e, "%s was made by %s, which is not one of the tools that write streams",
                       path, step_tool(x, x->n - 1));
    set_add(x->wanted[x->n - 1], "");
    for (int64_t s = x->n - 1; s >= 0; s--) {
        if (!json_object_size(x->wanted[s]))
            continue;
        if (options_check(x, s, path, e))
            return -1;
        for (size_t i = 0; i < input_count(step_at(x, s)); i++) {
            int64_t p = producer(x, s, i);
            if (p >= 0)
                want(x, p, input_text(step_at(x, s), i, "path"));
        }
    }
    return 0;
}

/* The shell's word for a product of step s that is wanted at `path`. */
static void place_print(const struct script *x, int64_t s, const char *path)
{
    if (!*path)
        fputs("\"$1\"", x->f);
    else if (!strcmp(path, "-"))
        fprintf(x->f, "\"$tmp/%lld.tsz\"", (long long)s);
    else
        hist_word(path, x->f);
}

static void redirections_print(const struct script *x, int64_t s)
{
    const json_t *step = step_at(x, s);
    for (size_t i = 0; i < input_count(step); i++) {
        int descriptor = descriptor_of(input_text(step, i, "path"));
        int64_t p = producer(x, s, i);
        if (descriptor < 0 || p < 0)
            continue;
        fputc(' ', x->f);
        if (descriptor)
            fprintf(x->f, "%d", descriptor);
        fprintf(x->f, "< \"$tmp/%lld.tsz\"", (long long)p);
    }
}

/* The step as it was with the schedule of a leg. New reference */
static json_t *with_leg(const json_t *step, const json_t *leg)
{
    static const char *const keys[] = {"max-steps", "warmup-steps", "decay-steps"};
    json_t *copy = json_copy((json_t *)step), *all = json_copy(json_object_get(step, "options"));
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (json_is_integer(json_object_get(leg, keys[i])))
            json_object_set(all, keys[i], json_object_get(leg, keys[i]));
    json_object_set_new(copy, "options", all);
    return copy;
}

/* The directory that a step writes is its last operand, not -o. */
static int writes_directory(const json_t *step)
{
    const char *tool = json_string_value(json_object_get(step, "tool"));
    return tool && !strcmp(tool, "hf-export");
}

static void command_print(const struct script *x, int64_t s, const json_t *step)
{
    size_t n = json_array_size(json_object_get(step, "operands"));
    hist_words(step, n - (n && writes_directory(step)), x->f);
    redirections_print(x, s);
}

/* A training that went on after its last step (kd-train) has a command for each leg. Ends where the
 * name of the product follows. */
static void product_print(const struct script *x, int64_t s)
{
    const json_t *step = step_at(x, s), *legs = json_object_get(step, "continued");
    json_t *leg;
    size_t i;
    json_array_foreach(legs, i, leg) {
        json_t *before = with_leg(step, leg);
        command_print(x, s, before);
        fprintf(x->f, " --output-dir \"$tmp/%lld\"%s\n", (long long)s, i ? " --resume" : "");
        json_decref(before);
    }
    command_print(x, s, step);
    if (json_array_size(legs))
        fprintf(x->f, " --output-dir \"$tmp/%lld\" --resume", (long long)s);
    fputs(writes_directory(step) ? " " : " -o ", x->f);
}

/* Makes the product for the first path that wants it, and copies it for the others. */
static void step_print(const struct script *x, int64_t s)
{
    const char *path, *first = NULL;
    int several = json_array_size(json_object_get(step_at(x, s), "continued")) > 0;
    json_t *unused;
    json_object_foreach(x->wanted[s], path, unused) {
        if (*path && strcmp(path, "-")) {
            fputs("[ -e ", x->f);
            hist_word(path, x->f);
            fputs(" ] || ", x->f);
        }
        fputs(several ? "{ " : "", x->f);
        if (first) {
            fputs("cp ", x->f);
            place_print(x, s, first);
            fputc(' ', x->f);
        } else {
            product_print(x, s);
        }
        place_print(x, s, path);
        fputs(several ? "; }\n" : "\n", x->f);
        first = first ? first : path;
    }
}

static void roots_print(const struct script *x)
{
    json_t *told = json_object();
    for (int64_t s = 0; s < x->n; s++) {
        const json_t *step = step_at(x, s);
        for (size_t i = 0; i < input_count(step) && json_object_size(x->wanted[s]); i++) {
            const char *path = input_text(step, i, "path");
            if (producer(x, s, i) >= 0 || json_object_get(told, path))
                continue;
            set_add(told, path);
            fputs("# needs ", x->f);
            utf8_print(descriptor_of(path) ? path : "(standard input)", x->f);
            fprintf(x->f, ", id %s\n", input_text(step, i, "id"));
        }
    }
    json_decref(told);
}

static void script_print(const struct script *x, const json_t *head, const char *path)
{
    const char *id = json_string_value(json_object_get(head, "id"));
    const char *shell = x->needs_bash ? "bash" : "sh";
    fprintf(x->f, "#!/bin/%s\n# usage: %s THIS OUTPUT\n# The history that ", shell, shell);
    utf8_print(path, x->f);
    fputs(" carries, as its maker wrote it: read it before you run it.\n# Makes it again, with the "
          "same bytes on the same machine: kind ",
          x->f);
    utf8_print(json_string_value(json_object_get(head, "kind")), x->f);
    fprintf(x->f, ", id %s\n", id ? id : "(none)");
    roots_print(x);
    fprintf(x->f,
            "set -e\n: \"${1:?usage: %s THIS OUTPUT}\"\ntmp=$(mktemp -d)\n"
            "trap 'rm -rf \"$tmp\"' EXIT\n",
            shell);
    for (int64_t s = 0; s < x->n; s++)
        step_print(x, s);
}

/* Quoted words may contain newlines and tabs, but nothing else that a terminal would act on. */
static int script_is_visible(char *text)
{
    int visible = 1;
    for (char *line = text; line && visible; line = line ? line + 1 : NULL) {
        char *end = strpbrk(line, "\n\t"), saved = end ? *end : 0;
        if (end)
            *end = 0;
        visible = utf8_is_visible(line);
        if (end)
            *end = saved;
        line = end;
    }
    return visible;
}

int hist_script(const json_t *head, const char *path, FILE *f, struct err *e)
{
    const json_t *hist = json_object_get(head, "hist");
    struct script x;
    if (!json_array_size(hist))
        return err_set(e, "%s has no history: it was not made by one of these tools", path);
    if (script_open(&x, hist, path, e))
        return -1;
    if (!script_plan(&x, path, e)) {
        char *text = NULL;
        size_t n = 0;
        x.f = mem_stream_open(&text, &n);
        script_print(&x, head, path);
        mem_stream_close(x.f);
        if (script_is_visible(text))
            fputs(text, f);
        else
            err_set(e, "%s: its history holds control characters", path);
        free(text);
    }
    script_close(&x);
    return e->set ? -1 : 0;
}
