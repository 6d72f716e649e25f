/* The frame of every tool: options, help, the end. See tool.h. */
#include "tool.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/json.h"
#include "../base/unfinished.h"
#include "../base/world.h"
#include "restart.h"
#include "tool_private.h"

static void tool_common_options(struct tool *t)
{
    const struct {
        int use; /* the tools that have it; 0: all */
        struct opt row;
    } all[] = {
        {TOOL_OUTPUT,
         {"output", OPT_PATH, &t->output, "FILE",
          "write to FILE instead of standard output; FILE appears only once it is complete",
          OPT_SILENT_ID}},
        {TOOL_OUTPUT,
         {"compress", OPT_TEXT, &t->compress, "auto|none|N",
          "zstd level; auto: 1 for files, none for pipes", OPT_SILENT_ID}},
        {TOOL_COMPUTE | TOOL_MAY_COMPUTE,
         {"threads", OPT_INT, &t->threads, "N",
          "number of threads; 0: OMP_NUM_THREADS, or one per core", OPT_SILENT_ID}},
        {TOOL_COMPUTE | TOOL_MAY_COMPUTE,
         {"device", OPT_TEXT, &t->device, "cpu|cuda", "device to compute on", OPT_SILENT_ID}},
        {TOOL_COMPUTE | TOOL_MAY_COMPUTE,
         {"compute", OPT_TEXT, &t->compute, "auto|bf16|tf32|f32",
          "arithmetic; auto: f32 on the CPU; on a GPU bf16, with f32 sums and f32 master weights",
          OPT_SILENT_ID}}, /* hist and id record what it resolves to, see step_id */
        {TOOL_COMPUTE | TOOL_MAY_COMPUTE,
         {"algorithms", OPT_PATH, &t->algorithms, "FILE",
          "on a GPU, compute matrix products with the fastest algorithms, which are timed once and "
          "kept in FILE; without it, as the library suggests, the same in every run",
          0}}, /* in hist; it is no parent, since it changes rounding at most */
        {TOOL_COMPUTE | TOOL_MAY_COMPUTE,
         {"force", OPT_FLAG, &t->force, NULL,
          "start even if the predicted memory is more than is left", OPT_SILENT_ID}},
        {TOOL_LAYERS,
         {"stream-layers", OPT_FLAG, &t->stream_layers, NULL,
          "hold the weights of one layer at a time, for models larger than memory", OPT_SILENT_ID}},
        {TOOL_MODEL,
         {"ignore-key", OPT_LIST, &t->ignored, "KEY",
          "read a directory's config.json as if it did not have KEY; may be repeated", 0}},
        {TOOL_WORLD,
         {"deadline", OPT_INT, &t->deadline, "SECONDS",
          "under mpirun or srun: end all processes when one has not answered for this long; 0: "
          "wait for ever",
          OPT_SILENT_ID | OPT_FROM_0}},
        {0, {"quiet", OPT_FLAG, &t->quiet, NULL, "print no notes and no progress", OPT_SILENT_ID}},
        {0, {"help", OPT_FLAG, &t->help, NULL, "print this help and exit", OPT_SILENT_ID}},
        {0, {"version", OPT_FLAG, &t->version, NULL, "print the version and exit", OPT_SILENT_ID}},
    };
    enum { ALL = sizeof all / sizeof *all };
    _Static_assert(ALL < sizeof t->common / sizeof *t->common, "no room for the end of the table");
    struct opt *p = t->common;
    for (int i = 0; i < ALL; i++)
        if (!all[i].use || (t->desc->uses & all[i].use))
            *p++ = all[i].row;
}

/* The end of a tool that was asked about itself. */
_Noreturn static void tool_leave(void)
{
    int failed = fflush(stdout);
    world_finish();
    exit(failed ? 1 : 0);
}

_Noreturn static void tool_print_help(const struct tool *t)
{
    const struct tool_desc *d = t->desc;
    printf("Usage: %s [OPTION]... %s\n\n%s\n", d->name, d->operands ? d->operands : "", d->summary);
    if (d->description) {
        putchar('\n');
        options_wrap(d->description, 0, 0, stdout);
    }
    options_help(&t->options, stdout);
    if (d->example)
        printf("\nExample:\n%s\n", d->example);
    putchar('\n');
    options_wrap("Exit status: 0 success; 1 bad data, input/output or device error; 2 wrong usage; "
                 "3 ran, but a requested check failed.",
                 0, 0, stdout);
    tool_leave();
}

static void tool_check_compute(struct tool *t)
{
    static const char *const all[] = {"auto", "f32", "tf32", "bf16"};
    int i = 0, cpu = !strcmp(t->device, "cpu");
    while (i < 4 && strcmp(t->compute, all[i]))
        i++;
    if (i == 4 || (cpu && i > 1))
        tool_usage(t, "--compute must be auto%s or f32%s, not \"%s\"", cpu ? "" : ", bf16, tf32",
                   cpu ? " on the CPU" : "", t->compute);
}

