/* Conversations to ids: see chat.h. A conversation becomes one text, with the ranges of it that
 * count; the text is encoded as a whole, and the tokens' source bytes say which are in a range. */
#include "chat.h"

#include <stdlib.h>
#include <string.h>

#include "../base/mem.h"
#include "../base/utf8.h"
#include "chat_template.h"
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

/* The end of an answer, which is one token. */
static const char *answer_end(const struct chat *c)
{
    return c->form && c->form->answer[2] && *c->form->answer[2] ? c->form->answer[2] : c->eos;
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
    if (e->set || check_token(c, t, c->bos, e) || check_token(c, t, answer_end(c), e))
        return -1;
    if (*answer_end(c))
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
    return tokenizer_id(t, answer_end(c));
}

const char *chat_name(const struct chat *c) { return c->form ? c->form->name : "plain"; }

/* ---- messages */

struct message {
    enum chat_role role;
    const char *s;
    int64_t n;
    int counted;
};

/* Python's str.strip, which the templates' trim is: white space is what str.isspace says. */
static int is_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

static void strip(struct message *m)
{
    for (int len; m->n && is_space(utf8_point(m->s, len = utf8_length(m->s, m->n)));)
        m->s += len, m->n -= len;
    for (int len = 1; m->n; m->n -= len, len = 1) {
        while (len < 4 && (m->s[m->n - len] & 0xc0) == 0x80)
            len++;
        if (!is_space(utf8_point(m->s + m->n - len, len)))
            return;
    }
}

/* A content is a text, or a list of one text part. */
static const json_t *content_text(const json_t *content)
{
    const json_t *part = json_array_get(content, 0);
    const char *type = json_string_value(json_object_get(part, "type"));
    if (json_is_array(content) && json_array_size(content) == 1 && type && !strcmp(type, "text"))
        content = json_object_get(part, "text");
    return json_is_string(content) ? content : NULL;
}

static int role_of(const char *name)
{
    if (!strcmp(name, "user"))
        return CHAT_USER;
    if (!strcmp(name, "assistant"))
        return CHAT_ASSISTANT;
    return strcmp(name, "system") ? 0 : CHAT_SYSTEM;
}

static int message_read(struct message *m, const json_t *list, size_t i, struct err *e)
{
    static const char *const calls[] = {"tool_calls", "function_call"};
    const json_t *o = json_array_get(list, i), *weight = json_object_get(o, "weight"),
                 *text = content_text(json_object_get(o, "content"));
    const char *role = json_string_value(json_object_get(o, "role"));
    if (!role)
        return err_set(e, "message %zu has no \"role\", a text", i + 1);
    if (!role_of(role))
        return err_set(e,
                       "message %zu has the role \"%.40s\"; only system, user and assistant are "
                       "known",
                       i + 1, role);
    for (int k = 0; k < 2; k++)
        if (json_is_object(json_object_get(o, calls[k])) ||
            json_array_size(json_object_get(o, calls[k])))
            return err_set(e, "message %zu has %s, which no known chat template covers", i + 1,
                           calls[k]);
    if (!text)
        return err_set(e, "message %zu has no \"content\" that is a text, or one text part", i + 1);
    *m = (struct message){.role = (enum chat_role)role_of(role),
                          .s = json_string_value(text),
                          .n = (int64_t)json_string_length(text),
                          .counted = !json_is_number(weight) || json_number_value(weight) != 0};
    return 0;
}

/* Is message i, with `turns` of user and assistant before it, in its place? */
static int order_check(const struct chat_template *f, const struct message *m, size_t i,
                       int64_t turns, struct err *e)
{
    if (m->role == CHAT_SYSTEM && f->system_place == CHAT_SYSTEM_REFUSED)
        return err_set(e,
                       "message %zu is a system prompt, which chat template %s has not: let the "
                       "first question begin with it",
                       i + 1, f->name);
    if (m->role == CHAT_SYSTEM && i)
        return err_set(e, "message %zu is a system prompt, which only the first may be", i + 1);
    if (m->role != CHAT_SYSTEM && f->alternate && (m->role == CHAT_USER) == turns % 2)
        return err_set(e,
                       "message %zu is the %s's, but chat template %s needs user and assistant in "
                       "turns, the user first",
                       i + 1, m->role == CHAT_USER ? "user" : "assistant", f->name);
    return 0;
}

/* ---- a conversation as one text */

struct written {
    char *s;
    int64_t n, room;
    int64_t *marks, n_marks; /* ranges that count: from, to, from, to, ... */
};

static void put(struct written *w, const char *s, int64_t n)
{
    if (w->room - w->n < n)
        w->s = mem_grow(w->s, (size_t)(w->room = 2 * w->room + n + 256));
    if (n)
        memcpy(w->s + w->n, s, (size_t)n);
    w->n += n;
}

static void put_text(struct written *w, const char *s)
{
    if (s)
        put(w, s, (int64_t)strlen(s));
}

/* A range that counts begins or ends here. */
static void mark(struct written *w)
{
    w->marks = mem_grow(w->marks, (size_t)(w->n_marks + 1) * sizeof *w->marks);
    w->marks[w->n_marks++] = w->n;
}

