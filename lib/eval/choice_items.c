/* Items of a JSON Lines file: see choice_items.h. */
#include "choice_items.h"

#include <stdlib.h>
#include <string.h>

#include "../../formats/json.h"
#include "../base/mem.h"
#include "../base/minmax.h"

/* ---- reading */

/* A text, or a list of at least one. */
static int texts_take(struct choice_texts *to, const json_t *from, const char *name,
                      const char *where, struct err *e)
{
    int64_t n = json_is_array(from) ? (int64_t)json_array_size(from) : 1;
    to->text = mem_alloc((size_t)(n + 1) * sizeof *to->text);
    for (int64_t i = 0; i < n; i++) {
        const json_t *one = json_is_array(from) ? json_array_get(from, (size_t)i) : from;
        if (!json_is_string(one))
            return err_set(e, "%s: \"%s\" must be a text or a list of texts", where, name);
        to->text[to->n++] = mem_string(json_string_value(one));
    }
    return n ? 0 : err_set(e, "%s: \"%s\" is an empty list", where, name);
}

static int text_take(char **to, const json_t *from, const char *name, const char *where,
                     struct err *e)
{
    if (from && !json_is_string(from))
        return err_set(e, "%s: \"%s\" must be a text", where, name);
    *to = mem_string(from ? json_string_value(from) : "");
    return 0;
}

static int gold_add(struct choice_item *q, const json_t *gold, const char *where, struct err *e)
{
    json_int_t i = json_integer_value(gold);
    if (!json_is_integer(gold))
        return err_set(e,
                       "%s: \"gold\" must be the number of a choice, counted from 0, or a list of "
                       "such numbers",
                       where);
    if (i < 0 || i >= q->n)
        return err_set(e, "%s: \"gold\" is %lld, but the choices are 0 to %lld", where,
                       (long long)i, (long long)q->n - 1);
    q->gold[i] = 1;
    return 0;
}

static int gold_take(struct choice_item *q, const json_t *gold, const char *where, struct err *e)
{
    q->gold = mem_alloc((size_t)q->n);
    if (!gold && q->n == 1)
        q->gold[0] = 1;
    else if (!gold)
        return err_set(e, "%s has no \"gold\", the number of the right choice", where);
    else if (!json_is_array(gold))
        return gold_add(q, gold, where, e);
    for (size_t i = 0; i < json_array_size(gold); i++)
        if (gold_add(q, json_array_get(gold, i), where, e))
            return -1;
    if (gold && !json_array_size(gold))
        return err_set(e, "%s: \"gold\" is an empty list", where);
    return 0;
}

static int lengths_check(const struct choice_item *q, const char *where, struct err *e)
{
    for (int64_t i = 0; i < q->choices.n; i++)
        if (!choice_bytes(q, i))
            return err_set(e, "%s: choice %lld is empty", where, (long long)i);
    if (q->ctx.n == 1 || q->choices.n == 1 || q->ctx.n == q->choices.n)
        return 0;
    return err_set(e, "%s: \"ctx\" has %lld texts and \"choices\" %lld: they cannot go together",
                   where, (long long)q->ctx.n, (long long)q->choices.n);
}

static int item_take(struct choice_item *q, const json_t *line, const char *where, struct err *e)
{
    const json_t *ctx = json_given(line, "ctx"), *choices = json_given(line, "choices");
    if (!choices)
        return err_set(e, "%s must be an object with texts under \"choices\"", where);
    if (texts_take(&q->choices, choices, "choices", where, e) ||
        text_take(&q->description, json_given(line, "description"), "description", where, e) ||
        text_take(&q->group, json_given(line, "group"), "group", where, e))
        return -1;
    if (ctx && texts_take(&q->ctx, ctx, "ctx", where, e))
        return -1;
    if (!ctx) {
        q->ctx.text = mem_alloc(sizeof *q->ctx.text);
        q->ctx.text[q->ctx.n++] = mem_string("");
    }
    q->n = max64(q->ctx.n, q->choices.n);
    return lengths_check(q, where, e) || gold_take(q, json_given(line, "gold"), where, e) ? -1 : 0;
}

