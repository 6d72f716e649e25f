/* ts-dump: prints any stream, Hugging Face directory or GGUF file as text. Shapes and views:
 * lib/tool/dump.h. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../formats/json.h"
#include "../lib/base/utf8.h"
#include "../lib/prune/prune.h"
#include "../lib/tool/tool.h"

static int with_stats, with_hist, with_head, with_json, with_table;
static const char *values;

static const struct opt opts[] = {
    {"stats", OPT_FLAG, &with_stats, NULL, "print the minimum, mean and maximum of every record",
     0},
    {"hist", OPT_FLAG, &with_hist, NULL,
     "print a shell script that makes the file, or a directory of hf-export, again", 0},
    {"head", OPT_FLAG, &with_head, NULL, "print the complete header as JSON", 0},
    {"json", OPT_FLAG, &with_json, NULL, "print header and list of records as one JSON object", 0},
    {"values", OPT_TEXT, &values, "NAME",
     "print the values of one record, one row per line; file/NAME: print the file as it is", 0},
    {"table", OPT_FLAG, &with_table, NULL, "compare the layers' scores of several files", 0},
    {0},
};

static const struct tool_desc desc = {
    .name = "ts-dump",
    .operands = "[FILE]...",
    .summary = "Print what is in a stream, a Hugging Face directory or a GGUF file.",
    .description = "Without options, prints the header, one entry per line, the commands that made "
                   "the file, and the name, dtype and shape of every record. Reads standard input "
                   "if there is no FILE, or for -. A damaged or truncated stream is printed as far "
                   "as it can be read; the exit status is then 1.\n\nWith --table, prints the "
                   "scores that several files have of the same model's layers side by side, with "
                   "the order in which rank would remove them (1 is first), and how far these "
                   "orders agree: they measure different things, and often disagree.",
    .example = "  ts-dump teacher/ | head\n  ts-dump --table scores.tsz loss.tsz kl.tsz",
    .opts = opts,
    .min_operands = 0,
    .max_operands = -1,
    .uses = TOOL_MODEL,
};

static json_t *source_open(struct tool *t, const char *path, struct dump_source *s)
{
    if (model_is_foreign(path)) {
        s->model = tool_model(t, path);
        return model_spec_to_json(model_in_spec(s->model));
    }
    s->st = tool_in(t, path, NULL);
    return json_incref(st_head(s->st));
}

/* What hf-export wrote beside a model; NULL: nothing, or this is not a directory. */
static json_t *history_open(struct tool *t, const char *path)
{
    static const struct json_limits limits = {.bytes = 64 << 20, .values = 4000000, .depth = 64};
    char *name = mem_format("%s/history.json", path);
    json_t *head = access(name, F_OK) ? NULL : json_parse_file(name, &limits, tool_err(t));
    free(name);
    tool_check(t);
    return head;
}

static json_t *record_json(struct tool *t, struct dump_source *s, const struct tensor *x)
{
    struct dump_stats v;
    json_t *shape = json_array();
    for (int i = 0; i < x->ndim; i++)
        json_array_append_new(shape, json_integer(x->shape[i]));
    json_t *r = json_pack("{s:s, s:s, s:o, s:I}", "name", x->name, "dtype", dtype_name(x->dtype),
                          "shape", shape, "bytes", (json_int_t)tensor_bytes(x));
    /* JSON has no infinities: their keys are omitted */
    if (with_stats && !dump_stats(s, x, &v, tool_err(t)) && v.n) {
        json_object_set_new(r, "min", json_real(v.min));
        json_object_set_new(r, "mean", json_real(v.mean));
        json_object_set_new(r, "max", json_real(v.max));
    }
    return r;
}

static void print_json(struct tool *t, struct dump_source *s, json_t *head)
{
    struct tensor x;
    json_t *records = json_array(),
           *all = json_pack("{s:O, s:o}", "head", head, "records", records);
    while (dump_next(s, &x) > 0)
        json_array_append_new(records, record_json(t, s, &x));
    json_dumpf(all, stdout, JSON_INDENT(1));
    putchar('\n');
    json_decref(all);
}

