/* Normalizers of a tokenizer.json: Prepend, Replace (of a string or a pattern), NFC, NFD, NFKC,
 * NFKD (forms.c), Lowercase, Strip, Nmt, and sequences of them. Weights are kept up
 * (buffer.h). Bytes that are not UTF-8 pass unchanged. Refuses every other normalizer by name. */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "../base/utf8.h"
#include "tokenizer_private.h"

enum { NORM_STEPS = 16 };

static struct norm_step *norm_add(struct norm *n, enum norm_kind kind, struct err *e)
{
    if (n->count == NORM_STEPS)
        return err_set(e, "the tokenizer has more than %d normalizers", NORM_STEPS), NULL;
    n->steps = mem_grow(n->steps, (size_t)(n->count + 1) * sizeof *n->steps);
    n->steps[n->count] = (struct norm_step){.kind = kind};
    return &n->steps[n->count++];
}

/* Prepend, Replace, Strip: 1, 0 if it is none of them, -1. */
static int read_with_text(struct norm *n, const char *type, const json_t *spec, struct err *e)
{
    const json_t *pattern = json_object_get(spec, "pattern");
    const char *string = json_string_value(json_object_get(pattern, "String")),
               *regex = json_string_value(json_object_get(pattern, "Regex")),
               *content = json_string_value(json_object_get(spec, "content")),
               *prepend = json_string_value(json_object_get(spec, "prepend"));
    int is_prepend = !strcmp(type, "Prepend") && prepend, is_strip = !strcmp(type, "Strip"),
        is_replace = !strcmp(type, "Replace") && content && (regex || (string && *string));
    if (!is_prepend && !is_strip && !is_replace)
        return 0;
    struct norm_step *s = norm_add(n, is_prepend ? NORM_PREPEND : NORM_STRIP, e);
    if (!s)
        return -1;
    s->left = !json_is_false(json_object_get(spec, "strip_left"));
    s->right = !json_is_false(json_object_get(spec, "strip_right"));
    if (is_prepend)
        s->to = mem_string(prepend);
    if (is_replace) {
        s->kind = regex ? NORM_PATTERN : NORM_REPLACE;
        s->from = mem_string(regex ? regex : string);
        s->to = mem_string(content);
    }
    if (s->kind == NORM_PATTERN && !(s->pattern = pattern_open(regex, PATTERN_ONIGURUMA, e)))
        return -1;
    return 1;
}

static int norm_read_one(struct norm *n, const json_t *spec, int depth, struct err *e)
{
    static const struct {
        const char *type;
        enum norm_kind kind;
    } plain[] = {{"NFC", NORM_NFC},   {"NFD", NORM_NFD},         {"NFKC", NORM_NFKC},
                 {"NFKD", NORM_NFKD}, {"Lowercase", NORM_LOWER}, {"Nmt", NORM_NMT}};
    const char *type = json_string_value(json_object_get(spec, "type"));
    if (!type || depth > 8)
        return err_set(e, "the tokenizer's normalizer is malformed");
    if (!strcmp(type, "Sequence")) {
        const json_t *list = json_object_get(spec, "normalizers");
        for (size_t i = 0; i < json_array_size(list); i++)
            if (norm_read_one(n, json_array_get(list, i), depth + 1, e))
                return -1;
        return 0;
    }
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (!strcmp(plain[i].type, type))
            return norm_add(n, plain[i].kind, e) ? 0 : -1;
    int known = read_with_text(n, type, spec, e);
    if (known)
        return known > 0 ? 0 : -1;
    return err_set(e, "the tokenizer's normalizer \"%.80s\" is not supported", type);
}

int norm_read(struct norm *n, const json_t *spec, struct err *e)
{
    n->seconds = PATTERN_SECONDS;
    return !spec || json_is_null(spec) ? 0 : norm_read_one(n, spec, 0, e);
}

void norm_free(struct norm *n)
{
    for (int i = 0; i < n->count; i++) {
        free(n->steps[i].from);
        free(n->steps[i].to);
        pattern_close(n->steps[i].pattern);
    }
    free(n->steps);
    buffer_free(&n->work[0]);
    buffer_free(&n->work[1]);
}

/* In the library the last character is replaced and the others are removed, so that a longer match
 * at the beginning leaves a text that does not begin there. */
static void replace_one(struct buffer *out, struct text match, const char *to)
{
    if (match.first && match.n && utf8_length(match.s, match.n) < match.n)
        out->late = 1;
    buffer_add(out, to, (int64_t)strlen(to), NULL, (uint32_t)text_weight(match));
}

static void replace(struct buffer *out, struct text t, const char *from, const char *to)
{
    int64_t n = (int64_t)strlen(from), at = 0;
    for (const char *p; at < t.n && (p = memmem(t.s + at, (size_t)(t.n - at), from, (size_t)n));
         at = p - t.s + n) {
        int64_t start = p - t.s;
        buffer_add_text(out, text_part(t, at, start));
        replace_one(out, text_part(t, start, start + n), to);
    }
    buffer_add_text(out, text_part(t, at, t.n));
}

/* Replaces what the pattern matches in the well-formed stretch [from, to). An empty match is
 * replaced, too, unless the match before it ends there. */
static int replace_matches(struct buffer *out, struct text t, int64_t from, int64_t to,
                           const struct norm_step *s, double *seconds, struct err *e)
{
    const char *base = t.s + from;
    int64_t n = to - from, at = 0, done = 0, last = -1, match[2];
    int found = 0;
    while (at <= n && (found = pattern_find(s->pattern, base, n, at, match, seconds, e)) > 0) {
        at = match[1];
        if (match[0] == match[1])
            at += at < n ? utf8_length(base + at, n - at) : 1;
        if (match[0] == match[1] && match[1] == last)
            continue;
        buffer_add_text(out, text_part(t, from + done, from + match[0]));
        replace_one(out, text_part(t, from + match[0], from + match[1]), s->to);
        done = last = match[1];
    }
    buffer_add_text(out, text_part(t, from + done, to));
    return found < 0 ? -1 : 0;
}

