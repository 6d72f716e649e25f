/* The progress line on a terminal: see tool.h. */
#include <stdio.h>
#include <unistd.h>

#include "tool_private.h"

void tool_clear_progress(struct tool *t)
{
    if (t->progress_shown)
        fputs("\r\033[K", stderr);
    t->progress_shown = 0;
}

void tool_progress(struct tool *t, int64_t done, int64_t total, const char *unit)
{
    double now = usage_seconds();
    if (!t->progress_start)
        t->progress_start = now;
    if (t->quiet || !isatty(2) || (now - t->progress_last < 1.0 / 6 && done < total))
        return;
    t->progress_last = now;
    double spent = now - t->progress_start, rate = spent > 0 ? (double)done / spent : 0,
           left = rate > 0 ? (double)(total - done) / rate : 0;
    fprintf(stderr, "\r\033[K%s: %lld / %lld %s, %.3g %s/s, %d:%02d left", t->desc->name,
            (long long)done, (long long)total, unit, rate, unit, (int)left / 60, (int)left % 60);
    t->progress_shown = 1;
    if (done >= total)
        tool_clear_progress(t);
    fflush(stderr);
}