static void print_records(struct tool *t, struct dump_source *s)
{
    struct tensor x;
    struct dump_stats v;
    char shape[TENSOR_SHAPE];
    while (dump_next(s, &x) > 0) {
        tensor_shape(&x, shape);
        utf8_print(x.name, stdout);
        printf(" %s %s", dtype_name(x.dtype), shape);
        if (with_stats && !dump_stats(s, &x, &v, tool_err(t)) && v.n + v.nan)
            printf(v.nan ? " min %.6g mean %.6g max %.6g, %lld NaN"
                         : " min %.6g mean %.6g max %.6g",
                   v.min, v.mean, v.max, (long long)v.nan);
        putchar('\n');
    }
}

static void print_values(struct tool *t, struct dump_source *s, const char *path)
{
    struct tensor x;
    int found = 0;
    while (dump_next(s, &x) > 0)
        if (!strcmp(x.name, values) && !found++)
            dump_values(s, &x, stdout, tool_err(t));
    tool_check(t);
    if (!found)
        tool_die(t, "%s has no record \"%s\"", path, values);
}

/* Files are not listed among the tensors: they are requested by name. */
static int print_file(struct dump_source *s)
{
    int64_t bytes;
    const char *text = s->model && !strncmp(values, "file/", 5)
                           ? model_in_file(s->model, values + 5, &bytes)
                           : NULL;
    if (text)
        fwrite(text, 1, (size_t)bytes, stdout);
    return text != NULL;
}

/* ---- layers' scores side by side */

/* What a file's scores of layers measure. */
static const char *measure_of(const json_t *head)
{
    static const char *const names[][2] = {
        {"loss", "loss"}, {"kl", "KL"}, {"accuracy", "accuracy"}};
    const char *by = json_string_value(json_object_get(head, "by"));
    for (size_t i = 0; by && i < sizeof names / sizeof *names; i++)
        if (!strcmp(by, names[i][0]))
            return names[i][1];
    return json_object_get(head, "batch") ? "BI" : "score";
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static struct layer_column read_column(struct tool *t, struct scores *s, const char *path)
{
    struct st_in *in = tool_in(t, path, "scores");
    int64_t entry = axes_entry(AXIS_L, -1);
    scores_read(s, in, tool_err(t));
    tool_check(t);
    if (!s->values[entry])
        tool_die(t, "%s has no scores of layers", path);
    struct layer_column c = {base_name(path), measure_of(st_head(in)), s->values[entry]};
    st_close(in);
    return c;
}

static void print_table(struct tool *t)
{
    int n = tool_operands(t);
    struct scores *all = mem_alloc((size_t)n * sizeof *all);
    struct layer_column *columns = mem_alloc((size_t)n * sizeof *columns);
    for (int i = 0; i < n; i++) {
        columns[i] = read_column(t, &all[i], tool_operand(t, i));
        axes_same(&all[0].axes, &all[i].axes, 1, tool_operand(t, 0), tool_operand(t, i),
                  tool_err(t));
        tool_check(t);
    }
    layer_table_print(stdout, columns, n, all[0].axes.size[AXIS_L]);
    for (int i = 0; i < n; i++)
        scores_free(&all[i]);
    free(columns);
    free(all);
}

int main(int argc, char **argv)
{
    struct tool *t = tool_begin(&desc, argc, argv);
    int n = tool_operands(t);
    const char *path = n ? tool_operand(t, 0) : "-";
    struct dump_source s = {0};
    if (with_hist + with_head + with_json + with_table + (values != NULL) > 1)
        tool_usage(t, "--hist, --head, --json, --table and --values cannot be combined");
    if (with_table ? !n : n > 1)
        tool_usage(t, with_table ? "--table needs files of scores" : "several files need --table");
    if (with_table) {
        print_table(t);
        return tool_finish(t);
    }
    json_t *head = with_hist ? history_open(t, path) : NULL;
    if (!head)
        head = source_open(t, path, &s);
    if (with_hist)
        hist_script(head, path, stdout, tool_err(t));
    else if (with_head)
        json_dumpf(head, stdout, JSON_INDENT(2)), putchar('\n');
    else if (with_json)
        print_json(t, &s, head);
    else if (values && !print_file(&s))
        print_values(t, &s, path);
    else if (!values) {
        dump_head(head, stdout);
        print_records(t, &s);
    }
    tool_check(t);
    json_decref(head);
    st_close(s.st);
    model_close(s.model);
    return tool_finish(t);
}
