/* The scanner of json_scan.h: reads JSON text, gives strings, integers and the extent of any value;
 * refuses what is not JSON in the places it looks at. Nesting is counted, not recursed into, so
 * depth costs nothing. */
#include "json_scan.h"

#include <stdlib.h>
#include <string.h>

#include "../lib/base/mem.h"

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

/* The closing quote of a string whose first byte is p; NULL if there is none. */
static const char *string_end(const char *p, const char *end)
{
    for (; p < end && *p != '"'; p++)
        if (*p == '\\')
            p++;
    return p < end ? p : NULL;
}

static int hex4(const char *p, const char *end)
{
    int v = 0;
    if (end - p < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        int d = c >= '0' && c <= '9'                 ? c - '0'
                : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                     : -1;
        if (d < 0)
            return -1;
        v = v * 16 + d;
    }
    return v;
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

/* One escape: *p stands behind the backslash and is moved past it. Returns where to write on, NULL
 * if it is no escape. */
static char *put_escape(char *d, const char **p, const char *end)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char c = *(*p)++;
    if (c != 'u') {
        const char *at = c ? strchr(from, c) : NULL;
        if (!at)
            return NULL;
        *d++ = to[at - from];
        return d;
    }
    int high = hex4(*p, end), low;
    if (high < 0)
        return NULL;
    *p += 4;
    if ((high & 0xf800) != 0xd800)
        return put_utf8(d, (uint32_t)high);
    if (high >= 0xdc00 || end - *p < 6 || (*p)[0] != '\\' || (*p)[1] != 'u' ||
        (low = hex4(*p + 2, end)) < 0xdc00 || low > 0xdfff)
        return NULL;
    *p += 6;
    return put_utf8(d, 0x10000u + ((uint32_t)(high - 0xd800) << 10) + (uint32_t)(low - 0xdc00));
}

const char *json_string_text(struct json_scan *j, int64_t *n)
{
    json_need(j, '"');
    const char *p = j->p, *end = j->failed ? NULL : string_end(p, j->end);
    *n = 0;
    if (!end) {
        j->failed = 1;
        return NULL;
    }
    j->p = end + 1;
    if (!memchr(p, '\\', (size_t)(end - p))) {
        *n = end - p;
        return p;
    }
    if (j->room < end - p)
        j->buffer = mem_grow(j->buffer, (size_t)(j->room = 2 * (end - p)));
    char *d = j->buffer;
    while (p < end && d) {
        if (*p != '\\')
            *d++ = *p++;
        else
            p++, d = put_escape(d, &p, end);
    }
    if (!d) {
        j->failed = 1;
        return NULL;
    }
    *n = d - j->buffer;
    return j->buffer;
}

int64_t json_whole(struct json_scan *j)
{
    int64_t v = 0;
    skip_space(j);
    const char *start = j->p;
    while (j->p < j->end && *j->p >= '0' && *j->p <= '9' && v < (int64_t)1 << 53)
        v = v * 10 + (*j->p++ - '0');
    if (j->p == start || v > (int64_t)1 << 53 ||
        (j->p < j->end && strchr(".eE0123456789", *j->p) && *j->p))
        j->failed = 1;
    return j->failed ? -1 : v;
}

struct json_range json_skip_value(struct json_scan *j)
{
    skip_space(j);
    const char *start = j->p;
    int64_t depth = 0;
    while (!j->failed) {
        skip_space(j);
        const char *from = j->p;
        char c = j->p < j->end ? *j->p : 0;
        if (c == '"') {
            const char *end = string_end(j->p + 1, j->end);
            j->failed = !end;
            j->p = end ? end + 1 : j->end;
        } else if (c == '{' || c == '[') {
            depth++, j->p++;
        } else if (c == '}' || c == ']') {
            depth--, j->p++;
        } else if (depth && (c == ',' || c == ':')) {
            j->p++;
        } else {
            while (j->p < j->end && ((*j->p | 32) >= 'a' ? (*j->p | 32) <= 'z'
                                                         : strchr("+-.0123456789", *j->p) && *j->p))
                j->p++;
        }
        if (j->p == from || depth < 0)
            j->failed = 1;
        if (depth <= 0)
            break;
    }
    return j->failed ? (struct json_range){NULL, 0} : (struct json_range){start, j->p - start};
}

int json_members(struct json_range object, const char *const *names, struct json_range *values,
                 int count)
{
    struct json_scan j;
    memset(values, 0, sizeof *values * (size_t)count);
    json_scan_open(&j, object.s, object.n);
    json_need(&j, '{');
    if (!json_take(&j, '}')) {
        do {
            int64_t n;
            const char *name = json_string_text(&j, &n);
            int which = -1;
            for (int i = 0; name && i < count; i++)
                if ((int64_t)strlen(names[i]) == n && !memcmp(names[i], name, (size_t)n))
                    which = i;
            json_need(&j, ':');
            struct json_range value = json_skip_value(&j);
            if (which >= 0)
                values[which] = value;
        } while (json_take(&j, ','));
        json_need(&j, '}');
    }
    json_scan_close(&j);
    return j.failed ? -1 : 0;
}