static void tool_check_usage(struct tool *t)
{
    const struct tool_desc *d = t->desc;
    int n = t->options.n_operands;
    if (n < d->min_operands)
        tool_usage(t, "missing operand: usage: %s [OPTION]... %s (see --help)", d->name,
                   d->operands);
    if (d->max_operands >= 0 && n > d->max_operands)
        tool_usage(t, "unexpected operand \"%s\": usage: %s [OPTION]... %s",
                   t->options.operands[d->max_operands], d->name, d->operands ? d->operands : "");
    if (strcmp(t->device, "cpu") && strcmp(t->device, "cuda"))
        tool_usage(t, "--device must be cpu or cuda, not \"%s\"", t->device);
    tool_check_compute(t);
    if (t->algorithms && strcmp(t->device, "cuda"))
        tool_usage(t, "--algorithms is for --device cuda: the CPU has no choice of algorithms");
    if (t->threads < 0 || t->threads > EXEC_THREADS)
        tool_usage(t, "--threads must be from 0 to %d, not %lld", EXEC_THREADS,
                   (long long)t->threads);
    char *end;
    long level = strtol(t->compress, &end, 10);
    if (strcmp(t->compress, "auto") && strcmp(t->compress, "none") &&
        (*end || level < 1 || level > 19))
        tool_usage(t, "--compress must be auto, none or a zstd level from 1 to 19, not \"%s\"",
                   t->compress);
}

/* If a tool starts with a standard descriptor closed, its output would be opened as that
 * descriptor, and notes would go into the model. Closed ones are therefore filled: standard input
 * cannot be read, standard output cannot be written, standard error discards notes. */
static void fill_descriptors(void)
{
    static const int ways[] = {O_WRONLY, O_RDONLY, O_WRONLY};
    for (int i = 0; i < 3; i++)
        if (fcntl(i, F_GETFD) < 0)
            open("/dev/null", ways[i]);
}

struct tool *tool_begin(const struct tool_desc *d, int argc, char **argv)
{
    fill_descriptors();
    if (d->uses & TOOL_COMPUTE)
        restart_tuned(argv);
    json_memory_or_exit();
    tool_signals();
    tool_faults();
    /* a library may call exit */
    atexit(unfinished_remove_all);
    struct tool *t = mem_alloc(sizeof *t);
    t->desc = d;
    t->compress = "auto";
    t->device = "cpu";
    t->compute = "auto";
    t->deadline = WORLD_DEADLINE;
    t->inputs = json_array();
    t->steps = json_object();
    tool_common_options(t);
    tool_join(t);
    t->options = (struct options){.tables = {d->opts, t->common}};
    /* --help works even if other options are wrong; the defaults are still in place here */
    for (int i = 1; i < argc && strcmp(argv[i], "--"); i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
            tool_print_help(t);
    if (options_parse(&t->options, argc, argv, &t->err))
        tool_exit(t, 2, t->err.msg);
    if (t->help) /* its name was cut short */
        tool_print_help(t);
    if (t->version) {
        printf("%s (pare) %s\n", d->name, PARE_RELEASE);
        tool_leave();
    }
    if (*t->options.note)
        tool_note(t, "%s", t->options.note);
    tool_check_usage(t);
    tool_agree(t);
    return t;
}

int tool_operands(const struct tool *t) { return t->options.n_operands; }
const char *tool_operand(const struct tool *t, int i)
{
    return i < t->options.n_operands ? t->options.operands[i] : NULL;
}
struct err *tool_err(struct tool *t) { return &t->err; }

void tool_check(struct tool *t)
{
    if (t->err.set)
        tool_exit(t, 1, t->err.msg);
}

int tool_check_readers(struct tool *t)
{
    for (int i = 0; i < t->n_outputs; i++)
        st_check_reader(t->outputs[i]);
    return t->err.set ? -1 : 0;
}

int tool_publish(struct tool *t)
{
    if (t->exec_is_open && t->exec.err.set)
        err_set(&t->err, "%s", t->exec.err.msg);
    for (int i = 0; i < t->n_outputs; i++) {
        struct st_out *out = t->outputs[i];
        t->outputs[i] = NULL;
        st_end(out);
        st_publish(out);
    }
    t->n_outputs = 0;
    return t->err.set ? -1 : 0;
}

static void compute_end(struct tool *t)
{
    const struct slow_products slow = exec_slow_products(&t->exec);
    if (slow.size)
        tool_note(t, "a size of %lld slowed down matrix products; multiples of %lld are faster",
                  (long long)slow.size, (long long)slow.multiple);
    exec_close(&t->exec);
}

int tool_finish(struct tool *t)
{
    tool_publish(t);
    tool_check(t);
    if (t->exec_is_open)
        compute_end(t);
    if (fflush(stdout) || ferror(stdout))
        tool_die(t, "cannot write to standard output:");
    tool_progress_end(t);
    json_decref(t->inputs);
    json_decref(t->steps);
    json_decref(t->facts);
    json_decref(t->recorded);
    json_decref(t->choices);
    options_free(&t->options);
    free(t);
    world_finish();
    return 0;
}
