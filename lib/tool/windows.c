/* Tokens as windows: see windows.h. */
#include "tool.h"

void tool_text_check(struct tool *t, const struct tool_text *text)
{
    struct window_options asked = {.context = text->context, .seq_length = text->seq_length};
    struct err usage = {0};
    if (row_bos_check(text->row_bos, &usage) || window_options_check(&asked, &usage))
        tool_usage(t, "%s", usage.msg);
}

static void read_tokens(struct tool *t, struct tool_text *text, int tokens, int model,
                        const struct model_spec *h)
{
    struct err *e = tool_err(t);
    const char *name = tool_operand(t, tokens);
    struct st_in *st = tool_in(t, name, "tokens");
    if (tokens_load(&text->tokens, st, text->max_tokens, e) ||
        data_check_model(&text->tokens, name, h, tool_operand(t, model), text->any_tokenizer, e) ||
        (text->context && row_bos_check_join(text->tokens.head, name, e)))
        tool_check(t);
    st_close(st);
}

void tool_text_open(struct tool *t, struct tool_text *text, int tokens, int model,
                    const struct model_spec *h)
{
    struct err *e = tool_err(t);
    struct window_options o = {.context = text->context};
    char note[200];
    read_tokens(t, text, tokens, model, h);
    if (!text->context)
        o.seq_length = window_length_of(&text->tokens, text->seq_length, h);
    if (window_note(note, text->context + o.seq_length, text->context || text->seq_length, h))
        tool_note(t, "%s", note);
    if (row_bos_of_stream(&o.bos, text->tokens.head, text->row_bos, h, e) ||
        windows_open(&text->w, &text->tokens, &o, e))
        tool_check(t);
    if (text->w.bos_added)
        tool_note(t, "%lld of %lld windows begin with an added BOS token (--row-bos %s)",
                  (long long)text->w.bos_added, (long long)text->w.n, text->row_bos);
}

void tool_text_close(struct tool_text *text)
{
    windows_close(&text->w);
    tokens_free(&text->tokens);
}