static int take_line(void *user, const char *line, const json_t *value, int64_t number,
                     const char *where, struct err *e)
{
    struct choice_items *s = user;
    (void)line;
    if (!(s->n & (s->n - 1))) /* room for the next power of two */
        s->all = mem_grow(s->all, (size_t)max64(1, 2 * s->n) * sizeof *s->all);
    struct choice_item *q = &s->all[s->n++];
    *q = (struct choice_item){.line = number};
    if (item_take(q, value, where, e))
        return -1;
    return s->n == s->limit;
}

int choice_items_read(struct choice_items *s, const char *path, int64_t limit, struct err *e)
{
    *s = (struct choice_items){.path = mem_string(json_lines_name(path)), .limit = limit};
    if (json_lines_read(path, take_line, s, s->digest, e))
        return -1;
    return s->n ? 0 : err_set(e, "%s has no items", s->path);
}

static void texts_free(struct choice_texts *t)
{
    for (int64_t i = 0; i < t->n; i++)
        free(t->text[i]);
    free(t->text);
}

void choice_items_free(struct choice_items *s)
{
    for (int64_t i = 0; i < s->n; i++) {
        texts_free(&s->all[i].ctx);
        texts_free(&s->all[i].choices);
        free(s->all[i].gold);
        free(s->all[i].description);
        free(s->all[i].group);
    }
    free(s->all);
    free(s->path);
    *s = (struct choice_items){0};
}

/* ---- an item */

static const char *text_of(const struct choice_texts *t, int64_t i)
{
    return t->text[t->n == 1 ? 0 : i];
}

const char *choice_ctx(const struct choice_item *q, int64_t i) { return text_of(&q->ctx, i); }
const char *choice_text(const struct choice_item *q, int64_t i) { return text_of(&q->choices, i); }

int64_t choice_gold(const struct choice_item *q)
{
    int64_t i = 0;
    while (!q->gold[i])
        i++;
    return i;
}

/* The choice without the space that separates it from its ctx. */
static const char *measured(const struct choice_item *q, int64_t i)
{
    const char *s = choice_text(q, i);
    return s + (*s == ' ');
}

int64_t choice_bytes(const struct choice_item *q, int64_t i)
{
    return (int64_t)strlen(measured(q, i));
}

int64_t choice_characters(const struct choice_item *q, int64_t i)
{
    int64_t n = 0;
    for (const char *s = measured(q, i); *s; s++)
        n += (*s & 0xc0) != 0x80; /* of UTF-8, no continuation */
    return n;
}

/* ---- few-shot examples */

static int texts_equal(const struct choice_texts *a, const struct choice_texts *b)
{
    int same = a->n == b->n;
    for (int64_t i = 0; same && i < a->n; i++)
        same = !strcmp(a->text[i], b->text[i]);
    return same;
}

static int is_example(const struct choice_item *q, const struct choice_item *shot)
{
    return (!*shot->group || !strcmp(q->group, shot->group)) &&
           !(texts_equal(&q->ctx, &shot->ctx) && texts_equal(&q->choices, &shot->choices));
}

char *choice_preamble(const struct choice_item *q, const struct choice_items *from, int64_t shots,
                      struct err *e)
{
    char *text = mem_string(q->description);
    int64_t n = 0;
    for (int64_t i = 0; n < shots && i < from->n; i++) {
        const struct choice_item *shot = &from->all[i];
        int64_t gold = choice_gold(shot);
        if (!is_example(q, shot))
            continue;
        text = mem_append(text, "%s%s\n\n", choice_ctx(shot, gold), choice_text(shot, gold));
        n++;
    }
    if (n == shots)
        return text;
    err_set(e, "%s has %lld examples for line %lld%s%s, not %lld", from->path, (long long)n,
            (long long)q->line, *q->group ? ", of group " : "", q->group, (long long)shots);
    free(text);
    return NULL;
}
