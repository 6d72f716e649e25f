/* See training.h. */
#include "training.h"

#include "../base/file.h"
#include "tool.h"

void tool_training_sources(struct tool *t, struct training_text *x)
{
    struct err e = {0};
    if (!x->names.n)
        tool_usage(t, "--data TOKENS is required");
    for (int i = 0; i < x->names.n; i++)
        if (data_sources_add(&x->data, x->names.text[i], &e))
            tool_usage(t, "%s", e.msg);
}

/* Sequences that the run draws. */
static int64_t all_sequences(const struct train_options *o)
{
    return o->schedule.max_steps * o->batch_size * o->accumulation;
}

/* in: as opened by tool_in; closed */
static void open_tokens(struct tool *t, const char *name, struct st_in *in, struct tokens *tokens,
                        const struct train_options *o, const struct training_models *m, int any)
{
    struct err *e = tool_err(t);
    tokens_load(tokens, in, 0, e);
    tool_check(t);
    st_close(in);
    loss_on_apply(o->loss_on, tokens);
    data_check_model(tokens, name, model_in_spec(m->student), m->student_name, any, e);
    if (m->teacher)
        data_check_model(tokens, name, model_in_spec(m->teacher), m->teacher_name, any, e);
    tool_check(t);
}

void tool_training_open(struct tool *t, struct training_text *x, const struct train_options *o,
                        const struct training_models *m)
{
    struct data_sources *data = &x->data;
    file_raise_limit();
    for (int i = 0; i < data->n; i++)
        for (int64_t k = 0; k < data->all[i].n_streams; k++) {
            struct data_stream *s = &data->all[i].streams[k];
            open_tokens(t, s->path, tool_in(t, s->path, "tokens"), &s->tokens, o, m,
                        x->any_tokenizer);
        }
    json_t *shares = data_sources_shares(data);
    if (shares)
        tool_identify(t, "data", shares);
    if (data->n > 1)
        tool_record(t, "sequences", data_sources_counts(data, all_sequences(o)));
    if (x->held_out_name)
        open_tokens(t, x->held_out_name, tool_in_aside(t, x->held_out_name, "tokens"), &x->held_out,
                    o, m, x->any_tokenizer);
}

static void note_epochs(struct tool *t, const struct data_sources *data, int64_t drawn)
{
    for (int i = 0; data->n > 1 && i < data->n; i++) {
        int64_t n = data_sources_drawn(data, i, drawn);
        tool_note(t, "%s: %lld sequences, %.2f epochs of its %lld", data->all[i].name, (long long)n,
                  (double)n / (double)data->all[i].n, (long long)data->all[i].n);
    }
}

void tool_training_cut(struct tool *t, struct training_text *x, const struct train_options *o,
                       const struct training_models *m)
{
    const struct model_spec *h = model_in_spec(m->student),
                            *above = m->teacher ? model_in_spec(m->teacher) : NULL;
    char text[900];
    rows_open(&x->data, o, h, above, text, tool_err(t));
    if (x->held_out_name)
        rows_check(&x->held_out, o, h, above, tool_err(t));
    tool_check(t);
    if (*text)
        tool_note(t, "%s", text);
    note_epochs(t, &x->data, all_sequences(o));
    if (loss_on_note_sources(text, &x->data))
        tool_note(t, "%s", text);
}
