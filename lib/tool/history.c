/* A step of a history as a command, and what a history may call: see history.h. */
#include <stdlib.h>
#include <string.h>

#include "../base/mem.h"
#include "../model/model.h"
#include "history.h"
#include "steps.h"

/* tests/tools/ts.bats compares both lists, and the options of axes.def, with the tools' --help. */
static const char *const tools[] = {
    "calib-acts",   "dump-logits", "gguf-import",      "hf-export",    "hf-import",   "kd-train",
    "probe-layers", "rank",        "score-importance", "score-taylor", "score-vocab", "slice-model",
    "tokenize",     "ts-cat"};
/* clang-format off */
static const char *const options[] = {
    "adam-beta1",
    "adam-beta2",
    "adam-epsilon",
    "algorithms",
    "any-model",
    "any-tokenizer",
    "batch",
    "batch-size",
    "block-size",
    "bos",
    "by",
    "chat-template",
    "choices",
    "context",
    "data",
    "decay-steps",
    "doc-sep",
    "drop-added",
    "drop-attention",
    "drop-layers",
    "drop-mlp",
    "dtype",
    "experts",
    "field",
    "format",
    "first-sequence",
    "first-window",
    "full",
    "gradient-accumulation-steps",
    "greedy",
    "head",
    "hidden",
    "ids",
    "ignore-key",
    "in-order",
    "init",
    "jsd-beta",
    "learning-rate",
    "lift",
    "limit",
    "lora",
    "lora-alpha",
    "lora-from",
    "lora-targets",
    "loss",
    "loss-on",
    "magnitude",
    "mamba",
    "max-grad-norm",
    "max-shard-size",
    "max-steps",
    "max-tokens",
    "merge",
    "merge-heads",
    "min-learning-rate",
    "model",
    "neuron",
    "order",
    "pack",
    "random",
    "rank",
    "repair",
    "repair-ridge",
    "repair-tokens",
    "row-bos",
    "sample",
    "schedule",
    "score",
    "seed",
    "seq",
    "seq-length",
    "sequences",
    "sort",
    "states",
    "states-loss",
    "states-norm",
    "states-weight",
    "tail",
    "teacher",
    "teacher-logits",
    "teacher-rest",
    "temperature",
    "temperature-squared",
    "top-k",
    "variants",
    "vocab-of",
    "warmup-steps",
    "weight-decay",
    "widths",
    "windows",
};
/* clang-format on */

static int is_listed(const char *const *list, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(list[i], name))
            return 1;
    return 0;
}
#define IS_LISTED(list, name) is_listed(list, sizeof(list) / sizeof *(list), name)

static int is_size_of_axis(const char *name)
{
    for (enum axis x = 0; x < AXIS_COUNT; x++)
        if (axis_rows[x].option && !strcmp(axis_rows[x].option, name))
            return 1;
    return 0;
}

const json_t *hist_origin(const json_t *steps)
{
    const json_t *origin = NULL;
    for (size_t s = json_array_size(steps); s-- > 0;) {
        const json_t *step = json_array_get(steps, s);
        if (!origin || json_equal(json_object_get(step, "id"), json_object_get(origin, "id")))
            origin = json_array_get(json_object_get(step, "inputs"), 0);
        if (!origin)
            break;
    }
    return origin;
}

int hist_may_call(const char *tool) { return IS_LISTED(tools, tool); }

int hist_may_give(const char *option)
{
    return IS_LISTED(options, option) || is_size_of_axis(option);
}

/* ---- one command */

void hist_word(const char *s, FILE *f)
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

/* 15 digits, or where they give another number, 17. */
static char *real_text(const json_t *value)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
    if (strtod(text, NULL) == json_real_value(value))
        return text;
    free(text);
    return json_dumps(value, JSON_ENCODE_ANY);
}

static char *value_text(const json_t *value)
{
    if (json_is_string(value))
        return mem_string(json_string_value(value));
    return json_is_real(value) ? real_text(value) : json_dumps(value, JSON_ENCODE_ANY);
}

/* An option that is not given is recorded with its default: 0 for the size of an axis (OPT_SIZES),
 * -1 for the seed of `rank --random`. */
static int is_not_given(const char *name, const json_t *value)
{
    if (!json_is_integer(value))
        return 0;
    return is_size_of_axis(name) ? !json_integer_value(value) : json_integer_value(value) < 0;
}

static void option_print(const char *name, const json_t *value, FILE *f)
{
    for (size_t i = 0; i < json_array_size(value); i++)
        option_print(name, json_array_get(value, i), f);
    if (json_is_array(value) || json_is_object(value) || json_is_false(value) ||
        is_not_given(name, value))
        return;
    fputs(" --", f);
    hist_word(name, f);
    if (json_is_true(value))
        return;
    fputc(' ', f);
    char *text = value_text(value);
    hist_word(text, f);
    free(text);
}

void hist_words(const json_t *step, size_t n, FILE *f)
{
    const char *tool = json_string_value(json_object_get(step, "tool")),
               *device = json_string_value(json_object_get(step, "device")), *key;
    const json_t *operands = json_object_get(step, "operands"),
                 *compute = json_object_get(step, "compute"),
                 *threads = json_object_get(step, "threads"),
                 *processes = json_object_get(step, "processes");
    json_t *value;
    int dashes = 0;
    if (json_is_integer(processes))
        fprintf(f, "mpirun -n %lld ", (long long)json_integer_value(processes));
    hist_word(tool ? tool : "?", f);
    json_object_foreach(json_object_get(step, "options"), key, value)
        option_print(key, value, f);
    if (device)
        option_print("device", json_object_get(step, "device"), f);
    if (json_is_string(compute))
        option_print("compute", compute, f);
    if (json_is_integer(threads))
        option_print("threads", threads, f);
    for (size_t i = 0; i < n; i++) {
        const char *word = json_string_value(json_array_get(operands, i));
        if (word && word[0] == '-' && word[1] && !dashes++)
            fputs(" --", f);
        fputc(' ', f);
        hist_word(word ? word : "?", f);
    }
}

void hist_command(const json_t *step, FILE *f)
{
    hist_words(step, json_array_size(json_object_get(step, "operands")), f);
}
