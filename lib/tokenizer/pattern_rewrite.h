/* A pattern being rewritten from Oniguruma's syntax into PCRE2's: escape sequences
 * (pattern_escape.c), what stands in brackets (pattern_class.c), and the whole
 * (split_pattern.c). */
#ifndef PARE_PATTERN_REWRITE_H
#define PARE_PATTERN_REWRITE_H

#include <stdint.h>

#include "../base/err.h"

/* A text that grows. */
struct rewritten {
    char *s; /* NUL-terminated; NULL: empty */
    int64_t n, room;
};
void rewritten_put(struct rewritten *w, const char *s, int64_t n);
void rewritten_puts(struct rewritten *w, const char *s);
/* puts s before the byte at `at` */
void rewritten_insert(struct rewritten *w, int64_t at, const char *s);

struct rewrite {
    const char *pattern, *p; /* the whole, and what is left of it */
    struct err *e;
};
/* Sets the error that the n bytes at `what` are not supported; -1. */
int rewrite_refuse(const struct rewrite *r, const char *what, int n);
/* Rewrites the escape sequence at r->p; in_class: it stands in brackets. */
int rewrite_escape(struct rewrite *r, int in_class, struct rewritten *out);
/* Rewrites the class that begins with the bracket at r->p, as one item of a pattern. */
int rewrite_class(struct rewrite *r, struct rewritten *out);

#endif
