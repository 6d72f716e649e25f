/* Streams in and out of a tool, and their provenance: each input is a parent, each output has an id
 * and a history. See tool.h. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../../formats/json.h"
#include "../base/world.h"
#include "../hf/hf.h"
#include "model_open.h"
#include "operand.h"
#include "steps.h"
#include "tool_private.h"

void tool_parent(struct tool *t, const char *path, const char *id)
{
    json_array_append_new(t->inputs, json_pack("{s:o, s:s}", "path", json_text(path), "id", id));
}

void tool_identify(struct tool *t, const char *key, json_t *value)
{
    if (!t->facts)
        t->facts = json_object();
    json_object_set_new(t->facts, key, value);
}

void tool_record(struct tool *t, const char *key, json_t *value)
{
    if (!t->recorded)
        t->recorded = json_object();
    json_object_set_new(t->recorded, key, value);
}

static void take_stdin(struct tool *t, const char *path)
{
    if (!strcmp(path, "-") && t->stdin_taken++)
        tool_usage(t, "standard input (-) can be read only once");
}

static int is_pipe(const char *path)
{
    struct stat s;
    return !stat(path, &s) && S_ISFIFO(s.st_mode);
}

void tool_stdin_once(struct tool *t, const char *path)
{
    take_stdin(t, path);
    if (world_size() == 1)
        return;
    if (!strcmp(path, "-"))
        tool_usage(t, "standard input (-) reaches one process, not all %d: name a file",
                   world_size());
    if (is_pipe(path))
        tool_usage(t, "%s is a pipe, of which each of %d processes would get a part: name a file",
                   path, world_size());
}

static void check_kind(struct tool *t, const struct st_in *in, const char *path, const char *kind)
{
    const char *found = in ? json_string_value(json_object_get(st_head(in), "kind")) : NULL;
    if (found && kind && strcmp(found, kind))
        err_set(&t->err, "%s is a stream of kind \"%s\", not \"%s\"", st_path(in), found, kind);
    if (t->err.set)
        operand_explain(t, path, kind);
    tool_check(t);
}

static void add_parent(struct tool *t, const struct st_in *in, const char *path)
{
    const json_t *head = st_head(in);
    const char *id = json_string_value(json_object_get(head, "id"));
    steps_add(t->steps, json_object_get(head, "hist"), path, &t->err);
    tool_check(t);
    tool_parent(t, path, id ? id : "");
}

struct st_in *tool_in_aside(struct tool *t, const char *path, const char *kind)
{
    tool_stdin_once(t, path);
    struct st_in *in = st_open(path, &t->err);
    check_kind(t, in, path, kind);
    return in;
}

struct st_in *tool_in(struct tool *t, const char *path, const char *kind)
{
    struct st_in *in = tool_in_aside(t, path, kind);
    add_parent(t, in, path);
    return in;
}

/* Only the host of rank 0 need have a pipe of this name. */
struct st_in *tool_in_shared(struct tool *t, const char *path, const char *kind)
{
    int shared = !strcmp(path, "-") || is_pipe(path);
    take_stdin(t, path);
    world_broadcast(&shared, sizeof shared, 0, &t->err);
    struct st_in *in = shared ? st_open_shared(path, &t->err) : st_open(path, &t->err);
    check_kind(t, in, path, kind);
    add_parent(t, in, path);
    return in;
}

/* The values of --ignore-key, with NULL at the end; free it. */
static const char **ignored_keys(const struct tool *t)
{
    const char **keys = mem_alloc((size_t)(t->ignored.n + 1) * sizeof *keys);
    for (int i = 0; i < t->ignored.n; i++)
        keys[i] = t->ignored.text[i];
    return keys;
}

/* One line on the keys of a directory's config.json that have no effect. */
static void note_unread(const struct tool *t, const char *name, const struct model_spec *h)
{
    char *keys = config_unread(h->family, h->config);
    if (keys)
        tool_note(t,
                  "'%s': config.json has keys that the class of model_type %s does not read; they "
                  "are ignored: %s",
                  name, h->family->name, keys);
    free(keys);
}

