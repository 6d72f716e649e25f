/* The normalization forms of Unicode (UAX 15): NFC, NFD, NFKC and NFKD. */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "../base/utf8.h"
#include "tokenizer_private.h"

static int is_compatible(enum norm_kind form) { return form == NORM_NFKC || form == NORM_NFKD; }

/* Characters that a form can only change together: one below U+0300 and those from U+0300 on that
 * follow it. Nothing below U+0300 ever combines with the character before it. Plain: a single one
 * that stays as it is. */
static int64_t stretch(const char *s, int64_t n, enum norm_kind form, int *plain)
{
    int64_t i = utf8_length(s, n);
    *plain = (unsigned char)s[0] < (form == NORM_NFC ? 0xcc : 0x80);
    for (; i < n && (unsigned char)s[i] >= 0xcc; i += utf8_length(s + i, n - i))
        *plain = 0;
    return i;
}

/* Characters that the tokenizers library, with tables of Unicode 9, leaves whole. */
static int is_later(int32_t point)
{
    static const int32_t later[][2] = {{0x32ff, 0x32ff},   {0xa7f2, 0xa7f4},   {0xab69, 0xab69},
                                       {0x10781, 0x107ba}, {0x11938, 0x11938}, {0x1f16c, 0x1f16c},
                                       {0x1fbf0, 0x1fbf9}};
    for (size_t i = 0; i < sizeof later / sizeof *later; i++)
        if (point >= later[i][0] && point <= later[i][1])
            return 1;
    return 0;
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

/* The text in that form, *n bytes; free() it. For each of its bytes a character becomes no more
 * than two, or six if compatible ones are taken apart: U+FDFA, of three bytes, becomes 18. */
static char *normal_form(struct text t, enum norm_kind form, int64_t *n)
{
    int compose = form == NORM_NFC || form == NORM_NFKC;
    int64_t most = (is_compatible(form) ? 6 : 2) * t.n + 8, count = 0;
    utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE |
                                (is_compatible(form) ? UTF8PROC_COMPAT : 0);
    int32_t *points = mem_alloc((size_t)most * sizeof *points), point;
    int boundary = 0;
    for (int64_t i = 0; i < t.n;) {
        i += utf8proc_iterate((const utf8proc_uint8_t *)t.s + i, t.n - i, &point);
        if (is_later(point))
            points[count++] = point;
        else
            count += utf8proc_decompose_char(point, points + count, most - count, options,
                                             &boundary);
    }
    sort_all_marks(points, count);
    *n = utf8proc_reencode(points, count, UTF8PROC_STABLE | (compose ? UTF8PROC_COMPOSE : 0));
    return (char *)points;
}

static void form_changed(struct buffer *out, struct text t, enum norm_kind form)
{
    int64_t n;
    char *s = normal_form(t, form, &n);
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

void form_apply(struct buffer *out, struct text t, enum norm_kind form)
{
    for (int64_t i = 0; i < t.n;) {
        int valid, plain;
        int64_t end = i + utf8_run(t.s + i, t.n - i, &valid);
        for (int64_t n; i < end; i += n) {
            n = valid ? stretch(t.s + i, end - i, form, &plain) : end - i;
            if (!valid || plain)
                buffer_add_text(out, text_part(t, i, i + n));
            else
                form_changed(out, text_part(t, i, i + n), form);
        }
    }
}
