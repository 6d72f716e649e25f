/* How a text begins and ends. */
#ifndef PARE_TEXT_H
#define PARE_TEXT_H

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

#endif