/* Stretches that are not UTF-8 stay as they are. */
static int replace_pattern(struct buffer *out, struct text t, const struct norm_step *s,
                           double *seconds, struct err *e)
{
    for (int64_t from = 0, to; from < t.n; from = to) {
        int valid;
        to = from + utf8_run(t.s + from, t.n - from, &valid);
        if (!valid)
            buffer_add_text(out, text_part(t, from, to));
        else if (replace_matches(out, t, from, to, s, seconds, e))
            return -1;
    }
    return 0;
}

/* ---- characters one by one: each becomes none, itself, or others */

typedef int map_use(int32_t point, int32_t to[2]);

/* As Rust's char::to_lowercase has it, without regard to the word around. */
static int map_lower(int32_t point, int32_t to[2])
{
    to[0] = point == 0x130 ? 'i' : utf8proc_tolower(point);
    to[1] = 0x307;
    return 1 + (point == 0x130);
}

/* Control characters go, and what is white space of some kind becomes a space. */
static int map_nmt(int32_t point, int32_t to[2])
{
    static const int32_t gone[][2] = {{1, 8},       {0xb, 0xb},   {0xe, 0x1f},
                                      {0x7f, 0x7f}, {0x8f, 0x8f}, {0x9f, 0x9f}};
    static const int32_t blank[][2] = {{9, 0xa},         {0xc, 0xd},       {0x1680, 0x1680},
                                       {0x200b, 0x200f}, {0x2028, 0x2029}, {0x2581, 0x2581},
                                       {0xfeff, 0xfeff}, {0xfffd, 0xfffd}};
    to[0] = point;
    for (size_t i = 0; i < sizeof gone / sizeof *gone; i++)
        if (point >= gone[i][0] && point <= gone[i][1])
            return 0;
    for (size_t i = 0; i < sizeof blank / sizeof *blank; i++)
        if (point >= blank[i][0] && point <= blank[i][1])
            to[0] = ' ';
    return 1;
}

static void map_all(struct buffer *out, struct text t, map_use *map)
{
    int64_t same = 0;
    for (int64_t i = 0, n; i < t.n; i += n) {
        int32_t point, to[2];
        if (!(n = utf8_length(t.s + i, t.n - i))) {
            n = 1;
            continue;
        }
        point = (int32_t)utf8_point(t.s + i, (int)n);
        int count = map(point, to);
        if (count == 1 && *to == point)
            continue;
        buffer_add_text(out, text_part(t, same, i));
        char s[8];
        int64_t length = 0;
        for (int k = 0; k < count; k++)
            length += utf8proc_encode_char(to[k], (utf8proc_uint8_t *)s + length);
        buffer_add(out, s, length, NULL, (uint32_t)text_weight(text_part(t, i, i + n)));
        same = i + n;
    }
    buffer_add_text(out, text_part(t, same, t.n));
}

/* ---- the ends */

static int is_white(uint32_t c) { return utf8_is_space(c) && !(c >= 28 && c <= 31); }

static void strip(struct buffer *out, struct text t, int left, int right)
{
    int64_t from = 0, to = t.n;
    for (int n; left && from < to && (n = utf8_length(t.s + from, to - from)) &&
                is_white(utf8_point(t.s + from, n));)
        from += n;
    for (int64_t at; right && to > from; to = at) {
        for (at = to - 1; at > from && (t.s[at] & 0xc0) == 0x80;)
            at--;
        if (utf8_length(t.s + at, to - at) != to - at ||
            !is_white(utf8_point(t.s + at, (int)(to - at))))
            break;
    }
    if (from)
        buffer_add(out, "", 0, NULL, (uint32_t)text_weight(text_part(t, 0, from)));
    buffer_add_text(out, text_part(t, from, to));
    if (to < t.n)
        buffer_add(out, "", 0, NULL, (uint32_t)text_weight(text_part(t, to, t.n)));
}

/* ---- all of them */

static int step_apply(struct norm *n, const struct norm_step *s, struct text t, struct buffer *out,
                      struct err *e)
{
    switch (s->kind) {
    case NORM_PREPEND:
        buffer_add(out, s->to, (int64_t)strlen(s->to), NULL, 0);
        buffer_add_text(out, t);
        return 0;
    case NORM_REPLACE: replace(out, t, s->from, s->to); return 0;
    case NORM_PATTERN: return replace_pattern(out, t, s, &n->seconds, e);
    case NORM_STRIP: strip(out, t, s->left, s->right); return 0;
    case NORM_LOWER: map_all(out, t, map_lower); return 0;
    case NORM_NMT: map_all(out, t, map_nmt); return 0;
    default: form_apply(out, t, s->kind); return 0;
    }
}

int norm_apply(struct norm *n, struct text *t, struct err *e)
{
    int64_t n_before = t->n;
    n->seconds += PATTERN_SECONDS_PER_BYTE * (double)t->n;
    for (int i = 0; i < n->count && t->n; i++) {
        struct buffer *out = &n->work[i & 1];
        buffer_clear(out, text_most(n_before));
        if (step_apply(n, &n->steps[i], *t, out, e))
            return -1;
        if (out->full)
            return err_set(e, "the tokenizer's normalizers make more than %lld bytes of %lld",
                           (long long)out->most, (long long)n_before);
        *t = (struct text){out->s, out->n, out->weight, t->first && !out->late};
    }
    return 0;
}
