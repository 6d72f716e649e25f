/* The device and threads a tool computes with, from its options, and the memory this takes.
 * Refused: a limit on address space that is too low, before a library runs into it. */
#include <malloc.h>
#include <omp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "../base/available.h"
#include "../base/file.h"
#include "../base/mem.h"
#include "../base/world.h"
#include "tool_private.h"

/* generated code and tables of the libraries */
enum { ROOM_TO_COMPUTE = 16 << 20 };

/* Libraries abort when out of memory, so a limit that is too low is reported before they run. */
static void check_limit(struct tool *t, const char *what, int64_t bytes)
{
    struct arena room = {0};
    struct err e = {0};
    if (t->is_limited && arena_open(&room, (size_t)bytes, &e))
        tool_die(
            t, "the limit on address space (ulimit -v) leaves less than the %.0f MB needed for %s",
            1e-6 * (double)bytes, what);
    arena_close(&room);
}

static int threads_wanted(const struct tool *t)
{
    return t->threads ? (int)t->threads : tool_threads();
}

/* Under a limit on address space threads share one heap, since each would reserve 64 MB for its
 * own. exec_open starts them, so that their memory is already taken when the rest is checked. */
static void limit_threads(struct tool *t)
{
    struct rlimit limit;
    pthread_attr_t attributes;
    size_t stack = 0;
    t->is_limited = !getrlimit(RLIMIT_AS, &limit) && limit.rlim_cur != RLIM_INFINITY;
    if (!t->is_limited || pthread_getattr_default_np(&attributes))
        return;
    mallopt(M_ARENA_MAX, 1);
    pthread_attr_getstacksize(&attributes, &stack);
    check_limit(t, "the stacks of the threads (see --threads)", threads_wanted(t) * (int64_t)stack);
}

/* Kernels and matrix libraries need more than a few kilobytes of a thread's stack. */
static void check_stack(struct tool *t)
{
    enum { STACK_LEAST = 256 << 10 };
    size_t least = SIZE_MAX;
#pragma omp parallel num_threads(2) reduction(min : least)
    {
        pthread_attr_t attributes;
        if (omp_get_thread_num() && !pthread_getattr_np(pthread_self(), &attributes)) {
            pthread_attr_getstacksize(&attributes, &least);
            pthread_attr_destroy(&attributes);
        }
    }
    if (least < STACK_LEAST)
        tool_die(t,
                 "a thread gets a stack of %zu KB, but computing takes %d KB: raise OMP_STACKSIZE "
                 "or the limit on stacks (ulimit -s)",
                 least >> 10, STACK_LEAST >> 10);
}

static void tell(void *t, const char *what) { tool_note(t, "%s", what); }

static void exec_begin(struct tool *t)
{
    enum device device = strcmp(t->device, "cuda") ? DEVICE_CPU : DEVICE_CUDA;
    if (device == DEVICE_CPU)
        limit_threads(t);
    if (device == DEVICE_CPU && t->threads != 1)
        check_stack(t);
    if (exec_open(&t->exec, device, threads_wanted(t)))
        tool_exit(t, 1, t->exec.err.msg);
    if (t->exec.threads < t->threads)
        tool_note(t,
                  "--threads %lld: the environment allows only %d (OMP_THREAD_LIMIT and its like)",
                  (long long)t->threads, t->exec.threads);
    t->exec.tell = tell;
    t->exec.tell_user = t;
    t->exec.tf32 = !strcmp(t->compute, "tf32");
    if (t->exec.tf32 || !strcmp(t->compute, "f32"))
        t->exec.compute = DT_F32;
    if (t->algorithms)
        tool_algorithms(t);
    t->exec_is_open = 1;
}

struct exec *tool_exec(struct tool *t)
{
    if (!t->exec_is_open)
        exec_begin(t);
    return &t->exec;
}

const char *tool_compute_name(struct tool *t)
{
    const struct exec *x = tool_exec(t);
    return x->tf32 ? "tf32" : dtype_name(x->compute);
}

void tool_put_machine(struct tool *t, json_t *record)
{
    json_object_set_new(record, "peak_rss", json_integer(usage_peak_bytes()));
    json_object_set_new(record, "threads", json_integer(tool_exec(t)->threads));
    if (world_size() > 1)
        json_object_set_new(record, "processes", json_integer(world_size()));
    json_object_set_new(record, "math", json_string(exec_math_library()));
}

/* ---- memory before it is spent */

/* Options that lower the memory of activations, of those that the tool has: "lower --a or --b; ".
 * Free it. */
