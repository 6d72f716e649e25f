/* Lists of layers: see ranges.h. */
#include "ranges.h"

#include <inttypes.h>
#include <stdlib.h>

#include "mem.h"

static int is_digit(char c) { return c >= '0' && c <= '9'; }

/* What a larger number counts as: it fits nowhere, and 64 bits may not hold it. */
static const int64_t TOO_LARGE = INT64_C(1000000000000000000);

/* Reads the number at *at and moves past it. */
static int64_t number(const char **at)
{
    int64_t n = 0;
    for (; is_digit(**at); ++*at)
        n = n >= TOO_LARGE / 10 ? TOO_LARGE : 10 * n + (**at - '0');
    return n;
}

/* "3", "0-7", "8-" or "-7". -1: none of these. */
static int parse_layers(struct range *r, const char **at)
{
    int begins = is_digit(**at);
    r->from = number(at);
    if (**at != '-') {
        r->to = r->from;
        return begins ? 0 : -1;
    }
    ++*at;
    int ends = is_digit(**at);
    r->to = ends ? number(at) : INT64_MAX;
    return begins || ends ? 0 : -1;
}

static int parse_one(struct range *r, const char **at, enum ranges_kind kind)
{
    *r = (struct range){0};
    if (parse_layers(r, at))
        return -1;
    if (kind == RANGES_PLAIN)
        return 0;
    if (**at != ':' || !is_digit((*at)[1]))
        return -1;
    ++*at;
    r->value = number(at);
    return 0;
}

static int refuse_text(const char *option, const char *text, enum ranges_kind kind, struct err *e)
{
    if (kind == RANGES_NUMBER)
        return err_set(e, "--%s takes a whole number, not \"%s\"", option, text);
    return kind == RANGES_PLAIN
               ? err_set(e, "--%s takes a list of layers such as 0,3,12-19, not \"%s\"", option,
                         text)
               : err_set(e,
                         "--%s takes a number, or LAYERS:SIZE for some layers, such as "
                         "0-7:896,8-:1024, not \"%s\"",
                         option, text);
}

static int append(struct ranges *to, struct range r, const char *option, const char *text,
                  enum ranges_kind kind, struct err *e)
{
    if (r.value == TOO_LARGE)
        return err_set(e, "--%s must be below 10^18, not \"%s\"", option, text);
    if (r.from > r.to)
        return err_set(e, "--%s: the range %" PRId64 "-%" PRId64 " is reversed", option, r.from,
                       r.to);
    if (kind != RANGES_PLAIN && r.value < 1)
        return err_set(e, "--%s must be at least 1, not %" PRId64, option, r.value);
    for (int64_t i = 0; i < to->n; i++) {
        int64_t from = r.from > to->list[i].from ? r.from : to->list[i].from;
        if (from <= r.to && from <= to->list[i].to)
            return err_set(e, "--%s names layer %" PRId64 " twice", option, from);
    }
    to->list = mem_grow(to->list, (size_t)(to->n + 1) * sizeof *to->list);
    to->list[to->n++] = r;
    return 0;
}

static int parse_list(struct ranges *r, const char *option, const char *text, enum ranges_kind kind,
                      struct err *e)
{
    for (const char *at = text;; at++) {
        struct range one;
        if (parse_one(&one, &at, kind) || (*at && *at != ','))
            return refuse_text(option, text, kind, e);
        if (append(r, one, option, text, kind, e))
            return -1;
        if (!*at)
            return 0;
    }
}

int ranges_parse(struct ranges *r, const char *option, const char *text, enum ranges_kind kind,
                 struct err *e)
{
    const char *end = text;
    int64_t all = number(&end);
    *r = (struct ranges){0};
    int bad, is_number = end > text && !*end;
    if (kind != RANGES_PLAIN && is_number)
        bad = append(r, (struct range){0, INT64_MAX, all}, option, text, kind, e);
    else if (kind == RANGES_NUMBER)
        bad = refuse_text(option, text, kind, e);
    else
        bad = parse_list(r, option, text, kind, e);
    if (bad)
        ranges_free(r);
    return bad;
}

int ranges_check(const struct ranges *r, const char *option, int64_t layers, struct err *e)
{
    for (int64_t i = 0; i < r->n; i++) {
        const struct range *x = &r->list[i];
        int64_t last = x->to == INT64_MAX ? x->from : x->to;
        if (last == TOO_LARGE)
            return err_set(e,
                           "--%s names a layer of 10^18 or more; the model's layers are 0 to "
                           "%" PRId64,
                           option, layers - 1);
        if (last >= layers)
            return err_set(e, "--%s names layer %" PRId64 "; the model's layers are 0 to %" PRId64,
                           option, last, layers - 1);
    }
    return 0;
}

const struct range *ranges_find(const struct ranges *r, int64_t layer)
{
    for (int64_t i = 0; i < r->n; i++)
        if (layer >= r->list[i].from && layer <= r->list[i].to)
            return &r->list[i];
    return NULL;
}

void ranges_free(struct ranges *r)
{
    free(r->list);
    *r = (struct ranges){0};
}

/* Length of the run of consecutive layers with the same value that starts at i. */
static int64_t run_of(const int64_t *layer, const int64_t *value, int64_t i, int64_t n)
{
    int64_t run = 1;
    while (i + run < n && (!value || value[i + run] == value[i]) &&
           layer[i + run] == layer[i] + run)
        run++;
    return run;
}

char *ranges_text(const int64_t *layer, const int64_t *value, int64_t n)
{
    int64_t equal = 0;
    while (value && equal < n && value[equal] == value[0])
        equal++;
    if (n && equal == n)
        return mem_format("%" PRId64, value[0]);
    char *text = mem_string("");
    for (int64_t i = 0; i < n;) {
        int64_t run = run_of(layer, value, i, n);
        text = mem_append(text, "%s%" PRId64, i ? "," : "", layer[i]);
        if (run > 1)
            text = mem_append(text, "-%" PRId64, layer[i + run - 1]);
        if (value)
            text = mem_append(text, ":%" PRId64, value[i]);
        i += run;
    }
    return text;
}
