/* Escape sequences of a pattern, and the text that is written. See pattern_rewrite.h. */
#include <ctype.h>
#include <string.h>

#include "../base/mem.h"
#include "pattern_rewrite.h"

/* Oniguruma's \w: letters, marks, decimal digits, connectors, and the other digits of Latin-1 */
#define WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\xb2\\xb3\\xb9\\xbc-\\xbe"

void rewritten_put(struct rewritten *w, const char *s, int64_t n)
{
    if (w->room - w->n <= n)
        w->s = mem_grow(w->s, (size_t)(w->room = 2 * w->room + n + 64));
    memcpy(w->s + w->n, s, (size_t)n);
    w->s[w->n += n] = 0;
}

void rewritten_puts(struct rewritten *w, const char *s) { rewritten_put(w, s, (int64_t)strlen(s)); }

void rewritten_insert(struct rewritten *w, int64_t at, const char *s)
{
    int64_t n = (int64_t)strlen(s), after = w->n - at;
    rewritten_puts(w, s);
    memmove(w->s + at + n, w->s + at, (size_t)after);
    memcpy(w->s + at, s, (size_t)n);
}

int rewrite_refuse(const struct rewrite *r, const char *what, int n)
{
    return err_set(r->e, "the tokenizer's pattern \"%.200s\" uses \"%.*s\", which is not supported",
                   r->pattern, n, what);
}

/* What PCRE2 calls a property of more than two letters: a general category by its long name, or a
 * script, without the script extensions that PCRE2 would add. */
static void property_name(const char *name, int64_t n, struct rewritten *out)
{
    static const char *const categories[][2] = {
        {"Letter", "L"},      {"Mark", "M"},  {"Number", "N"},
        {"Punctuation", "P"}, {"Punct", "P"}, {"Symbol", "S"},
        {"Separator", "Z"},   {"Other", "C"}, {"Alphabetic", "Alphabetic"}};
    for (size_t i = 0; i < sizeof categories / sizeof *categories; i++)
        if (!strncmp(categories[i][0], name, (size_t)n) && !categories[i][0][n]) {
            rewritten_puts(out, categories[i][1]);
            return;
        }
    if (n > 2)
        rewritten_puts(out, "sc:");
    rewritten_put(out, name, n);
}

static int property(struct rewrite *r, struct rewritten *out)
{
    const char *name = r->p + 3, *end = strchr(r->p, '}');
    int64_t n = end ? end - name : 0;
    if (r->p[2] != '{' || n < 1 || n > 40)
        return rewrite_refuse(r, r->p, 2);
    for (int64_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)name[i]) && name[i] != '_' && !(name[i] == '^' && !i))
            return rewrite_refuse(r, r->p, (int)n + 4);
    int inverted = *name == '^';
    rewritten_put(out, r->p, 3 + inverted);
    property_name(name + inverted, n - inverted, out);
    rewritten_puts(out, "}");
    r->p = end + 1;
    return 0;
}

static int is_hex(const char *s, int n)
{
    for (int i = 0; i < n; i++)
        if (!isxdigit((unsigned char)s[i]))
            return 0;
    return 1;
}

/* Escapes that are rewritten: in brackets and outside. NULL: not there. */
static const struct {
    char c;
    const char *in_class, *outside;
} escapes[] = {
    {'s', "\\p{White_Space}", "\\p{White_Space}"},
    {'S', "\\P{White_Space}", "\\P{White_Space}"},
    {'w', WORD, "[" WORD "]"},
    {'W', NULL, "[^" WORD "]"},
    {'b', NULL, "(?:(?<=[" WORD "])(?![" WORD "])|(?<![" WORD "])(?=[" WORD "]))"},
    {'B', NULL, "(?:(?<=[" WORD "])(?=[" WORD "])|(?<![" WORD "])(?![" WORD "]))"},
    {'A', NULL, "\\A"},
    {'z', NULL, "\\z"},
};

static int plain_escape(const char *p)
{
    return (p[1] && strchr("rntfdD", p[1])) || ispunct((unsigned char)p[1]) ||
           (p[1] == 'x' && p[2] == '{');
}

int rewrite_escape(struct rewrite *r, int in_class, struct rewritten *out)
{
    char c = r->p[1];
    if (c == 'p' || c == 'P')
        return property(r, out);
    for (size_t i = 0; i < sizeof escapes / sizeof *escapes; i++) {
        const char *to = in_class ? escapes[i].in_class : escapes[i].outside;
        if (escapes[i].c == c && to) {
            rewritten_puts(out, to);
            r->p += 2;
            return 0;
        }
    }
    if (c == 'u' && is_hex(r->p + 2, 4)) {
        rewritten_puts(out, "\\x{");
        rewritten_put(out, r->p + 2, 4);
        rewritten_puts(out, "}");
        r->p += 6;
        return 0;
    }
    if (!plain_escape(r->p))
        return rewrite_refuse(r, r->p, c ? 2 : 1);
    rewritten_put(out, r->p, 2);
    r->p += 2;
    return 0;
}
