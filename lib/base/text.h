/* Text and numbers: what every room needs and C lacks. */
#ifndef PARE_TEXT_H
#define PARE_TEXT_H

#include <stdint.h>
#include <string.h>

static inline int text_begins(const char *s, const char *begin)
{
    return !strncmp(s, begin, strlen(begin));
}
static inline int text_ends(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n >= k && !strcmp(s + n - k, end);
}

static inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

#endif
