/* See teacher.h. */
#include "teacher.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../../formats/json.h"
#include "../eval/eval.h"
#include "tool.h"
#include "vocab.h"

struct tool_teacher {
    const char *name;
    int is_logits;
    struct model_in *in; /* NULL: logits */
    struct model model;
    struct logits_in logits;
};

int tool_is_logits(const char *path)
{
    struct stat st;
    struct err e = {0};
    if (!strcmp(path, "-"))
        return 1;
    if (stat(path, &st) || S_ISDIR(st.st_mode) || model_is_foreign(path))
        return 0;
    if (!S_ISREG(st.st_mode))
        return 1;
    struct st_in *in = st_open(path, &e);
    const char *kind = in ? json_string_value(json_object_get(st_head(in), "kind")) : NULL;
    int is_logits = kind && !strcmp(kind, "logits");
    st_close(in);
    return is_logits;
}

static void open_logits(struct tool *t, struct tool_teacher *r, const struct tokens *tokens,
                        const char *tokens_name, int models)
{
    struct logits_spec *l = &r->logits.spec;
    struct st_in *in = tool_in(t, r->name, "logits");
    logits_open(&r->logits, in, tool_err(t));
    tool_check(t);
    if (l->form != LOGITS_FULL)
        tool_die(t,
                 "%s has %s, which do not give the divergence of whole distributions: make it with "
                 "dump-logits --full, or give the model",
                 r->logits.path, logits_form_name(l));
    if (models > 1 && logits_is_pipe(&r->logits))
        tool_usage(t, "%s comes only once: give it as a file, or one MODEL", r->name);
    if (!digest_may_equal(l->tokens, tokens->id))
        tool_die(
            t,
            "%s was made from a different text than %s: from the tokens %.8s, and these are %.8s",
            r->logits.path, tokens_name, l->tokens, tokens->id);
}

struct tool_teacher *tool_teacher_open(struct tool *t, const char *path, struct model_in *student,
                                       const struct tokens *tokens, const char *tokens_name,
                                       int any_tokenizer, int models)
{
    struct tool_teacher *r = mem_alloc(sizeof *r);
    struct err *e = tool_err(t);
    r->name = path;
    r->is_logits = tool_is_logits(path);
    if (r->is_logits) {
        open_logits(t, r, tokens, tokens_name, models);
        return r;
    }
    r->in = tool_model(t, path);
    if (!any_tokenizer)
        r->in = tool_model_among(t, r->in, path, student, tool_operand(t, 0));
    if (!data_check_model(tokens, tokens_name, model_in_spec(r->in), path, any_tokenizer, e))
        tool_load(t, &r->model, r->in);
    tool_check(t);
    return r;
}

int64_t tool_teacher_bytes(const struct tool_teacher *r) { return (int64_t)r->model.weights.size; }

int tool_teacher_apply(struct tool_teacher *r, struct eval_options *o)
{
    if (!r->is_logits) {
        o->teacher.model = &r->model;
        return 0;
    }
    o->teacher.logits = &r->logits;
    o->windows.seq_length = r->logits.spec.seq_length;
    o->windows.bos = r->logits.spec.bos;
    return 1;
}

json_t *tool_teacher_record(const struct tool_teacher *r, const struct eval *v)
{
    json_t *j = json_pack("{s:o, s:s}", r->is_logits ? "logits" : "model", json_text(r->name),
                          "model_id", r->is_logits ? r->logits.spec.model : r->model.spec.id);
    if (r->is_logits)
        json_object_set_new(j, "logits_id", json_string(r->logits.id));
    json_t *figures = report_divergences(v);
    json_object_update(j, figures);
    json_decref(figures);
    return j;
}

void tool_teacher_close(struct tool *t, struct tool_teacher *r)
{
    if (!r)
        return;
    if (r->is_logits) {
        logits_end(&r->logits, tool_err(t));
        tool_check(t);
        logits_close(&r->logits);
    } else {
        model_free(&r->model);
        model_close(r->in);
    }
    free(r);
}
