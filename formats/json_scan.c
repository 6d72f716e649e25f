/* The scanner of json_scan.h: reads JSON text; gives strings, integers and the extent of any value.
 * Refuses malformed JSON and nesting deeper than JSON_SCAN_DEPTH. */
#include "json_scan.h"

#include <stdlib.h>
#include <string.h>

#include "../lib/base/mem.h"
#include "../lib/base/text.h"
#include "../lib/base/utf8.h"

void json_scan_open(struct json_scan *j, const char *s, int64_t n)
{
    *j = (struct json_scan){.p = s, .end = s + n};
}

void json_scan_close(struct json_scan *j)
{
    free(j->buffer);
    j->buffer = NULL;
}

static void skip_space(struct json_scan *j)
{
    while (j->p < j->end && (*j->p == ' ' || *j->p == '\n' || *j->p == '\t' || *j->p == '\r'))
        j->p++;
}

int json_take(struct json_scan *j, char c)
{
    skip_space(j);
    if (j->failed || j->p >= j->end || *j->p != c)
        return 0;
    j->p++;
    return 1;
}

void json_need(struct json_scan *j, char c)
{
    if (!json_take(j, c))
        j->failed = 1;
}

void json_need_end(struct json_scan *j)
{
    skip_space(j);
    if (j->p < j->end)
        j->failed = 1;
}

/* ---- strings */

static int hex4(const char *p, const char *end)
{
    int v = 0;
    if (end - p < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        int d = text_hex_digit(p[i]);
        if (d < 0)
            return -1;
        v = v * 16 + d;
    }
    return v;
}

/* The code point of the \\u escape at p (past the backslash), or of a pair of them that are
 * surrogates; *p moves past it. -1: not a character. */
static int32_t unicode_escape(const char **p, const char *end)
{
    int high = hex4(*p + 1, end), low;
    *p += 5;
    if (high < 0 || (high & 0xf800) != 0xd800)
        return high;
    if (high >= 0xdc00 || end - *p < 6 || (*p)[0] != '\\' || (*p)[1] != 'u' ||
        (low = hex4(*p + 2, end)) < 0xdc00 || low > 0xdfff)
        return -1;
    *p += 6;
    return 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
}