void tool_read_config(struct tool *t, const char *path, struct model_spec *h)
{
    const char **ignored = ignored_keys(t);
    hf_read_config(h, path, path, ignored, &t->err);
    free(ignored);
    tool_check(t);
    note_unread(t, path, h);
}

void tool_models_there(struct tool *t, int n)
{
    for (int i = 0; i < n; i++) {
        if (model_is_there(tool_operand(t, i), &t->err))
            operand_explain(t, tool_operand(t, i), "model");
        tool_check(t);
    }
}

struct model_in *tool_model(struct tool *t, const char *operand)
{
    tool_stdin_once(t, operand);
    const char **ignored = ignored_keys(t);
    struct model_in *in = model_open(operand, ignored, &t->err);
    free(ignored);
    if (!in)
        operand_explain(t, operand, "model");
    tool_check(t);
    const struct model_spec *h = model_in_spec(in);
    if (model_is_foreign(operand))
        note_unread(t, operand, h);
    steps_add(t->steps, h->hist, operand, &t->err);
    tool_check(t);
    tool_parent(t, operand, h->id);
    return in;
}

/* ---- provenance */

static void digest_text(const char *text, char id[ST_DIGEST])
{
    struct digest d;
    digest_open(&d);
    digest_add(&d, text, strlen(text));
    digest_close(&d, id);
}

static int computes(const struct tool *t)
{
    return t->desc->uses & TOOL_COMPUTE || t->exec_is_open;
}

/* The id identifies what is made: tool, release, options that affect it, parents, and the
 * arithmetic if it is not f32. */
static void step_id(struct tool *t, char id[ST_DIGEST])
{
    json_t *options = options_resolved(&t->options, 0), *parents = json_array(), *input;
    size_t i;
    const char *compute = computes(t) ? tool_compute_name(t) : "f32";
    if (strcmp(compute, "f32"))
        json_object_set_new(options, "compute", json_string(compute));
    json_array_foreach(t->inputs, i, input)
        json_array_append(parents, json_object_get(input, "id"));
    json_t *all = json_pack("{s:s, s:s, s:o, s:o}", "tool", t->desc->name, "release", PARE_RELEASE,
                            "options", options, "parents", parents);
    if (t->facts)
        json_object_set(all, "facts", t->facts);
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
    if (t->recorded)
        json_object_update(step, t->recorded);
    if (computes(t)) {
        struct exec *x = tool_exec(t);
        json_object_set_new(step, "device", json_string(t->device));
        if (x->device != DEVICE_CPU)
            json_object_set_new(step, "compute", json_string(tool_compute_name(t)));
        json_object_set_new(step, "threads", json_integer(x->threads));
        json_object_set_new(step, "math", json_string(exec_math_library()));
    }
    return step;
}

/* ---- outputs */

static struct st_out *tool_create(struct tool *t, const char *path)
{
    char *end;
    long level = strtol(t->compress, &end, 10);
    if (*end) /* "auto" or "none" */
        level = strcmp(t->compress, "auto") ? 0 : -1;
    struct st_out *out = st_create(world_rank() ? "/dev/null" : path, (int)level, &t->err);
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

static struct st_out *out_at(struct tool *t, const char *path, const char *kind, json_t *meta)
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
    return out_at(t, t->output ? t->output : "-", kind, meta);
}

struct model_out *tool_model_out(struct tool *t, const char *path, const struct model_spec *spec)
{
    json_t *meta = model_spec_to_json(spec);
    struct st_out *st = path ? out_at(t, path, "model", meta) : tool_out(t, "model", meta);
    return stream_sink_open(st, spec, &t->err);
}

static void show_tensors(void *t, int64_t done, int64_t of)
{
    tool_progress(t, done, of, "tensors");
}

void tool_copy(struct tool *t, struct model_out *out, struct model_in *in)
{
    t->progress.is_copy = 1;
    model_copy(out, in, show_tensors, t);
    t->progress.is_copy = 0;
    tool_check(t);
}

int tool_import(struct tool *t, struct model_in *in)
{
    const char *note = model_in_note(in);
    if (note && *note)
        tool_note(t, "%s", note);
    struct model_out *out = tool_model_out(t, NULL, model_in_spec(in));
    tool_copy(t, out, in);
    model_out_close(out);
    model_close(in);
    return tool_finish(t);
}
