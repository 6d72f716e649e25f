/* Examples in lines of JSON: see examples.h. Refused: lines that are not JSON objects, or have none
 * of the members that are read; tools, which no known template covers. */
#include "examples.h"

#include <stdlib.h>
#include <string.h>

#include "../../formats/json.h"
#include "../base/mem.h"
#include "records.h"

void examples_open(struct examples *x, struct tokenizer *t, const struct bos *bos,
                   const char *field, const char *template, struct model_in *in)
{
    *x = (struct examples){.tokenizer = t, .bos = *bos, .field = field};
    chat_open(&x->chat, template, t, in, &x->no_chat);
    chat_open_pair(&x->pair, t, in, &x->no_pair);
    x->chat.begin = x->pair.begin = bos->begin;
}

void examples_close(struct examples *x)
{
    chat_close(&x->chat);
    chat_close(&x->pair);
}

static void push_all(struct ids *out, const struct row_bos *b)
{
    for (int64_t i = 0; i < b->n; i++)
        ids_push(out, b->ids[i], 0);
}

int examples_text(const struct examples *x, const char *text, int64_t n, struct ids *out,
                  struct err *e)
{
    push_all(out, &x->bos.begin);
    if (tokenizer_encode(x->tokenizer, text, n, out, e) < 0)
        return -1;
    push_all(out, &x->bos.end);
    return 0;
}

/* ---- the members of a line */

static int is_list(struct json_range r) { return r.n && *r.s == '['; }
static int is_text(struct json_range r) { return r.n && *r.s == '"'; }

static int members(const char *where, const char *line, int64_t n, const char *const *names,
                   struct json_range *values, int count, struct err *e)
{
    const char *why;
    if (json_members((struct json_range){line, n}, names, values, count, &why))
        return err_set(e, "%s %s", where, why);
    for (int i = 0; i < count; i++)
        if (values[i].n == 4 && !memcmp(values[i].s, "null", 4)) /* as tables are written out */
            values[i].n = 0;
    return 0;
}

static const char *text_in(struct json_scan *scan, struct json_range r, int64_t *n)
{
    json_scan_open(scan, r.s, r.n);
    return is_text(r) ? json_string_text(scan, n) : NULL;
}

const char *json_line_text(struct json_scan *scan, const char *where, const char *line,
                           const char *field, int64_t *n, struct err *e)
{
    struct json_range value;
    *scan = (struct json_scan){0};
    if (members(where, line, *n, &field, &value, 1, e))
        return NULL;
    const char *s = text_in(scan, value, n);
    if (!s)
        err_set(e, "%s has no text under \"%s\"", where, field);
    return s;
}

/* ---- kinds of examples */

static int read_text(struct examples *x, const char *where, struct json_range r, struct ids *out,
                     struct err *e)
{
    struct json_scan scan;
    int64_t n;
    const char *s = text_in(&scan, r, &n);
    int failed = !s || examples_text(x, s, n, out, e);
    if (!s && x->field)
        err_set(e, "%s has no text under \"%s\"", where, x->field);
    else if (!s)
        err_set(e, "%s has no text under \"text\"; --field names the member that has it", where);
    json_scan_close(&scan);
    return failed ? -1 : 0;
}

static json_t *messages_in(const char *where, struct json_range r, struct err *e)
{
    static const struct json_limits limits = {.values = 4000000, .depth = 32};
    return json_parse_text(r.s, r.n, &limits, where, e);
}

/* What is wrong with messages is said without a place, which is put before it here. */
static int read_messages(struct examples *x, const char *where, const json_t *messages,
                         struct ids *out, struct err *e)
{
    struct err own = {0};
    if (x->no_chat.set)
        return err_set(e, "%s: %s", where, x->no_chat.msg);
    if (chat_encode(&x->chat, x->tokenizer, messages, out, &own))
        return err_set(e, "%s: %s", where, own.msg);
    x->conversations++;
    return 0;
}

