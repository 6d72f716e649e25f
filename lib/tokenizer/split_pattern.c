/* Patterns of pre-tokenizers. tokenizer.json has them in the syntax of Oniguruma; PCRE2's is nearly
 * the same, and where its meaning differs the pattern is rewritten (\s is Unicode's White_Space,
 * \uHHHH a character, \p{Name} a script, $ also the end of a line, {n,m}+ not possessive) or
 * refused. Refuses \h, \X, backward references, names and conditions of groups, and options other
 * than i and m, because the two libraries disagree about them. */
#include <stdlib.h>
#include <string.h>

#include "../base/utf8.h"
#include "pattern_rewrite.h"
#include "tokenizer_private.h"

/* ---- groups */

enum { GROUP_DEPTH = 64 };

struct groups {
    int64_t start[GROUP_DEPTH]; /* where each open group begins in what is written */
    int options[GROUP_DEPTH];   /* groups that options within it opened, which end with it */
    int depth;                  /* 0: none; options[0] are of the pattern itself */
};

static int group_begin(struct rewrite *r, struct groups *g, struct rewritten *out)
{
    static const char *const known[][2] = {
        {"(?:", "(?:"},   {"(?i:", "(?i:"}, {"(?m:", "(?s:"},   {"(?=", "(?="},
        {"(?!", "(?!"},   {"(?<=", "(?<="}, {"(?<!", "(?<!"},   {"(?>", "(?>"},
        {"(?i)", "(?i:"}, {"(?m)", "(?s:"}, {"(?im:", "(?is:"}, {"(?mi:", "(?is:"}};
    size_t i = 0, n = sizeof known / sizeof *known;
    int plain = r->p[1] != '?' && r->p[1] != '*';
    while (!plain && i < n && strncmp(r->p, known[i][0], strlen(known[i][0])))
        i++;
    if (i == n || g->depth + 1 == GROUP_DEPTH)
        return rewrite_refuse(r, r->p, r->p[1] && r->p[2] ? 3 : 1);
    int option = !plain && strchr(known[i][0], ')') != NULL;
    if (option) {
        g->options[g->depth]++;
    } else {
        g->start[++g->depth] = out->n;
        g->options[g->depth] = 0;
    }
    rewritten_puts(out, plain ? "(" : known[i][1]);
    r->p += plain ? 1 : strlen(known[i][0]);
    return 0;
}

/* Closes the innermost group; where it began, -1: there is none. */
static int64_t group_end(struct groups *g, struct rewritten *out)
{
    if (!g->depth)
        return -1;
    for (int i = g->options[g->depth]; i-- > 0;)
        rewritten_puts(out, ")");
    rewritten_puts(out, ")");
    return g->start[g->depth--];
}

/* ---- repetition */

/* The bytes of {n}, {n,}, {,n} or {n,m} at p; 0: the brace is a character. */
static int64_t interval(const char *p, int *fixed)
{
    size_t n = strspn(p + 1, "0123456789"), comma = p[1 + n] == ',',
           m = comma ? strspn(p + 2 + n, "0123456789") : 0;
    *fixed = !comma;
    return p[1 + n + comma + m] == '}' && n + m ? (int64_t)(n + comma + m + 2) : 0;
}

/* Bytes of the quantifier at p, with what follows it and is part of it: after * + ? a ? is lazy and
 * a + possessive, after {n,m} a ? is lazy, and anything else repeats what is repeated already. */
static int64_t quantifier(const char *p)
{
    int fixed = 0;
    int64_t n = *p && strchr("*+?", *p) ? 1 : 0;
    if (n)
        return n + (p[1] == '?' || p[1] == '+');
    if (*p == '{' && (n = interval(p, &fixed)))
        return n + (p[n] == '?' && !fixed);
    return 0;
}

/* The quantifiers after the item that begins in `out` at `start`. */
static void quantifiers(struct rewrite *r, struct rewritten *out, int64_t start)
{
    int64_t n;
    for (int count = 0; (n = quantifier(r->p)); count++) {
        if (count) {
            rewritten_insert(out, start, "(?:");
            rewritten_puts(out, ")");
        }
        if (!strncmp(r->p, "{,", 2)) {
            rewritten_puts(out, "{0");
            r->p++;
            n--;
        }
        rewritten_put(out, r->p, n);
        r->p += n;
    }
}

/* ---- the whole */

static int item(struct rewrite *r, struct groups *g, struct rewritten *out)
{
    int64_t start = out->n;
    if (*r->p == '(')
        return group_begin(r, g, out);
    if (*r->p == ')') {
        if ((start = group_end(g, out)) < 0)
            return rewrite_refuse(r, r->p, 1);
        r->p++;
    } else if (*r->p == '\\') {
        if (rewrite_escape(r, 0, out))
            return -1;
    } else if (*r->p == '[') {
        if (rewrite_class(r, out))
            return -1;
    } else if (*r->p == '^' || *r->p == '$') {
        rewritten_puts(out, *r->p++ == '^' ? "(?m:^)" : "(?m:$)");
    } else if (*r->p == '{') {
        rewritten_puts(out, "\\{");
        r->p++;
    } else {
        int64_t n = utf8_length(r->p, (int64_t)strlen(r->p));
        rewritten_put(out, r->p, n ? n : 1);
        r->p += n ? n : 1;
    }
    quantifiers(r, out, start);
    return 0;
}

char *split_pattern_translate(const char *pattern, struct err *e)
{
    struct rewrite r = {pattern, pattern, e};
    struct groups g = {0};
    struct rewritten out = {0};
    int failed = 0;
    rewritten_puts(&out, "");
    while (*r.p && !failed)
        failed = item(&r, &g, &out);
    for (int i = g.options[0]; i-- > 0;)
        rewritten_puts(&out, ")");
    if (!failed)
        return out.s;
    free(out.s);
    return NULL;
}
