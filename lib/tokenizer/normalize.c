/* Normalizers of a tokenizer.json: Prepend, Replace (of a string), NFC, and sequences of them.
 * Weights are kept up (buffer.h). Bytes that are not UTF-8 pass unchanged. Refuses every other
 * normalizer by name. */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "../base/utf8.h"
#include "tokenizer_private.h"

enum { NORM_STEPS = 16 };

static int norm_add(struct norm *n, int kind, const char *from, const char *to, struct err *e)
{
    if (n->count == NORM_STEPS)
        return err_set(e, "the tokenizer has more than %d normalizers", NORM_STEPS);
    n->steps = mem_grow(n->steps, (size_t)(n->count + 1) * sizeof *n->steps);
    n->steps[n->count++] = (struct norm_step){kind, from ? mem_string(from) : NULL,
                                              to ? mem_string(to) : NULL};
    return 0;
}

static int norm_read_one(struct norm *n, const json_t *spec, int depth, struct err *e)
{
    const char *type = json_string_value(json_object_get(spec, "type"));
    const char *pattern = json_string_value(
        json_object_get(json_object_get(spec, "pattern"), "String"));
    const char *content = json_string_value(json_object_get(spec, "content")),
               *prepend = json_string_value(json_object_get(spec, "prepend"));
    if (!type || depth > 8)
        return err_set(e, "the tokenizer's normalizer is malformed");
    if (!strcmp(type, "Sequence")) {
        const json_t *list = json_object_get(spec, "normalizers");
        for (size_t i = 0; i < json_array_size(list); i++)
            if (norm_read_one(n, json_array_get(list, i), depth + 1, e))
                return -1;
        return 0;
    }
    if (!strcmp(type, "Prepend") && prepend)
        return norm_add(n, NORM_PREPEND, NULL, prepend, e);
    if (!strcmp(type, "Replace") && pattern && *pattern && content)
        return norm_add(n, NORM_REPLACE, pattern, content, e);
    if (!strcmp(type, "NFC"))
        return norm_add(n, NORM_NFC, NULL, NULL, e);
    return err_set(e, "the tokenizer's normalizer \"%.80s\"%s is not supported", type,
                   strcmp(type, "Replace") ? "" : " with a regular expression");
}

int norm_read(struct norm *n, const json_t *spec, struct err *e)
{
    return !spec || json_is_null(spec) ? 0 : norm_read_one(n, spec, 0, e);
}

void norm_free(struct norm *n)
{
    for (int i = 0; i < n->count; i++) {
        free(n->steps[i].from);
        free(n->steps[i].to);
    }
    free(n->steps);
    buffer_free(&n->work[0]);
    buffer_free(&n->work[1]);
}

static void replace(struct buffer *out, struct text t, const char *from, const char *to)
{
    int64_t n = (int64_t)strlen(from), at = 0;
    for (const char *p; at < t.n && (p = memmem(t.s + at, (size_t)(t.n - at), from, (size_t)n));
         at = p - t.s + n) {
        int64_t start = p - t.s;
        if (!start && utf8_length(from, n) < n) /* in the library the last character is replaced */
            out->late = 1;
        buffer_add_text(out, text_part(t, at, start));
        buffer_add(out, to, (int64_t)strlen(to), NULL,
                   (uint32_t)text_weight(text_part(t, start, start + n)));
    }
    buffer_add_text(out, text_part(t, at, t.n));
}

/* Characters that NFC can only change together: one below U+0300 and those from U+0300 on that
 * follow it. Nothing below U+0300 ever combines with the character before it. */
static int64_t nfc_stretch(const char *s, int64_t n, int *plain)
{
    int64_t i = utf8_length(s, n);
    *plain = (unsigned char)s[0] < 0xcc;
    for (; i < n && (unsigned char)s[i] >= 0xcc; i += utf8_length(s + i, n - i))
        *plain = 0;
    return i;
}

