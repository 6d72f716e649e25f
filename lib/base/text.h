/* How a text begins and ends; values of options. */
#ifndef PARE_TEXT_H
#define PARE_TEXT_H

#include <string.h>

#include "err.h"

static inline int text_begins(const char *s, const char *begin)
{
    return !strncmp(s, begin, strlen(begin));
}
static inline int text_ends(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n >= k && !strcmp(s + n - k, end);
}
/* The value of a hexadecimal digit, -1 for any other character. */
static inline int text_hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 32; /* lower case */
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}
/* The value of an option that takes one of two words: 0 or 1; -1 for any other. */
static inline int text_choice(const char *option, const char *value, const char *no,
                              const char *yes, struct err *e)
{
    if (!strcmp(value, no) || !strcmp(value, yes))
        return !strcmp(value, yes);
    return err_set(e, "--%s must be %s or %s, not \"%s\"", option, no, yes, value);
}

#endif
