/* Checked JSON: see json.h. */
#include "json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/base/file.h"
#include "../lib/base/mem.h"
#include "../lib/base/utf8.h"

/* Checks depth and number of values before anything is built. Malformed text may pass: jansson
 * reports it afterwards. */
static int scan(const char *text, int64_t n, const struct json_limits *limits, const char *what,
                struct err *e)
{
    int64_t values = 1;
    int depth = 0;
    for (int64_t i = 0; i < n; i++) {
        char c = text[i];
        if (c == '"')
            for (i++; i < n && text[i] != '"'; i++)
                i += text[i] == '\\';
        else if (c == '[' || c == '{')
            depth++;
        else if (c == ']' || c == '}')
            depth--;
        else if (c == ',' || c == ':')
            values++;
        if (depth > limits->depth)
            return err_set(e, "%s: JSON nested deeper than %d at byte %lld", what, limits->depth,
                           (long long)i);
        if (values > limits->values)
            return err_set(e, "%s: JSON with more than %lld values", what,
                           (long long)limits->values);
    }
    return 0;
}

json_t *json_parse_text(const char *text, int64_t n, const struct json_limits *limits,
                        const char *what, struct err *e)
{
    if (scan(text, n, limits, what, e))
        return NULL;
    json_error_t fault;
    json_t *value = json_loadb(text, (size_t)n, JSON_REJECT_DUPLICATES, &fault);
    if (!value) {
        for (char *c = fault.text; *c; c++) /* it quotes the text, which may hold anything */
            if ((unsigned char)*c < ' ')
                *c = ' ';
        err_set(e, "%s is not valid JSON: line %d, column %d: %s", what, fault.line, fault.column,
                fault.text);
    }
    return value;
}

/* The length of one of Python's numbers at p; 0: none begins there. */
static int64_t python_number(const char *p, const char *end)
{
    static const char *const names[] = {"Infinity", "-Infinity", "NaN"};
    for (int i = 0; i < 3; i++) {
        size_t n = strlen(names[i]);
        if ((size_t)(end - p) >= n && !memcmp(p, names[i], n))
            return (int64_t)n;
    }
    return 0;
}

/* The text with those numbers as objects; NULL: it has none. *n: its length */
static char *without_python_numbers(const char *text, int64_t *n)
{
    char *out = NULL;
    int in_string = 0;
    const char *end = text + *n, *copied = text;
    for (const char *p = text; p < end; p++) {
        int64_t length = in_string ? 0 : python_number(p, end);
        if (*p == '"')
            in_string = !in_string;
        p += *p == '\\';
        if (!length)
            continue;
        out = mem_append(out ? out : mem_string(""), "%.*s{\"__float__\": \"%.*s\"}",
                         (int)(p - copied), copied, (int)length, p);
        copied = p + length;
        p = copied - 1;
    }
    if (!out)
        return NULL;
    out = mem_append(out, "%.*s", (int)(end - copied), copied);
    *n = (int64_t)strlen(out);
    return out;
}

json_t *json_parse_file(const char *path, const struct json_limits *limits, struct err *e)
{
    int64_t n;
    char *text = file_read(path, limits->bytes, &n, e);
    if (!text)
        return NULL;
    char what[400];
    snprintf(what, sizeof what, "'%s'", path);
    char *plain = memchr(text, 0, (size_t)n) ? NULL : without_python_numbers(text, &n);
    json_t *value = json_parse_text(plain ? plain : text, n, limits, what, e);
    free(plain);
    free(text);
    return value;
}

json_t *json_text(const char *s)
{
    static const char replacement[] = "\xef\xbf\xbd";
    int64_t n = (int64_t)strlen(s), used = 0;
    char *text = mem_alloc((size_t)(3 * n + 1));
    for (int64_t i = 0; i < n;) {
        int len = utf8_length(s + i, n - i);
        if (len) {
            memcpy(text + used, s + i, (size_t)len);
            used += len;
            i += len;
        } else {
            memcpy(text + used, replacement, 3);
            used += 3;
            i++;
        }
    }
    json_t *value = json_stringn(text, (size_t)used);
    free(text);
    return value;
}

static void *memory(size_t n) { return mem_grow(NULL, n); }

void json_memory_or_exit(void) { json_set_alloc_funcs(memory, free); }

json_t *json_number_or_null(double x) { return isfinite(x) ? json_real(x) : json_null(); }

void json_put_number(json_t *j, const char *key, double x)
{
    json_object_set_new(j, key, json_number_or_null(x));
}

double json_number_of(const json_t *j, const char *key)
{
    const json_t *value = json_object_get(j, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

json_t *json_given(const json_t *j, const char *key)
{
    json_t *value = json_object_get(j, key);
    return json_is_null(value) ? NULL : value;
}