static char *ways_out(const struct tool *t)
{
    static const char *const names[] = {"batch-size", "seq-length", "context"};
    char *text = mem_string("");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (const struct opt *p = t->desc->opts; p->name; p++)
            if (!strcmp(p->name, names[i]))
                text = mem_append(text, "%s--%s", *text ? " or " : "lower ", p->name);
    for (const struct opt *p = t->desc->opts; p->name && *text; p++)
        if (!strcmp(p->name, "recompute") && !*(const int *)p->value)
            text = mem_append(text, ", or give --recompute");
    return *text ? mem_append(text, "; ") : text;
}

/* All processes look before any of them goes on: each one on a host needs as much. */
static void need_memory(struct tool *t, const char *what, int64_t bytes, const char *ways)
{
    int64_t left = available_bytes(""), all = bytes * world_neighbours();
    char several[40] = "";
    if (all > bytes)
        snprintf(several, sizeof several, " for %d processes", world_neighbours());
    if (all > left && !t->force)
        tool_die(t,
                 "%s takes %.1f MB more%s, but only %.1f MB of memory are left: %s--force starts "
                 "anyway",
                 what, 1e-6 * (double)all, several, 1e-6 * (double)left, ways);
    world_barrier(&t->err);
    tool_check(t);
}

void tool_need_memory(struct tool *t, const char *what, int64_t bytes)
{
    need_memory(t, what, bytes, "");
}

int tool_streams_layers(const struct tool *t) { return t->stream_layers; }

static void open_sections(struct tool *t, struct model *m, struct model_in *in)
{
    tool_need_memory(t, "the largest layer", model_sections_memory(model_in_spec(in)));
    model_open_sections(m, in, tool_exec(t), &t->err);
    tool_check(t);
}

void tool_load(struct tool *t, struct model *m, struct model_in *in)
{
    if (t->stream_layers)
        return open_sections(t, m, in);
    static const char what[] = "loading the model";
    tool_need_memory(t, what, model_memory(model_in_spec(in), MODEL_FROZEN, 0));
    tool_waiting(t, what);
    if (!model_load(m, in, MODEL_FROZEN, &t->err))
        model_move(m, tool_exec(t), &t->err);
    tool_progress_end(t);
    tool_check(t);
}

/* Notes "predicted KIND total MB (parts)", after what it is for. */
static void note_memory(struct tool *t, const char *what, const char *kind, int64_t total,
                        const char *parts)
{
    char *text = mem_format("predicted %s", kind);
    if (world_size() > 1)
        text = mem_append(text, " of each of %d processes", world_size());
    text = mem_append(text, " %.1f MB (%s)", 1e-6 * (double)total, parts);
    if (what)
        tool_note(t, "%s: %s", what, text);
    else
        tool_note(t, "%s", text);
    free(text);
}

/* For a device with its own memory. */
static void predict_device(struct tool *t, const char *what, const struct memory_part *parts)
{
    char *text = mem_string("");
    int64_t total = 0;
    for (const struct memory_part *p = parts; p->name; total += p++->bytes)
        text = mem_append(text, "%s%s %.1f", *text ? ", " : "", p->name, 1e-6 * (double)p->bytes);
    note_memory(t, what, "device memory", total, text);
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
    text = mem_append(text, "program and data %.1f", 1e-6 * (double)(rest > 0 ? rest : 0));
    note_memory(t, what, "memory", total, text);
    free(text);
    char *ways = ways_out(t);
    need_memory(t, "this", total - program, ways);
    free(ways);
    if (t->exec_is_open)
        check_limit(t, "computation beside models and activations",
                    exec_library_bytes(&t->exec) + ROOM_TO_COMPUTE);
}

struct memory_part tool_weights(const struct model *m)
{
    const char *what = m->sections ? "weights of a layer" : "weights";
    return (struct memory_part){what, (int64_t)m->weights.size, !m->sections};
}

/* Of memory on the host. */
static int64_t bytes_ahead(const struct tool *t, const struct memory_part *parts)
{
    int64_t bytes = exec_library_bytes(&t->exec);
    for (const struct memory_part *p = parts; p->name && t->exec.device == DEVICE_CPU; p++)
        bytes += p->loaded ? 0 : p->bytes;
    return bytes;
}

void tool_predict_batches(struct tool *t, const char *what, const struct memory_part *parts,
                          struct batches *b)
{
    enum { MOST = 8 };
    struct memory_part all[MOST] = {{0}};
    int n = 0;
    for (; n < MOST - 2 && parts[n].name; n++)
        all[n] = parts[n];
    /* need_memory counts those of all processes of this host */
    b->in_file = (b->bytes + bytes_ahead(t, parts)) * world_neighbours() > available_bytes("");
    if (b->bytes && !b->in_file && t->exec.device == DEVICE_CPU)
        all[n] = (struct memory_part){"hidden states", b->bytes, 0};
    tool_predict_memory(t, what, all);
    if (b->bytes && b->in_file)
        tool_note(t, "hidden states of all tokens, %.1f MB, are kept in a file in %s",
                  1e-6 * (double)b->bytes, file_temporary_dir());
}
