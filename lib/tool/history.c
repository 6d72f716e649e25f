/* The history of a stream as a shell script: see dump.h. In: a header whose "hist" lists steps
 * {tool, options, operands, inputs: [{path, id}], id, ...}, parents before children. A step's input
 * is made by the earlier step that has the input's id; inputs without such a step are roots
 * (directories, texts) and must lie where they lay. Intermediate files keep the names that were
 * typed, since those are part of the result's own history; what came through a pipe goes through a
 * temporary file. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "dump.h"

/* ---- one command */

static void word_print(const char *s, FILE *f)
{
    if (*s &&
        strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:=,+%@-") ==
            strlen(s)) {
        fputs(s, f);
        return;
    }
    fputc('\'', f);
    for (; *s; s++)
        if (*s == '\'')
            fputs("'\\''", f);
        else
            fputc(*s, f);
    fputc('\'', f);
}

static void option_print(const char *name, const json_t *value, FILE *f)
{
    for (size_t i = 0; i < json_array_size(value); i++)
        option_print(name, json_array_get(value, i), f);
    if (json_is_array(value) || json_is_object(value) || json_is_false(value))
        return;
    fputs(" --", f);
    /* names come from outside: nothing but what options are made of */
    for (const char *c = name; *c; c++)
        if (isalnum((unsigned char)*c) || *c == '-' || *c == '_')
            fputc(*c, f);
    if (json_is_true(value))
        return;
    fputc(' ', f);
    char *text = json_is_string(value) ? mem_string(json_string_value(value))
                                       : json_dumps(value, JSON_ENCODE_ANY);
    word_print(text, f);
    free(text);
}

void hist_command(const json_t *step, FILE *f)
{
    const char *tool = json_string_value(json_object_get(step, "tool")),
               *device = json_string_value(json_object_get(step, "device")), *key;
    const json_t *operands = json_object_get(step, "operands"),
                 *compute = json_object_get(step, "compute"),
                 *threads = json_object_get(step, "threads");
    json_t *value;
    int dashes = 0;
    word_print(tool ? tool : "?", f);
    json_object_foreach(json_object_get(step, "options"), key, value) option_print(key, value, f);
    if (device)
        option_print("device", json_object_get(step, "device"), f);
    if (json_is_string(compute))
        option_print("compute", compute, f);
    if (json_is_integer(threads))
        option_print("threads", threads, f);
    for (size_t i = 0; i < json_array_size(operands); i++) {
        const char *word = json_string_value(json_array_get(operands, i));
        if (word && word[0] == '-' && word[1] && !dashes++)
            fputs(" --", f);
        fputc(' ', f);
        word_print(word ? word : "?", f);
    }
}

/* ---- the script */

/* Where the product of a step is wanted: the paths that later steps typed; "-": in a temporary
 * file. */
struct target {
    const char **paths;
    int n;
};

static const char *input_text(const json_t *step, size_t i, const char *key)
{
    const char *s = json_string_value(
        json_object_get(json_array_get(json_object_get(step, "inputs"), i), key));
    return s ? s : "";
}

static size_t input_count(const json_t *step)
{
    return json_array_size(json_object_get(step, "inputs"));
}

/* hf-import and its like keep the id of their input: then a path that the step itself reads is no
 * product of it. */
static int step_reads(const json_t *step, const char *path)
{
    for (size_t i = 0; i < input_count(step); i++)
        if (!strcmp(input_text(step, i, "path"), path))
            return strcmp(path, "-") != 0;
    return 0;
}

/* The step before `before` that makes what input i of `step` is; -1: a root. */
static int64_t producer(const json_t *hist, const json_t *step, size_t i, int64_t before)
{
    const char *id = input_text(step, i, "id");
    for (int64_t p = before - 1; p >= 0 && *id; p--) {
        const json_t *other = json_array_get(hist, (size_t)p);
        const char *made = json_string_value(json_object_get(other, "id"));
        if (made && !strcmp(made, id))
            return step_reads(other, input_text(step, i, "path")) ? -1 : p;
    }
    return -1;
}

static void target_add(struct target *t, const char *path)
{
    for (int i = 0; i < t->n; i++)
        if (!strcmp(t->paths[i], path))
            return;
    t->paths = mem_grow(t->paths, (size_t)(t->n + 1) * sizeof *t->paths);
    t->paths[t->n++] = path;
}

static void step_print(const json_t *hist, int64_t s, const char *path, FILE *f)
{
    const json_t *step = json_array_get(hist, (size_t)s);
    int piped = !strcmp(path, "-");
    if (*path && !piped) {
        fputs("[ -e ", f);
        word_print(path, f);
        fputs(" ] || ", f);
    }
    hist_command(step, f);
    for (size_t i = 0; i < input_count(step); i++)
        if (!strcmp(input_text(step, i, "path"), "-") && producer(hist, step, i, s) >= 0)
            fprintf(f, " < \"$tmp/%lld.tsz\"", (long long)producer(hist, step, i, s));
    fputs(" -o ", f);
    if (piped)
        fprintf(f, "\"$tmp/%lld.tsz\"", (long long)s);
    else if (*path)
        word_print(path, f);
    else
        fputs("\"$1\"", f);
    fputc('\n', f);
}

static void roots_print(const json_t *hist, const struct target *targets, int64_t n, FILE *f)
{
    struct target told = {0};
    for (int64_t s = 0; s < n; s++) {
        const json_t *step = json_array_get(hist, (size_t)s);
        for (size_t i = 0; i < input_count(step) && targets[s].n; i++) {
            const char *path = input_text(step, i, "path");
            int known = told.n;
            if (producer(hist, step, i, s) >= 0)
                continue;
            target_add(&told, path);
            if (told.n == known)
                continue;
            fputs("# needs ", f);
            dump_text(strcmp(path, "-") ? path : "(standard input)", f);
            fputs(", id ", f);
            dump_text(input_text(step, i, "id"), f);
            fputc('\n', f);
        }
    }
    free(told.paths);
}

int hist_script(const json_t *head, const char *path, FILE *f, struct err *e)
{
    const json_t *hist = json_object_get(head, "hist");
    int64_t n = (int64_t)json_array_size(hist);
    const char *id = json_string_value(json_object_get(head, "id")),
               *kind = json_string_value(json_object_get(head, "kind"));
    if (!n)
        return err_set(e, "%s has no history: it was not made by a tool", path);
    struct target *targets = mem_alloc((size_t)n * sizeof *targets);
    target_add(&targets[n - 1], "");
    for (int64_t s = n - 1; s >= 0; s--) {
        const json_t *step = json_array_get(hist, (size_t)s);
        for (size_t i = 0; i < input_count(step) && targets[s].n; i++) {
            int64_t p = producer(hist, step, i, s);
            if (p >= 0)
                target_add(&targets[p], input_text(step, i, "path"));
        }
    }
    fputs("#!/bin/sh\n# usage: sh THIS OUTPUT\n# Makes again, to the same bytes on the same "
          "machine, the stream of kind ",
          f);
    dump_text(kind ? kind : "?", f);
    fputs(", id ", f);
    dump_text(id ? id : "?", f);
    fputc('\n', f);
    roots_print(hist, targets, n, f);
    fputs("set -e\n: \"${1:?usage: sh THIS OUTPUT}\"\ntmp=$(mktemp -d)\ntrap 'rm -rf \"$tmp\"' "
          "EXIT\n",
          f);
    for (int64_t s = 0; s < n; s++) {
        for (int i = 0; i < targets[s].n; i++)
            step_print(hist, s, targets[s].paths[i], f);
        free(targets[s].paths);
    }
    free(targets);
    return 0;
}