static int read_list(struct examples *x, const char *where, struct json_range r, struct ids *out,
                     struct err *e)
{
    json_t *messages = messages_in(where, r, e);
    int failed = !messages || read_messages(x, where, messages, out, e);
    json_decref(messages);
    return failed ? -1 : 0;
}

static int read_texts(struct examples *x, const char *where, const struct json_range r[2],
                      struct ids *out, struct err *e)
{
    struct json_scan scan[2];
    struct chat_text text[2];
    for (int i = 0; i < 2; i++)
        text[i].s = text_in(&scan[i], r[i], &text[i].n);
    int failed = -1;
    if (!text[0].s || !text[1].s)
        err_set(e, "%s: prompt and completion are neither two texts nor two lists of messages",
                where);
    else if (x->no_pair.set)
        err_set(e, "%s: %s", where, x->no_pair.msg);
    else
        failed = chat_encode_pair(&x->pair, x->tokenizer, text[0], text[1], out, e);
    x->pairs += !failed;
    for (int i = 0; i < 2; i++)
        json_scan_close(&scan[i]);
    return failed;
}

/* One conversation from two lists; answers of the first do not count. */
static int read_lists(struct examples *x, const char *where, const struct json_range r[2],
                      struct ids *out, struct err *e)
{
    json_t *all = messages_in(where, r[0], e), *more = all ? messages_in(where, r[1], e) : NULL;
    for (size_t i = 0; i < json_array_size(all); i++)
        if (json_is_object(json_array_get(all, i)))
            json_object_set_new(json_array_get(all, i), "weight", json_integer(0));
    int failed = !more || json_array_extend(all, more) || read_messages(x, where, all, out, e);
    json_decref(all);
    json_decref(more);
    return failed ? -1 : 0;
}

/* ---- a line */

enum { MESSAGES, PROMPT, COMPLETION, TEXT, TOOLS, MEMBERS };

/* Finds the members that are read; with a field, under its names instead of the usual ones. */
static int find_members(const char *where, const char *line, int64_t n, const char *field,
                        struct json_range r[MEMBERS], struct err *e)
{
    static const char *const usual[MEMBERS] = {"messages", "prompt", "completion", "text", "tools"};
    memset(r, 0, MEMBERS * sizeof *r);
    if (!field)
        return members(where, line, n, usual, r, MEMBERS, e);
    char *first = mem_string(field), *plus = strchr(first, '+');
    if (plus)
        *plus++ = 0;
    const char *const names[] = {first, plus};
    int failed = plus ? members(where, line, n, names, r + PROMPT, 2, e)
                      : members(where, line, n, names, r + TEXT, 1, e);
    free(first);
    return failed;
}

static int read_conversation(struct examples *x, const char *where,
                             const struct json_range r[MEMBERS], struct ids *out, struct err *e)
{
    const struct json_range *list = r + (r[MESSAGES].n ? MESSAGES : TEXT);
    if (is_list(r[TOOLS]) && r[TOOLS].n > 2)
        return err_set(e, "%s has tools, which no known chat template covers", where);
    if (is_list(*list))
        return read_list(x, where, *list, out, e);
    if (r[MESSAGES].n)
        return err_set(e, "%s: its messages are not a list", where);
    return is_list(r[PROMPT]) && is_list(r[COMPLETION]) ? read_lists(x, where, r + PROMPT, out, e)
                                                        : read_texts(x, where, r + PROMPT, out, e);
}

int examples_line(struct examples *x, const char *where, const char *line, int64_t n,
                  struct ids *out, struct err *e)
{
    struct json_range r[MEMBERS];
    int64_t i = out->n;
    if (find_members(where, line, n, x->field, r, e))
        return -1;
    if (!r[MESSAGES].n && !is_list(r[TEXT]) && !(r[PROMPT].n && r[COMPLETION].n))
        return read_text(x, where, r[TEXT], out, e);
    if (read_conversation(x, where, r, out, e))
        return -1;
    while (i < out->n && out->flags[i] & TOKEN_UNCOUNTED)
        i++;
    x->answers += i < out->n;
    return 0;
}