static const char escaped[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";

/* The end of the character or escape at p; NULL if it is invalid. */
static const char *character_end(const char *p, const char *end)
{
    if (*p != '\\') {
        int n = (unsigned char)*p < ' ' ? 0 : utf8_length(p, end - p);
        return n ? p + n : NULL;
    }
    if (++p == end || !*p)
        return NULL;
    if (*p != 'u')
        return strchr(escaped, *p) ? p + 1 : NULL;
    return unicode_escape(&p, end) < 0 ? NULL : p;
}

/* The closing quote of the string whose first byte is p; NULL if it is malformed. */
static const char *string_end(const char *p, const char *end)
{
    while (p && p < end && *p != '"')
        p = character_end(p, end);
    return p && p < end ? p : NULL;
}

/* Consumes a string: returns its first byte, *end is the closing quote. NULL: failed. */
static const char *string_take(struct json_scan *j, const char **end)
{
    json_need(j, '"');
    const char *p = j->p;
    *end = j->failed ? NULL : string_end(p, j->end);
    if (!*end) {
        j->failed = 1;
        return NULL;
    }
    j->p = *end + 1;
    return p;
}

static char *put_utf8(char *d, uint32_t c)
{
    if (c < 0x80)
        *d++ = (char)c;
    else if (c < 0x800)
        *d++ = (char)(0xc0 | c >> 6), *d++ = (char)(0x80 | (c & 63));
    else if (c < 0x10000)
        *d++ = (char)(0xe0 | c >> 12), *d++ = (char)(0x80 | (c >> 6 & 63)),
        *d++ = (char)(0x80 | (c & 63));
    else
        *d++ = (char)(0xf0 | c >> 18), *d++ = (char)(0x80 | (c >> 12 & 63)),
        *d++ = (char)(0x80 | (c >> 6 & 63)), *d++ = (char)(0x80 | (c & 63));
    return d;
}

/* Unescapes the well-formed string [p, end) into d; returns the end of the text. */
static char *unescape(char *d, const char *p, const char *end)
{
    while (p < end) {
        if (*p != '\\')
            *d++ = *p++;
        else if (*++p != 'u')
            *d++ = meant[strchr(escaped, *p++) - escaped];
        else
            d = put_utf8(d, (uint32_t)unicode_escape(&p, end));
    }
    return d;
}

const char *json_string_text(struct json_scan *j, int64_t *n)
{
    const char *end, *p = string_take(j, &end);
    *n = p ? end - p : 0;
    if (!p || !memchr(p, '\\', (size_t)*n))
        return p;
    if (j->room < *n)
        j->buffer = mem_grow(j->buffer, (size_t)(j->room = 2 * *n));
    *n = unescape(j->buffer, p, end) - j->buffer;
    return j->buffer;
}

/* ---- other values */

static int digits_take(struct json_scan *j)
{
    const char *start = j->p;
    while (j->p < j->end && *j->p >= '0' && *j->p <= '9')
        j->p++;
    return j->p > start;
}

static int next_is(const struct json_scan *j, const char *any)
{
    return j->p < j->end && *j->p && strchr(any, *j->p);
}

static void skip_number(struct json_scan *j)
{
    j->p += next_is(j, "-");
    int zero = next_is(j, "0"), proper = zero ? (j->p++, 1) : digits_take(j);
    if (proper && next_is(j, "."))
        j->p++, proper = digits_take(j);
    if (proper && next_is(j, "eE")) {
        j->p++;
        j->p += next_is(j, "+-");
        proper = digits_take(j);
    }
    j->failed |= !proper;
}

int64_t json_whole(struct json_scan *j)
{
    int64_t v = 0;
    skip_space(j);
    const char *start = j->p;
    skip_number(j);
    for (const char *p = start; p < j->p && !j->failed; p++) {
        v = 10 * v + (*p - '0');
        j->failed = *p < '0' || *p > '9' || v > (int64_t)1 << 53;
    }
    return j->failed ? -1 : v;
}

static void skip_scalar(struct json_scan *j)
{
    static const char *const words[] = {"true", "false", "null"};
    for (int i = 0; i < 3; i++) {
        int64_t n = (int64_t)strlen(words[i]);
        if (n <= j->end - j->p && !memcmp(j->p, words[i], (size_t)n)) {
            j->p += n;
            return;
        }
    }
    skip_number(j);
}

static void skip(struct json_scan *j, int depth)
{
    const char *end;
    int object;
    skip_space(j);
    if (next_is(j, "\"")) {
        string_take(j, &end);
    } else if ((object = json_take(j, '{')) || json_take(j, '[')) {
        char close = object ? '}' : ']';
        j->failed |= depth == JSON_SCAN_DEPTH;
        for (int more = !json_take(j, close); more && !j->failed;) {
            if (object) {
                string_take(j, &end);
                json_need(j, ':');
            }
            if (!j->failed)
                skip(j, depth + 1);
            more = json_take(j, ',');
            if (!more)
                json_need(j, close);
        }
    } else {
        skip_scalar(j);
    }
}

struct json_range json_skip_value(struct json_scan *j)
{
    skip_space(j);
    const char *start = j->p;
    if (!j->failed)
        skip(j, 0);
    return j->failed ? (struct json_range){NULL, 0} : (struct json_range){start, j->p - start};
}

static int name_find(const char *const *names, int count, const char *s, int64_t n)
{
    for (int i = 0; s && i < count; i++)
        if ((int64_t)strlen(names[i]) == n && !memcmp(names[i], s, (size_t)n))
            return i;
    return -1;
}

/* One member; -1: its name is a duplicate. */
static int member_take(struct json_scan *j, const char *const *names, struct json_range *values,
                       int count)
{
    int64_t n;
    const char *name = json_string_text(j, &n);
    int which = name_find(names, count, name, n);
    json_need(j, ':');
    struct json_range value = json_skip_value(j);
    if (which < 0)
        return 0;
    int twice = values[which].n > 0;
    values[which] = value;
    return twice ? -1 : 0;
}

int json_members(struct json_range object, const char *const *names, struct json_range *values,
                 int count, const char **why)
{
    struct json_scan j;
    memset(values, 0, sizeof *values * (size_t)count);
    json_scan_open(&j, object.s, object.n);
    *why = NULL;
    json_need(&j, '{');
    for (int more = !json_take(&j, '}'); more && !j.failed;) {
        if (member_take(&j, names, values, count))
            *why = "has a name twice";
        more = json_take(&j, ',');
        if (!more)
            json_need(&j, '}');
    }
    if (j.failed)
        *why = "is not a JSON object";
    json_need_end(&j);
    if (j.failed && !*why)
        *why = "has more text after its JSON object";
    json_scan_close(&j);
    return *why ? -1 : 0;
}
