/* The frame of every tool's main: see tool.h. The one place in lib/ that prints and exits. */
#include "tool.h"

#include <errno.h>
#include <malloc.h>
#include <omp.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../../formats/json.h"
#include "../base/unfinished.h"
#include "../base/usage.h"
#include "../base/utf8.h"
#include "model_open.h"
#include "options.h"
#include "steps.h"
#include "restart.h"

/* code that the libraries make, their tables */
enum { TOOL_OUTPUTS = 8, ROOM_TO_COMPUTE = 16 << 20 };

struct tool {
    const struct tool_desc *desc;
    struct options options;
    struct err err;
    struct exec exec;
    int exec_is_open, is_limited, quiet, help, version, stdin_taken;
    int64_t threads;
    const char *output, *compress, *device, *compute;
    struct opt common[9];
    json_t *inputs, *steps; /* [{path, id}], and the steps of all parents (steps.h) */
    struct st_out *outputs[TOOL_OUTPUTS];
    int n_outputs;
    double progress_start, progress_last;
    int progress_shown;
};

static void tool_common_options(struct tool *t)
{
    const struct {
        int use; /* which tools have it; 0: all */
        struct opt row;
    } all[] = {
        {TOOL_OUTPUT,
         {"output", OPT_PATH, &t->output, "FILE",
          "write to FILE instead of standard output; FILE appears only once it is complete",
          OPT_SILENT_ID}},
        {TOOL_OUTPUT,
         {"compress", OPT_TEXT, &t->compress, "auto|none|N",
          "zstd level; auto: 1 for files, none for pipes", OPT_SILENT_ID}},
        {TOOL_COMPUTE,
         {"threads", OPT_INT, &t->threads, "N", "number of threads; 0: one per core",
          OPT_SILENT_ID}},
        {TOOL_COMPUTE,
         {"device", OPT_TEXT, &t->device, "cpu|cuda", "device to compute on", OPT_SILENT_ID}},
        {TOOL_COMPUTE,
         {"compute", OPT_TEXT, &t->compute, "auto|bf16|tf32|f32",
          "arithmetic; auto: f32 on the CPU; on a GPU bf16, with f32 sums and f32 master weights",
          OPT_SILENT_ID}}, /* hist and id have what it comes to, see step_id */
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

static void tool_print_help(const struct tool *t)
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
}

static void tool_clear_progress(struct tool *t)
{
    if (t->progress_shown)
        fputs("\r\033[K", stderr);
    t->progress_shown = 0;
}

/* Every message leaves here: names, keys and patterns in it are text from outside, and what a
 * terminal would act on is shown instead. */
static void message_print(const struct tool *t, const char *message)
{
    char *text = utf8_visible(message);
    fprintf(stderr, "%s: %s\n", t->desc->name, text);
    free(text);
}

/* Prints one message, drops unfinished outputs, exits. What was finished stays. */
static _Noreturn void tool_exit(struct tool *t, int status, const char *message)
{
    tool_clear_progress(t);
    for (int i = 0; i < t->n_outputs; i++)
        if (t->outputs[i])
            st_abandon(t->outputs[i]);
    fflush(stdout);
    message_print(t, message);
    exit(status);
}

#define TOOL_EXIT(status) \
    do { \
        int saved_ = errno; \
        char m_[900]; \
        va_list args_; \
        va_start(args_, format); \
        vsnprintf(m_, sizeof m_, format, args_); \
        va_end(args_); \
        errno = saved_; \
        size_t n_ = strlen(format); \
        if (n_ && format[n_ - 1] == ':') \
            snprintf(m_ + strlen(m_), sizeof m_ - strlen(m_), " %s", strerror(saved_)); \
        tool_exit(t, status, m_); \
    } while (0)

void tool_die(struct tool *t, const char *format, ...) { TOOL_EXIT(1); }
void tool_usage(struct tool *t, const char *format, ...) { TOOL_EXIT(2); }
void tool_refuse(struct tool *t, const char *format, ...) { TOOL_EXIT(3); }

void tool_note(const struct tool *t, const char *format, ...)
{
    if (t->quiet)
        return;
    tool_clear_progress((struct tool *)t);
    char *text = NULL;
    va_list args;
    va_start(args, format);
    int n = vasprintf(&text, format, args);
    va_end(args);
    message_print(t, n < 0 ? "out of memory" : text);
    free(n < 0 ? NULL : text);
}

static void tool_check_compute(struct tool *t)
{
    static const char *const all[] = {"auto", "f32", "tf32", "bf16"};
    int i = 0, cpu = !strcmp(t->device, "cpu");
    while (i < 4 && strcmp(t->compute, all[i]))
        i++;
    if (i == 4 || (cpu && i > 1))
        tool_usage(t, "--compute is auto%s or f32%s, not \"%s\"", cpu ? "" : ", bf16, tf32",
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
        tool_usage(t, "--device is cpu or cuda, not \"%s\"", t->device);
    tool_check_compute(t);
    if (t->threads < 0 || t->threads > 4096)
        tool_usage(t, "--threads is a number from 0 to 4096, not %lld", (long long)t->threads);
    char *end;
    long level = strtol(t->compress, &end, 10);
    if (strcmp(t->compress, "auto") && strcmp(t->compress, "none") &&
        (*end || level < 1 || level > 19))
        tool_usage(t, "--compress is auto, none or a zstd level from 1 to 19, not \"%s\"",
                   t->compress);
}

/* An interrupted tool leaves nothing half-written behind. */
static void on_end(int sig)
{
    unfinished_remove_all();
    signal(sig, SIG_DFL);
    raise(sig);
}

static void tool_signals(void)
{
    const int ends[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (signal(ends[i], on_end) == SIG_IGN)
            signal(ends[i], SIG_IGN); /* nohup and background jobs stay as they were */
    /* a file size limit is an error of the write, told in a sentence */
    signal(SIGXFSZ, SIG_IGN);
}

struct tool *tool_begin(const struct tool_desc *d, int argc, char **argv)
{
    if (d->uses & TOOL_COMPUTE)
        restart_tuned(argv);
    tool_signals();
    /* a library that gives up ends the process where it stands */
    atexit(unfinished_remove_all);
    struct tool *t = mem_alloc(sizeof *t);
    t->desc = d;
    t->compress = "auto";
    t->device = "cpu";
    t->compute = "auto";
    t->inputs = json_array();
    t->steps = json_object();
    tool_common_options(t);
    t->options = (struct options){.tables = {d->opts, t->common}};
    /* --help counts even where the rest is wrong, with the defaults still in place */
    for (int i = 1; i < argc && strcmp(argv[i], "--"); i++)
        if (!strcmp(argv[i], "--help")) {
            tool_print_help(t);
            exit(fflush(stdout) ? 1 : 0);
        }
    if (options_parse(&t->options, argc, argv, &t->err))
        tool_exit(t, 2, t->err.msg);
    if (t->version) {
        printf("%s (pare) %s\n", d->name, PARE_RELEASE);
        exit(fflush(stdout) ? 1 : 0);
    }
    tool_check_usage(t);
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

/* Libraries abort where they get no memory, so a limit that is too low is told before they ask. */
static void check_limit(struct tool *t, const char *what, int64_t bytes)
{
    struct arena room = {0};
    struct err e = {0};
    if (t->is_limited && arena_open(&room, (size_t)bytes, &e))
        tool_die(t, "the limit on address space (ulimit -v) leaves less than the %.0f MB that %s",
                 1e-6 * (double)bytes, what);
    arena_close(&room);
}

/* Under a limit on address space threads share one heap, since each would reserve 64 MB for its
 * own. exec_open starts them, so that what they take is gone when the rest is checked. */
static void limit_threads(struct tool *t)
{
    struct rlimit limit;
    pthread_attr_t attributes;
    size_t stack = 0;
    int64_t threads = t->threads ? t->threads : omp_get_num_procs();
    t->is_limited = !getrlimit(RLIMIT_AS, &limit) && limit.rlim_cur != RLIM_INFINITY;
    if (!t->is_limited || pthread_getattr_default_np(&attributes))
        return;
    mallopt(M_ARENA_MAX, 1);
    pthread_attr_getstacksize(&attributes, &stack);
    check_limit(t, "the threads take (see --threads)", threads * (int64_t)stack);
}

static void exec_begin(struct tool *t)
{
    enum device device = strcmp(t->device, "cuda") ? DEVICE_CPU : DEVICE_CUDA;
    if (device == DEVICE_CPU)
        limit_threads(t);
    if (exec_open(&t->exec, device, (int)t->threads))
        tool_exit(t, 1, t->exec.err.msg);
    if (t->exec.threads < t->threads)
        tool_note(t,
                  "--threads %lld: the environment allows only %d (OMP_THREAD_LIMIT and its like)",
                  (long long)t->threads, t->exec.threads);
    t->exec.tf32 = !strcmp(t->compute, "tf32");
    if (t->exec.tf32 || !strcmp(t->compute, "f32"))
        t->exec.compute = DT_F32;
    t->exec_is_open = 1;
}

struct exec *tool_exec(struct tool *t)
{
    if (!t->exec_is_open)
        exec_begin(t);
    return &t->exec;
}

/* ---- provenance */

void tool_parent(struct tool *t, const char *path, const char *id)
{
    json_array_append_new(t->inputs, json_pack("{s:o, s:s}", "path", json_text(path), "id", id));
}

void tool_stdin_once(struct tool *t, const char *path)
{
    if (!strcmp(path, "-") && t->stdin_taken++)
        tool_usage(t, "standard input (-) can be read once only");
}

struct st_in *tool_in(struct tool *t, const char *path, const char *kind)
{
    tool_stdin_once(t, path);
    struct st_in *in = st_open(path, &t->err);
    tool_check(t);
    const json_t *head = st_head(in);
    const char *found = json_string_value(json_object_get(head, "kind")),
               *id = json_string_value(json_object_get(head, "id"));
    if (kind && (!found || strcmp(found, kind)))
        tool_die(t, "%s holds a stream of kind \"%s\", but \"%s\" is needed here", st_path(in),
                 found ? found : "?", kind);
    steps_add(t->steps, json_object_get(head, "hist"), path, &t->err);
    tool_check(t);
    tool_parent(t, path, id ? id : "");
    return in;
}

struct model_in *tool_model(struct tool *t, const char *operand)
{
    tool_stdin_once(t, operand);
    struct model_in *in = model_open(operand, &t->err);
    tool_check(t);
    const struct model_spec *h = model_in_spec(in);
    steps_add(t->steps, h->hist, operand, &t->err);
    tool_check(t);
    tool_parent(t, operand, h->id);
    return in;
}

static void digest_text(const char *text, char id[ST_DIGEST])
{
    struct digest d;
    digest_open(&d);
    digest_add(&d, text, strlen(text));
    digest_close(&d, id);
}

/* What --compute comes to: "f32", "tf32" or "bf16". */
static const char *compute_name(const struct exec *x)
{
    return x->tf32 ? "tf32" : dtype_name(x->compute);
}

/* The id says what is made: tool, release, options that matter, parents, and the arithmetic where
 * it is not f32. */
static void step_id(struct tool *t, char id[ST_DIGEST])
{
    json_t *options = options_resolved(&t->options, 0), *parents = json_array(), *input;
    size_t i;
    const char *compute = t->desc->uses & TOOL_COMPUTE ? compute_name(tool_exec(t)) : "f32";
    if (strcmp(compute, "f32"))
        json_object_set_new(options, "compute", json_string(compute));
    json_array_foreach(t->inputs, i, input)
        json_array_append(parents, json_object_get(input, "id"));
    json_t *all = json_pack("{s:s, s:s, s:o, s:o}", "tool", t->desc->name, "release", PARE_RELEASE,
                            "options", options, "parents", parents);
    char *text = json_dumps(all, JSON_SORT_KEYS | JSON_COMPACT);
    digest_text(text, id);
    free(text);
    json_decref(all);
}

static json_t *tool_step(struct tool *t, char id[ST_DIGEST])
{
    json_t *options = options_resolved(&t->options, 1), *operands = json_array();
    if (!id[0])
        step_id(t, id);
    for (int i = 0; i < t->options.n_operands; i++)
        json_array_append_new(operands, json_text(t->options.operands[i]));
    json_t *step = json_pack("{s:s, s:s, s:s, s:o, s:o, s:O}", "id", id, "tool", t->desc->name,
                             "release", PARE_RELEASE, "options", options, "operands", operands,
                             "inputs", t->inputs);
    if (t->desc->uses & TOOL_COMPUTE) {
        struct exec *x = tool_exec(t);
        json_object_set_new(step, "device", json_string(t->device));
        if (x->device != DEVICE_CPU)
            json_object_set_new(step, "compute", json_string(compute_name(x)));
        json_object_set_new(step, "threads", json_integer(x->threads));
        json_object_set_new(step, "math", json_string(exec_math_library()));
    }
    return step;
}

static struct st_out *tool_create(struct tool *t, const char *path)
{
    char *end;
    long level = strtol(t->compress, &end, 10);
    struct st_out *out = st_create(path,
                                   !strcmp(t->compress, "auto") ? -1
                                   : *end                       ? 0
                                                                : (int)level,
                                   &t->err);
    tool_check(t);
    if (t->n_outputs == TOOL_OUTPUTS)
        tool_die(t, "too many outputs");
    t->outputs[t->n_outputs++] = out;
    return out;
}

json_t *tool_head(struct tool *t, const char *kind, json_t *meta)
{
    char id[ST_DIGEST] = "";
    const char *given = json_string_value(json_object_get(meta, "id"));
    if (given)
        snprintf(id, sizeof id, "%s", given);
    json_t *step = tool_step(t, id), *steps = json_copy(t->steps), *head = json_object();
    if (json_object_get(steps, id))
        json_decref(step);
    else
        json_object_set_new(steps, id, step);
    json_object_set_new(head, "kind", json_string(kind));
    json_object_set_new(head, "id", json_string(id));
    json_object_del(meta, "pare");
    json_object_update_missing(head, meta);
    json_object_del(head, "hist");
    json_object_set_new(head, "hist", steps_list(steps));
    json_decref(steps);
    json_decref(meta);
    return head;
}

struct st_out *tool_out_path(struct tool *t, const char *path, const char *kind, json_t *meta)
{
    json_t *head = tool_head(t, kind, meta);
    struct st_out *out = tool_create(t, path);
    st_begin(out, head);
    json_decref(head);
    tool_check(t);
    return out;
}

const char *tool_output(const struct tool *t) { return t->output; }

struct st_out *tool_out(struct tool *t, const char *kind, json_t *meta)
{
    return tool_out_path(t, t->output ? t->output : "-", kind, meta);
}

struct model_out *tool_model_out(struct tool *t, const char *path, const struct model_spec *spec)
{
    json_t *meta = model_spec_to_json(spec);
    struct st_out *st = path ? tool_out_path(t, path, "model", meta) : tool_out(t, "model", meta);
    return stream_sink_open(st, spec, &t->err);
}

/* ---- progress and the end */

void tool_progress(struct tool *t, int64_t done, int64_t total, const char *unit)
{
    double now = usage_seconds();
    if (!t->progress_start)
        t->progress_start = now;
    if (t->quiet || !isatty(2) || (now - t->progress_last < 1.0 / 6 && done < total))
        return;
    t->progress_last = now;
    double spent = now - t->progress_start, rate = spent > 0 ? (double)done / spent : 0,
           left = rate > 0 ? (double)(total - done) / rate : 0;
    fprintf(stderr, "\r\033[K%s: %lld / %lld %s, %.3g %s/s, %d:%02d left", t->desc->name,
            (long long)done, (long long)total, unit, rate, unit, (int)left / 60, (int)left % 60);
    t->progress_shown = 1;
    if (done >= total)
        tool_clear_progress(t);
    fflush(stderr);
}

/* On a device with memory of its own. */
static void predict_device(struct tool *t, const char *what, const struct memory_part *parts)
{
    char *text = mem_string("");
    int64_t total = 0;
    for (const struct memory_part *p = parts; p->name; total += p++->bytes)
        text = mem_append(text, "%s%s %.1f", *text ? ", " : "", p->name, 1e-6 * (double)p->bytes);
    tool_note(t, "%s%spredicted memory of the device %.1f MB (%s)", what ? what : "",
              what ? ": " : "", 1e-6 * (double)total, text);
    free(text);
}

void tool_predict_memory(struct tool *t, const char *what, const struct memory_part *parts)
{
    if (t->exec_is_open && exec_available(&t->exec) != INT64_MAX)
        return predict_device(t, what, parts);
    char *text = mem_string("");
    int64_t program = usage_resident_bytes() + (t->exec_is_open ? exec_library_bytes(&t->exec) : 0),
            total = program, loaded = 0;
    for (const struct memory_part *p = parts; p->name; p++) {
        *(p->loaded ? &loaded : &total) += p->bytes;
        text = mem_append(text, "%s %.1f, ", p->name, 1e-6 * (double)p->bytes);
    }
    int64_t rest = program - loaded;
    tool_note(t, "%s%spredicted memory %.1f MB (%sprogram and data %.1f)", what ? what : "",
              what ? ": " : "", 1e-6 * (double)total, text, 1e-6 * (double)(rest > 0 ? rest : 0));
    free(text);
    if (t->exec_is_open)
        check_limit(t, "computing takes beside models and activations",
                    exec_library_bytes(&t->exec) + ROOM_TO_COMPUTE);
}

int tool_finish(struct tool *t)
{
    tool_check(t);
    if (t->exec_is_open && t->exec.err.set)
        tool_exit(t, 1, t->exec.err.msg);
    for (int i = 0; i < t->n_outputs; i++) {
        struct st_out *out = t->outputs[i];
        if (st_end(out))
            tool_check(t);
        t->outputs[i] = NULL;
        st_publish(out);
        tool_check(t);
    }
    int64_t multiple, slow = t->exec_is_open ? exec_slow_size(&t->exec, &multiple) : 0;
    if (slow)
        tool_note(t,
                  "a size of %lld made matrix products slower than one that is a multiple of %lld",
                  (long long)slow, (long long)multiple);
    if (t->exec_is_open)
        exec_close(&t->exec);
    if (fflush(stdout) || ferror(stdout))
        tool_die(t, "cannot write to standard output:");
    tool_clear_progress(t);
    json_decref(t->inputs);
    json_decref(t->steps);
    free(t->options.operands);
    free(t);
    return 0;
}

int tool_import(struct tool *t, struct model_in *in)
{
    const char *note = model_in_note(in);
    if (note && *note)
        tool_note(t, "%s", note);
    struct model_out *out = tool_model_out(t, NULL, model_in_spec(in));
    model_copy(out, in);
    tool_check(t);
    model_out_close(out);
    model_close(in);
    return tool_finish(t);
}
