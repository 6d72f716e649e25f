/* Conversations to ids: see chat.h. A conversation becomes one text, with the ranges of it that
 * count; the text is encoded as a whole, and the tokens' source bytes say which are in a range. */
#include "chat.h"

#include <stdlib.h>
#include <string.h>

#include "../base/mem.h"
#include "chat_template.h"
#include "chat_text.h"
#include "records.h"
#include "tokenizer_config.h"

/* ---- the template and its tokens */

/* The text of the end-of-sequence token that the model's config.json gives as an id. */
static char *eos_of_config(struct tokenizer *t, struct model_in *in)
{
    const json_t *id = in ? json_object_get(model_in_spec(in)->config, "eos_token_id") : NULL;
    if (json_is_array(id))
        id = json_array_get(id, 0);
    json_int_t v = json_is_integer(id) ? json_integer_value(id) : -1;
    uint32_t token = (uint32_t)v;
    int64_t n;
    return v >= 0 && v < tokenizer_vocab_size(t) ? tokenizer_decode(t, &token, 1, 0, &n) : NULL;
}

static char *first_of(const char *a, const char *b)
{
    if (a)
        return mem_string(a);
    return mem_string(b ? b : "");
}

/* -1: a marker that must be one token is none in this vocabulary. */
static int check_token(const struct chat *c, struct tokenizer *t, const char *text, struct err *e)
{
    struct ids ids = {0};
    int64_t n = tokenizer_encode(t, text, (int64_t)strlen(text), &ids, e);
    ids_free(&ids);
    if (n == 1 || !*text)
        return n < 0 ? -1 : 0;
    return err_set(e, "the tokenizer has no token \"%.40s\", which chat template %s needs", text,
                   chat_name(c));
}

/* form: the template, or NULL. */
static int open_with(struct chat *c, const struct chat_template *form, struct tokenizer *t,
                     struct model_in *in, struct err *e)
{
    json_t *config = tokenizer_config(in, e);
    const char *bos = tokenizer_config_token(config, "bos_token"),
               *eos = tokenizer_config_token(config, "eos_token");
    *c = (struct chat){.form = form};
    c->begin.n = tokenizer_special(t, 0, c->begin.ids, SPECIAL_MAX);
    c->bos = form && form->bos ? first_of(bos, form->bos) : mem_string("");
    c->eos = eos ? mem_string(eos) : eos_of_config(t, in);
    if (!c->eos)
        c->eos = first_of(NULL, form ? form->eos : NULL);
    json_decref(config);
    if (e->set || check_token(c, t, c->bos, e) || check_token(c, t, chat_end(c), e))
        return -1;
    if (*chat_end(c))
        return 0;
    return err_set(e, "the model names no end-of-sequence token, with which an answer ends: "
                      "eos_token in its tokenizer_config.json");
}

static int is_auto(const char *name) { return !name || !strcmp(name, "auto"); }

int chat_check_name(const char *name, struct err *e)
{
    return is_auto(name) || chat_template_named(name, e) ? 0 : -1;
}

int chat_open(struct chat *c, const char *name, struct tokenizer *t, struct model_in *in,
              struct err *e)
{
    const struct chat_template *form = is_auto(name) ? chat_template_of(in, e)
                                                     : chat_template_named(name, e);
    *c = (struct chat){0};
    return form ? open_with(c, form, t, in, e) : -1;
}

int chat_open_pair(struct chat *c, struct tokenizer *t, struct model_in *in, struct err *e)
{
    return open_with(c, NULL, t, in, e);
}

void chat_close(struct chat *c)
{
    free(c->bos);
    free(c->eos);
    *c = (struct chat){0};
}

int64_t chat_answer_end(const struct chat *c, const struct tokenizer *t)
{
    return tokenizer_id(t, chat_end(c));
}

const char *chat_name(const struct chat *c) { return c->form ? c->form->name : "plain"; }

/* ---- to ids */

/* Where byte `at` of the text is when only bytes that tokens cover are counted: tokens leave out
 * what the vocabulary cannot express. */
static int64_t covered_before(struct tokenizer *t, const struct written *w, int64_t at, int lossy,
                              struct err *e)
{
    return lossy ? tokenizer_covers(t, w->s, at, e) : at;
}

/* The tokens from `first` on encode w: those that overlap a range, or stand at its start without
 * a byte of their own, count. */
static int flag(struct tokenizer *t, const struct written *w, int lossy, struct ids *out,
                int64_t first, struct err *e)
{
    int64_t i = first, at = 0;
    for (int64_t k = 0; k <= w->n_marks; k += 2) {
        int last = k == w->n_marks;
        int64_t from = last ? INT64_MAX : covered_before(t, w, w->marks[k], lossy, e),
                to = last ? INT64_MAX : covered_before(t, w, w->marks[k + 1], lossy, e);
        for (; i < out->n && at < to; at += out->bytes[i++])
            if (at < from && at + out->bytes[i] <= from)
                out->flags[i] |= TOKEN_UNCOUNTED;
    }
    return e->set ? -1 : 0;
}

static int encode(const struct chat *c, struct tokenizer *t, const struct written *w, int as_text,
                  struct ids *out, struct err *e)
{
    int64_t dropped = tokenizer_dropped(t);
    for (int64_t i = 0; as_text && i < c->begin.n; i++) {
        ids_push(out, c->begin.ids[i], 0);
        out->flags[out->n - 1] = TOKEN_UNCOUNTED;
    }
    int64_t first = out->n;
    if (tokenizer_encode(t, w->s, w->n, out, e) < 0)
        return -1;
    return flag(t, w, tokenizer_dropped(t) != dropped, out, first, e);
}

static int encode_messages(const struct chat *c, struct tokenizer *t, const json_t *messages,
                           int prompt, struct ids *out, struct err *e)
{
    struct written w = {0};
    int failed = chat_write(&w, c, messages, prompt, e) ||
                 encode(c, t, &w, c->form->begins_as_text, out, e);
    written_free(&w);
    return failed ? -1 : 0;
}

int chat_encode(const struct chat *c, struct tokenizer *t, const json_t *messages, struct ids *out,
                struct err *e)
{
    return encode_messages(c, t, messages, 0, out, e);
}

int chat_encode_prompt(const struct chat *c, struct tokenizer *t, const json_t *messages,
                       struct ids *out, struct err *e)
{
    return encode_messages(c, t, messages, 1, out, e);
}

int chat_encode_pair(const struct chat *c, struct tokenizer *t, struct chat_text prompt,
                     struct chat_text completion, struct ids *out, struct err *e)
{
    struct written w = {0};
    written_put(&w, prompt.s, prompt.n);
    written_mark(&w);
    written_put(&w, completion.s, completion.n);
    written_put(&w, c->eos, (int64_t)strlen(c->eos));
    written_mark(&w);
    int failed = encode(c, t, &w, 1, out, e);
    written_free(&w);
    return failed;
}
