/* The progress of a run, on a terminal and in a log: see tool.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "../base/mem.h"
#include "../base/utf8.h"
#include "tool_private.h"

void tool_clear_progress(struct tool *t)
{
    if (t->progress_shown)
        fputs("\r\033[K", stderr);
    t->progress_shown = 0;
}

static int terminal_width(void)
{
    struct winsize w;
    return ioctl(2, TIOCGWINSZ, &w) || !w.ws_col ? 80 : w.ws_col;
}

/* ", 12.5 windows/s" or, where a unit takes longer than a second, ", 8.9 s/window" */
static char *pace_text(char *line, double rate, const char *unit)
{
    int n = (int)strcspn(unit, " "); /* "variants of windows": the first word */
    if (rate >= 1)
        return mem_append(line, ", %.3g %.*s/s", rate, n, unit);
    return mem_append(line, ", %.3g s/%.*s", 1 / rate, n - (unit[n - 1] == 's'), unit);
}

static char *time_text(char *line, double seconds)
{
    long long s = (long long)(seconds + 0.5);
    if (s < 3600)
        return mem_append(line, ", %lld:%02lld left", s / 60, s % 60);
    return mem_append(line, ", %lld:%02lld:%02lld left", s / 3600, s / 60 % 60, s % 60);
}

/* What is wanted most comes first, since a narrow terminal cuts off the end. */
static char *progress_line(const struct tool *t, int64_t done, int64_t total, const char *unit,
                           const char *more, double now)
{
    char *line = mem_format("%lld / %lld %s", (long long)done, (long long)total, unit);
    /* what was there at the first call took none of the time since */
    int64_t since = done - t->progress_first;
    double spent = now - t->progress_start;
    if (since > 0 && spent > 0) {
        double rate = (double)since / spent;
        line = pace_text(time_text(line, (double)(total - done) / rate), rate, unit);
    }
    return *more ? mem_append(line, ", %s", more) : line;
}

/* line: freed */
static void print_line(struct tool *t, char *line, int terminal)
{
    char *text = utf8_visible(line), *whole = mem_format("%s: %s", t->desc->name, text);
    if (terminal)
        fprintf(stderr, "\r\033[K%.*s", terminal_width() - 1, whole);
    else
        fprintf(stderr, "%s\n", whole);
    t->progress_shown = terminal;
    free(line);
    free(text);
    free(whole);
}

void tool_progress_with(struct tool *t, int64_t done, int64_t total, const char *unit,
                        const char *more)
{
    enum { LOG_SECONDS = 60 };
    double now = usage_seconds();
    int terminal = isatty(2);
    if (!t->progress_start || done < t->progress_done) { /* another model begins */
        t->progress_start = now;
        t->progress_first = done;
        t->progress_last = terminal ? 0 : now;
    }
    t->progress_done = done;
    double every = terminal ? 1.0 / 6 : LOG_SECONDS;
    int last = terminal && done >= total;
    if (t->quiet || (now - t->progress_last < every && !last))
        return;
    t->progress_last = now;
    if (last)
        tool_clear_progress(t);
    else
        print_line(t, progress_line(t, done, total, unit, more, now), terminal);
    fflush(stderr);
}

void tool_progress(struct tool *t, int64_t done, int64_t total, const char *unit)
{
    tool_progress_with(t, done, total, unit, "");
}
