/* Conversations as text: see chat_text.h. */
#include "chat_text.h"

#include <stdlib.h>
#include <string.h>

#include "../base/mem.h"
#include "../base/utf8.h"
#include "chat_template.h"

const char *chat_end(const struct chat *c)
{
    return c->form && c->form->answer[2] && *c->form->answer[2] ? c->form->answer[2] : c->eos;
}

/* ---- messages */

struct message {
    enum chat_role role;
    const char *s;
    int64_t n;
    int counted;
};

/* Python's str.strip, which the templates' trim is. */
static void strip(struct message *m)
{
    for (int len; m->n && utf8_is_space(utf8_point(m->s, len = utf8_length(m->s, m->n)));)
        m->s += len, m->n -= len;
    for (int len = 1; m->n; m->n -= len, len = 1) {
        while (len < 4 && (m->s[m->n - len] & 0xc0) == 0x80)
            len++;
        if (!utf8_is_space(utf8_point(m->s + m->n - len, len)))
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

/* What a template that knows thoughts does not write as it is. */
static int reasoning_check(const struct chat_template *f, const struct message *m, const json_t *o,
                           size_t i, struct err *e)
{
    const char *sign = m->role == CHAT_ASSISTANT ? "</think>" : "<tool_response>";
    if (!f->thought || m->role == CHAT_SYSTEM)
        return 0;
    if (json_string_length(json_object_get(o, "reasoning_content")))
        return err_set(e, "message %zu has reasoning_content, which is not read", i + 1);
    if (memmem(m->s, (size_t)m->n, sign, strlen(sign)))
        return err_set(e, "message %zu has \"%s\", of which chat template %s makes something else",
                       i + 1, sign, f->name);
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

void written_put(struct written *w, const char *s, int64_t n)
{
    if (w->room - w->n < n)
        w->s = mem_grow(w->s, (size_t)(w->room = 2 * w->room + n + 256));
    if (n)
        memcpy(w->s + w->n, s, (size_t)n);
    w->n += n;
}

void written_mark(struct written *w)
{
    w->marks = mem_grow(w->marks, (size_t)(w->n_marks + 1) * sizeof *w->marks);
    w->marks[w->n_marks++] = w->n;
}

void written_free(struct written *w)
{
    free(w->s);
    free(w->marks);
}

static void put_text(struct written *w, const char *s)
{
    if (s)
        written_put(w, s, (int64_t)strlen(s));
}

/* thought: what the answer begins with instead of line feeds, or NULL. */
static void put_answer(struct written *w, const struct chat *c, struct message m,
                       const char *thought)
{
    const char *const *part = c->form->answer;
    for (; thought && m.n && *m.s == '\n'; m.n--)
        m.s++;
    put_text(w, part[0]);
    if (m.counted)
        written_mark(w);
    put_text(w, part[1]);
    put_text(w, thought);
    written_put(w, m.s, m.n);
    put_text(w, chat_end(c));
    if (m.counted)
        written_mark(w);
    put_text(w, part[3]);
}

/* held: a system prompt that belongs into this turn, or NULL. */
static void put_turn(struct written *w, const char *const around[2], const struct message *held,
                     const struct message *m)
{
    put_text(w, around[0]);
    if (held) {
        written_put(w, held->s, held->n);
        put_text(w, "\n\n");
    }
    written_put(w, m->s, m->n);
    put_text(w, around[1]);
}

struct writing {
    struct written *w;
    const struct chat *c;
    const struct message *held; /* a system prompt that waits for its question */
    struct message system;
    int64_t turns; /* of user and assistant */
    int asked;     /* the user has spoken */
};

/* last: no message follows. */
static void write_message(struct writing *x, const struct message *m, int last)
{
    const struct chat_template *f = x->c->form;
    if (m->role == CHAT_ASSISTANT) {
        put_answer(x->w, x->c, *m, last && x->asked ? f->thought : NULL);
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
    x->asked |= m->role == CHAT_USER;
}

static int write_messages(struct written *w, const struct chat *c, const json_t *list,
                          struct err *e)
{
    const struct chat_template *f = c->form;
    struct writing x = {.w = w, .c = c};
    struct message m;
    size_t count = json_array_size(list);
    for (size_t i = 0; i < count; i++) {
        if (message_read(&m, list, i, e) || order_check(f, &m, i, x.turns, e) ||
            reasoning_check(f, &m, json_array_get(list, i), i, e))
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

int chat_write(struct written *w, const struct chat *c, const json_t *messages, int prompt,
               struct err *e)
{
    size_t n = json_array_size(messages);
    struct message last;
    if (!n)
        return err_set(e, "the conversation is no list of messages, or an empty one");
    put_text(w, c->bos);
    if (write_messages(w, c, messages, e))
        return -1;
    if (!prompt)
        return 0;
    if (message_read(&last, messages, n - 1, e))
        return -1;
    if (last.role != CHAT_USER)
        return err_set(e, "message %zu, the last, is not the user's: there is nothing to answer",
                       n);
    put_text(w, c->form->answer[0]);
    return 0;
}
