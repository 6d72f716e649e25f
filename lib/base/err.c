/* Sticky errors: see err.h. */
#include "err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int err_set(struct err *e, const char *format, ...)
{
    int saved = errno;
    if (!e || e->set)
        return -1;
    e->set = 1;
    va_list args;
    va_start(args, format);
    vsnprintf(e->msg, sizeof e->msg, format, args);
    va_end(args);
    size_t n = strlen(e->msg), f = strlen(format);
    if (f && format[f - 1] == ':' && n + 2 < sizeof e->msg)
        snprintf(e->msg + n, sizeof e->msg - n, " %s", strerror(saved));
    return -1;
}
