/* Classes of characters, [...]. Oniguruma knows classes within classes, which are united, and
 * intersections (&&); PCRE2 does not, but a lookahead intersects:
 *   [ab[^c]] is (?:[ab]|[^c]), [ab&&[^c]] is (?:(?=[ab])[^c]), and a class that is neither,
 * negated,
 * (?:(?!...)(?s:.)). Refuses empty classes and operands, and the POSIX classes that the two
 * libraries understand differently. */
#include <stdlib.h>
#include <string.h>

#include "pattern_rewrite.h"

enum { CLASS_DEPTH = 16 };

static int class_within(struct rewrite *r, int depth, struct rewritten *out);

/* [:name:] within a class, as Oniguruma has it for Unicode. */
static int posix_class(struct rewrite *r, struct rewritten *plain)
{
    static const struct {
        const char *name, *members;
    } known[] = {{"[:punct:]", "\\p{P}\\p{S}"},
                 {"[:space:]", "\\p{White_Space}"},
                 {"[:digit:]", "\\p{Nd}"},
                 {"[:alpha:]", "\\p{Alphabetic}"}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strncmp(r->p, known[i].name, strlen(known[i].name))) {
            rewritten_puts(plain, known[i].members);
            r->p += strlen(known[i].name);
            return 0;
        }
    return rewrite_refuse(r, r->p, (int)strcspn(r->p, "]") + 1);
}

/* The next member of a class: into `plain`, or, if it is a class itself, as one more alternative
 * into `nested`. */
static int member(struct rewrite *r, int depth, struct rewritten *plain, struct rewritten *nested)
{
    if (*r->p == '\\')
        return rewrite_escape(r, 1, plain);
    if (r->p[0] == '[' && r->p[1] == ':')
        return posix_class(r, plain);
    if (*r->p == '[') {
        rewritten_puts(nested, "|");
        return class_within(r, depth + 1, nested);
    }
    rewritten_put(plain, r->p++, 1);
    return 0;
}

/* One operand of &&, the members up to && or the end of the class. */
static int operand(struct rewrite *r, int depth, int negated, struct rewritten *out)
{
    struct rewritten plain = {0}, nested = {0};
    int failed = 0;
    while (!failed && *r->p && *r->p != ']' && strncmp(r->p, "&&", 2))
        failed = member(r, depth, &plain, &nested);
    if (!failed && !plain.n && !nested.n)
        failed = rewrite_refuse(r, r->p, 2);
    if (failed) {
        free(plain.s);
        free(nested.s);
        return -1;
    }
    if (nested.n)
        rewritten_puts(out, negated ? "(?:(?!" : "(?:");
    if (plain.n) {
        rewritten_puts(out, negated && !nested.n ? "[^" : "[");
        rewritten_put(out, plain.s, plain.n);
        rewritten_puts(out, "]");
    }
    if (nested.n) /* it begins with | */
        rewritten_puts(out, nested.s + (plain.n ? 0 : 1));
    if (nested.n)
        rewritten_puts(out, negated ? ")(?s:.))" : ")");
    free(plain.s);
    free(nested.s);
    return 0;
}

/* Operands after the first, which begins in `out` at `start`: all but the last become
 * lookaheads. */
static int intersect(struct rewrite *r, int depth, int negated, struct rewritten *out,
                     int64_t start)
{
    rewritten_insert(out, start, negated ? "(?:(?!(?=" : "(?:(?=");
    rewritten_puts(out, ")");
    while (!strncmp(r->p, "&&", 2)) {
        int64_t at = out->n;
        r->p += 2;
        if (operand(r, depth, 0, out))
            return -1;
        if (!strncmp(r->p, "&&", 2)) {
            rewritten_insert(out, at, "(?=");
            rewritten_puts(out, ")");
        }
    }
    rewritten_puts(out, negated ? ")(?s:.))" : ")");
    return 0;
}

static int class_within(struct rewrite *r, int depth, struct rewritten *out)
{
    const char *begin = r->p++;
    int negated = *r->p == '^';
    r->p += negated;
    if (*r->p == ']' || depth == CLASS_DEPTH)
        return rewrite_refuse(r, begin, 2);
    const char *first = r->p;
    int64_t start = out->n;
    if (operand(r, depth, negated, out))
        return -1;
    if (*r->p == '&') { /* only then is it known that the whole is negated, not this operand */
        out->n = start;
        r->p = first;
        if (operand(r, depth, 0, out) || intersect(r, depth, negated, out, start))
            return -1;
    }
    if (*r->p != ']')
        return rewrite_refuse(r, begin, 1);
    r->p++;
    return 0;
}

int rewrite_class(struct rewrite *r, struct rewritten *out) { return class_within(r, 0, out); }
