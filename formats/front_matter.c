/* YAML as model cards have it: see front_matter.h. */
#include "front_matter.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "../lib/base/mem.h"
#include "../lib/base/text.h"
#include "../lib/base/utf8.h"

static const char blank[] = " \t\r";

static const char *line_after(const char *s)
{
    s += strcspn(s, "\n");
    return *s ? s + 1 : NULL;
}

/* Is the line that and nothing more? */
static int is_line(const char *s, const char *word)
{
    const char *rest = s + strlen(word);
    return text_begins(s, word) && strchr("\r\n", *(rest + strspn(rest, " \t")));
}

/* ---- texts */

/* The text from s to `end`, without spaces around it; NULL if it is empty or not UTF-8. */
static json_t *trimmed(const char *s, const char *end)
{
    while (s < end && strchr(blank, *s))
        s++;
    while (end > s && strchr(blank, end[-1]))
        end--;
    return end > s ? json_stringn(s, (size_t)(end - s)) : NULL;
}

/* 'it''s': *at is the opening quote, and then past the closing one. NULL: there is none. */
static json_t *single_quoted(const char **at)
{
    char *made = mem_string("");
    const char *s = *at + 1;
    for (;;) {
        size_t n = strcspn(s, "'\n");
        made = mem_append(made, "%.*s", (int)n, s);
        s += n;
        if (s[0] != '\'' || s[1] != '\'')
            break;
        made = mem_append(made, "'");
        s += 2;
    }
    json_t *text = *s == '\'' ? json_string(made) : NULL;
    *at = s + (*s == '\'');
    free(made);
    return text;
}

/* The same of "text", with the escapes that YAML has in common with JSON. */
static json_t *double_quoted(const char **at)
{
    const char *s = *at + 1;
    while (*s && *s != '"' && *s != '\n')
        s += s[0] == '\\' && s[1] && s[1] != '\n' ? 2 : 1;
    s += *s == '"';
    json_t *text = json_loadb(*at, (size_t)(s - *at), JSON_DECODE_ANY, NULL);
    *at = s;
    return text;
}

/* What ends a plain text: a comment, the line, and where a list is in brackets its signs. */
static const char *plain_end(const char *s, const char *stops)
{
    const char *begin = s;
    while (*s && *s != '\n' && !strchr(stops, *s) &&
           !(*s == '#' && (s == begin || strchr(blank, s[-1]))))
        s++;
    return s;
}

/* A map in one line ("name: x"), or a value that begins with a sign of YAML, is no plain text. */
static int is_plain(const char *s, const char *end)
{
    if (strchr("[]{}&*!|>%@`,", *s) || is_line(s, "~") || is_line(s, "null"))
        return 0;
    for (; s < end; s++)
        if (*s == ':' && (s + 1 == end || strchr(blank, s[1])))
            return 0;
    return 1;
}

/* The text at *at, which is moved past it; NULL: something else, or nothing. */
static json_t *read_text(const char **at, const char *stops)
{
    *at += strspn(*at, blank);
    if (**at == '\'')
        return single_quoted(at);
    if (**at == '"')
        return double_quoted(at);
    const char *begin = *at, *end = plain_end(begin, stops);
    *at = end;
    return end > begin && is_plain(begin, end) ? trimmed(begin, end) : NULL;
}

static void append(json_t *list, json_t *text)
{
    if (text)
        json_array_append_new(list, text);
}

/* ---- lists */

/* [a, "b"], which may go on for several lines; s is just after the bracket. */
static json_t *bracketed(const char *s)
{
    json_t *list = json_array();
    while (*s && *s != ']') {
        append(list, read_text(&s, ",]"));
        s += strcspn(s, ",]\n");
        s += *s && *s != ']';
        s += strspn(s, " \t\r\n");
    }
    return list;
}

/* Does the text of a line go on in the next? That is further to the right than `indent`, and does
 * not begin with one of the signs. */
static int goes_on(const char *s, size_t indent, const char *signs)
{
    const char *next = line_after(s);
    size_t n = next ? strspn(next, " \t") : 0;
    return n > indent && !strchr("\r\n#", next[n]) && !strchr(signs, next[n]);
}

/* "- a" line by line, all as far to the right as the first. NULL: there are none. */
static json_t *members(const char *line)
{
    json_t *list = NULL;
    size_t first = 0;
    for (; line && (isspace((unsigned char)*line) || (*line && strchr("-#", *line)));
         line = line_after(line)) {
        size_t n = strspn(line, " ");
        const char *s = line + n + 1;
        if (is_line(line, "---"))
            break;
        if (line[n] != '-' || !strchr(" \t", *s) || (list && n != first))
            continue;
        list = list ? list : json_array();
        first = n;
        if (!goes_on(s, n, "-"))
            append(list, read_text(&s, ""));
    }
    return list;
}

/* ---- entries */

/* The value of an entry, whose first line is left at s. NULL: none that is read. */
static json_t *value_of(const char *s)
{
    s += strspn(s, blank);
    if (*s == '[')
        return bracketed(s + 1);
    if (strchr("\n#", *s))
        return members(line_after(s));
    return goes_on(s, 0, "") ? NULL : read_text(&s, "");
}

json_t *front_matter_read(const char *text)
{
    json_t *entries = json_object();
    const char *line = is_line(text, "---") ? line_after(text) : NULL;
    for (; line && !is_line(line, "---"); line = line_after(line)) {
        size_t n = strcspn(line, ": \t\r\n#");
        char *key = mem_format("%.*s", (int)n, line);
        json_t *value = n && line[n] == ':' && *line != '-' ? value_of(line + n + 1) : NULL;
        if (value)
            json_object_set_new(entries, key, value);
        free(key);
    }
    return entries;
}

/* Does YAML read it as a text without quotes? It begins with a letter, and is none of the words
 * that are truth values, "no" among them, the code of Norwegian. */
static int is_word(const char *s)
{
    static const char *const values[] = {"y",   "n",    "yes",   "no",  "on",
                                         "off", "true", "false", "null"};
    size_t n = strlen(s);
    if (!isalpha((unsigned char)*s) || s[n - 1] == ':')
        return 0;
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)s[i]) && !strchr("-_./:+", s[i]))
            return 0;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        if (!strcasecmp(s, values[i]))
            return 0;
    return 1;
}

char *front_matter_value(const char *text)
{
    json_t *quoted = utf8_is_visible(text) ? json_string(text) : NULL;
    if (!quoted)
        return NULL;
    char *value = is_word(text) ? mem_string(text) : json_dumps(quoted, JSON_ENCODE_ANY);
    json_decref(quoted);
    return value;
}
