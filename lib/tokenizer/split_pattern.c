/* Patterns of pre-tokenizers. tokenizer.json has them in the syntax of Oniguruma; PCRE2's is nearly
 * the same, and where its meaning differs the pattern is rewritten (\s is Unicode's White_Space,
 * \uHHHH a character, \p{Name} a script) or refused. Accepts the patterns of GPT-2, Llama 3, Qwen2,
 * GPT-4o and their kin. Refuses \w, \b, \h, anchors, nested classes, && and inline options that
 * reach beyond their group, because the two libraries disagree about them. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizer_private.h"

struct rewrite {
    const char *pattern, *p;
    char *out;
    struct err *e;
};

static int refuse(const struct rewrite *r, const char *what, int n)
{
    return err_set(r->e, "the tokenizer's pattern \"%.200s\" uses \"%.*s\", which is not supported",
                   r->pattern, n, what);
}

static void put(struct rewrite *r, const char *s, int64_t n)
{
    memcpy(r->out, s, (size_t)n);
    r->out += n;
    *r->out = 0;
}
static void puts_to(struct rewrite *r, const char *s) { put(r, s, (int64_t)strlen(s)); }

/* \p{L} and \p{Lu} are kept; longer names mean scripts, where PCRE2 would include script
 * extensions. */
static int property(struct rewrite *r)
{
    const char *name = r->p + 3, *end = strchr(r->p, '}');
    int64_t n = end ? end - name : 0;
    if (r->p[2] != '{' || n < 1 || n > 40)
        return refuse(r, r->p, 2);
    for (int64_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)name[i]) && name[i] != '_' && !(name[i] == '^' && !i))
            return refuse(r, r->p, (int)n + 4);
    int inverted = *name == '^';
    put(r, r->p, 3);
    put(r, name, inverted);
    if (n - inverted > 2)
        puts_to(r, "sc:");
    put(r, name + inverted, n - inverted + 1);
    r->p = end + 1;
    return 0;
}

static int escape(struct rewrite *r)
{
    char c = r->p[1];
    if (c == 's' || c == 'S') {
        puts_to(r, c == 's' ? "\\p{White_Space}" : "\\P{White_Space}");
    } else if (c == 'p' || c == 'P') {
        return property(r);
    } else if (c == 'u' && isxdigit((unsigned char)r->p[2]) && isxdigit((unsigned char)r->p[3]) &&
               isxdigit((unsigned char)r->p[4]) && isxdigit((unsigned char)r->p[5])) {
        puts_to(r, "\\x{");
        put(r, r->p + 2, 4);
        puts_to(r, "}");
        r->p += 4;
    } else if ((c && strchr("rntfdD", c)) || ispunct((unsigned char)c) ||
               (c == 'x' && r->p[2] == '{')) {
        put(r, r->p, 2);
    } else {
        return refuse(r, r->p, c ? 2 : 1);
    }
    r->p += 2;
    return 0;
}

static int class(struct rewrite *r)
{
    put(r, r->p++, 1);
    if (*r->p == '^')
        put(r, r->p++, 1);
    if (*r->p == ']')
        return refuse(r, "[]", 2);
    while (*r->p && *r->p != ']') {
        if (*r->p == '[')
            return refuse(r, "[ inside []", 11);
        if (r->p[0] == '&' && r->p[1] == '&')
            return refuse(r, "&&", 2);
        if (*r->p == '\\') {
            if (escape(r))
                return -1;
        } else {
            put(r, r->p++, 1);
        }
    }
    return *r->p ? put(r, r->p++, 1), 0 : refuse(r, "[", 1);
}

static int group(struct rewrite *r)
{
    static const char *const known[] = {"(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>"};
    if (r->p[1] != '?' && r->p[1] != '*') {
        put(r, r->p++, 1);
        return 0;
    }
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strncmp(r->p, known[i], strlen(known[i]))) {
            puts_to(r, known[i]);
            r->p += strlen(known[i]);
            return 0;
        }
    return refuse(r, r->p, r->p[2] ? 3 : 2);
}

/* {n}, {n,}, {n,m}: the suffixes differ (a following + is possessive in one and a repetition in the
 * other). */
static int repeat(struct rewrite *r)
{
    const char *end = r->p + 1 + strspn(r->p + 1, "0123456789,");
    if (!isdigit((unsigned char)r->p[1]) || *end != '}' || (end[1] && strchr("+?*{", end[1])))
        return refuse(r, r->p, 2);
    put(r, r->p, end + 1 - r->p);
    r->p = end + 1;
    return 0;
}

char *split_pattern_translate(const char *pattern, struct err *e)
{
    char *out = mem_alloc(8 * strlen(pattern) + 1); /* two characters become at most fifteen */
    struct rewrite r = {pattern, pattern, out, e};
    int failed = 0;
    while (*r.p && !failed) {
        if (*r.p == '\\')
            failed = escape(&r);
        else if (*r.p == '[')
            failed = class(&r);
        else if (*r.p == '(')
            failed = group(&r);
        else if (*r.p == '{')
            failed = repeat(&r);
        else if (*r.p == '^' || *r.p == '$')
            failed = refuse(&r, r.p, 1);
        else
            put(&r, r.p++, 1);
    }
    if (!failed)
        return out;
    free(out);
    return NULL;
}