static void put_answer(struct written *w, const struct chat *c, const struct message *m)
{
    const char *const *part = c->form->answer;
    put_text(w, part[0]);
    if (m->counted)
        mark(w);
    put_text(w, part[1]);
    put(w, m->s, m->n);
    put_text(w, answer_end(c));
    if (m->counted)
        mark(w);
    put_text(w, part[3]);
}

/* held: a system prompt that belongs into this turn, or NULL. */
static void put_turn(struct written *w, const char *const around[2], const struct message *held,
                     const struct message *m)
{
    put_text(w, around[0]);
    if (held) {
        put(w, held->s, held->n);
        put_text(w, "\n\n");
    }
    put(w, m->s, m->n);
    put_text(w, around[1]);
}

struct writing {
    struct written *w;
    const struct chat *c;
    const struct message *held; /* a system prompt that waits for its question */
    struct message system;
    int64_t turns; /* of user and assistant */
};

/* last: no message follows. */
static void write_message(struct writing *x, const struct message *m, int last)
{
    const struct chat_template *f = x->c->form;
    if (m->role == CHAT_ASSISTANT) {
        put_answer(x->w, x->c, m);
    } else if (m->role == CHAT_USER) {
        int here = last || f->system_place == CHAT_SYSTEM_IN_FIRST;
        put_turn(x->w, f->user, here ? x->held : NULL, m);
        x->held = here ? NULL : x->held;
    } else if (f->system_place == CHAT_SYSTEM_TURN) {
        put_turn(x->w, f->system, NULL, m);
    } else {
        x->system = *m;
        x->held = &x->system;
    }
    x->turns += m->role != CHAT_SYSTEM;
}

static int write_messages(struct written *w, const struct chat *c, const json_t *list,
                          struct err *e)
{
    const struct chat_template *f = c->form;
    struct writing x = {.w = w, .c = c};
    struct message m;
    size_t count = json_array_size(list);
    for (size_t i = 0; i < count; i++) {
        if (message_read(&m, list, i, e) || order_check(f, &m, i, x.turns, e))
            return -1;
        if (!i && m.role != CHAT_SYSTEM && f->default_system)
            write_message(&x,
                          &(struct message){CHAT_SYSTEM, f->default_system,
                                            (int64_t)strlen(f->default_system), 0},
                          0);
        if (m.role & f->trimmed)
            strip(&m);
        write_message(&x, &m, i + 1 == count);
    }
    if (!x.held)
        return 0;
    return err_set(e,
                   "the system prompt belongs to the last question in chat template %s, and would "
                   "vanish before an answer: let the first question begin with it",
                   f->name);
}

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

static int encode(const struct chat *c, struct tokenizer *t, struct written *w, int as_text,
                  struct ids *out, struct err *e)
{
    int64_t dropped = tokenizer_dropped(t);
    for (int64_t i = 0; as_text && i < c->begin.n; i++) {
        ids_push(out, c->begin.ids[i], 0);
        out->flags[out->n - 1] = TOKEN_UNCOUNTED;
    }
    int64_t first = out->n;
    int failed = tokenizer_encode(t, w->s, w->n, out, e) < 0 ||
                 flag(t, w, tokenizer_dropped(t) != dropped, out, first, e);
    free(w->s);
    free(w->marks);
    return failed ? -1 : 0;
}

static int encode_messages(const struct chat *c, struct tokenizer *t, const json_t *messages,
                           int prompt, struct ids *out, struct err *e)
{
    struct written w = {0};
    put_text(&w, c->bos);
    int failed = !json_array_size(messages)
                     ? err_set(e, "the conversation is no list of messages, or an empty one")
                     : write_messages(&w, c, messages, e);
    if (prompt)
        put_text(&w, c->form->answer[0]);
    if (!failed)
        return encode(c, t, &w, c->form->begins_as_text, out, e);
    free(w.s);
    free(w.marks);
    return -1;
}

int chat_encode(const struct chat *c, struct tokenizer *t, const json_t *messages, struct ids *out,
                struct err *e)
{
    return encode_messages(c, t, messages, 0, out, e);
}

int chat_encode_prompt(const struct chat *c, struct tokenizer *t, const json_t *messages,
                       struct ids *out, struct err *e)
{
    size_t n = json_array_size(messages);
    struct message last;
    if (n && message_read(&last, messages, n - 1, e))
        return -1;
    if (n && last.role != CHAT_USER)
        return err_set(e, "message %zu, the last, is not the user's: there is nothing to answer",
                       n);
    return encode_messages(c, t, messages, 1, out, e);
}

int chat_encode_pair(const struct chat *c, struct tokenizer *t, struct chat_text prompt,
                     struct chat_text completion, struct ids *out, struct err *e)
{
    struct written w = {0};
    put(&w, prompt.s, prompt.n);
    mark(&w);
    put(&w, completion.s, completion.n);
    put_text(&w, c->eos);
    mark(&w);
    return encode(c, t, &w, 1, out, e);
}