static int class_of(int32_t point) { return utf8proc_get_property(point)->combining_class; }

/* Orders a run of combining marks by their classes, stably, as NFC demands. utf8proc would take the
 * square of its length. */
static void sort_marks(int32_t *points, int64_t n, int32_t *room)
{
    int64_t place[257] = {0};
    for (int64_t i = 0; i < n; i++)
        place[class_of(points[i]) + 1]++;
    for (int c = 0; c < 256; c++)
        place[c + 1] += place[c];
    for (int64_t i = 0; i < n; i++)
        room[place[class_of(points[i])]++] = points[i];
    memcpy(points, room, (size_t)n * sizeof *points);
}

static void sort_all_marks(int32_t *points, int64_t n)
{
    int32_t *room = mem_alloc((size_t)(n + 1) * sizeof *room);
    for (int64_t i = 0, end; i < n; i = end + 1) {
        for (end = i; end < n && class_of(points[end]);)
            end++;
        if (end - i > 1)
            sort_marks(points + i, end - i, room);
    }
    free(room);
}

/* The text in NFC, *n bytes; free() it. No character becomes more than two for each of its bytes.
 */
static char *compose(struct text t, int64_t *n)
{
    int64_t most = 2 * t.n + 8, count = 0;
    int32_t *points = mem_alloc((size_t)most * sizeof *points), point;
    int boundary = 0;
    for (int64_t i = 0; i < t.n;) {
        i += utf8proc_iterate((const utf8proc_uint8_t *)t.s + i, t.n - i, &point);
        count += utf8proc_decompose_char(point, points + count, most - count,
                                         UTF8PROC_STABLE | UTF8PROC_DECOMPOSE, &boundary);
    }
    sort_all_marks(points, count);
    *n = utf8proc_reencode(points, count, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    return (char *)points;
}

static void nfc_changed(struct buffer *out, struct text t)
{
    int64_t n;
    char *s = compose(t, &n);
    int64_t same = 0, tail = 0, least = n < t.n ? n : t.n;
    while (same < least && s[same] == t.s[same])
        same++;
    while (tail < least - same && s[n - 1 - tail] == t.s[t.n - 1 - tail])
        tail++;
    buffer_add_text(out, text_part(t, 0, same));
    buffer_add(out, s + same, n - same - tail, NULL,
               (uint32_t)text_weight(text_part(t, same, t.n - tail)));
    buffer_add_text(out, text_part(t, t.n - tail, t.n));
    free(s);
}

static void nfc(struct buffer *out, struct text t)
{
    for (int64_t i = 0; i < t.n;) {
        int valid, plain;
        int64_t end = i + utf8_run(t.s + i, t.n - i, &valid);
        for (int64_t n; i < end; i += n) {
            n = valid ? nfc_stretch(t.s + i, end - i, &plain) : end - i;
            if (!valid || plain)
                buffer_add_text(out, text_part(t, i, i + n));
            else
                nfc_changed(out, text_part(t, i, i + n));
        }
    }
}

int norm_apply(struct norm *n, struct text *t, struct err *e)
{
    int64_t n_before = t->n;
    for (int i = 0; i < n->count && t->n; i++) {
        const struct norm_step *s = &n->steps[i];
        struct buffer *out = &n->work[i & 1];
        buffer_clear(out, text_most(n_before));
        if (s->kind == NORM_PREPEND) {
            buffer_add(out, s->to, (int64_t)strlen(s->to), NULL, 0);
            buffer_add_text(out, *t);
        } else if (s->kind == NORM_REPLACE) {
            replace(out, *t, s->from, s->to);
        } else {
            nfc(out, *t);
        }
        if (out->full)
            return err_set(e, "the tokenizer's normalizers make more than %lld bytes of %lld",
                           (long long)out->most, (long long)n_before);
        *t = (struct text){out->s, out->n, out->weight, t->first && !out->late};
    }
    return 0;
}
