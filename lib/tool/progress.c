/* The progress of a run, on a terminal and in a log: see tool.h. A thread shows that the run is
 * alive while one unit takes long. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "../base/mem.h"
#include "../base/utf8.h"
#include "tool_private.h"

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

static char *time_text(char *line, double seconds, const char *what)
{
    long long s = (long long)(seconds + 0.5);
    if (s < 3600)
        return mem_append(line, ", %lld:%02lld %s", s / 60, s % 60, what);
    return mem_append(line, ", %lld:%02lld:%02lld %s", s / 3600, s / 60 % 60, s % 60, what);
}

static char *how_much(const struct progress *p)
{
    if (p->total < 0)
        return mem_string(p->unit);
    if (!p->total)
        return mem_format("%lld %s", (long long)p->done, p->unit);
    return mem_format("%lld / %lld %s", (long long)p->done, (long long)p->total, p->unit);
}

/* What is wanted most comes first, since a narrow terminal cuts off the end. */
static char *progress_line(const struct progress *p, double now)
{
    char *line = how_much(p);
    /* what was there at the first call took none of the time since */
    int64_t since = p->done - p->first;
    double spent = p->at - p->start, left;
    int has_pace = since > 0 && spent > 0;
    if (has_pace && p->total) {
        left = spent / (double)since * (double)(p->total - p->done) - (now - p->at);
        line = time_text(line, left > 0 ? left : 0, "left");
    } else if (now - p->start >= 0.5) {
        line = time_text(line, now - p->start, "so far");
    }
    if (has_pace)
        line = pace_text(line, (double)since / spent, p->unit);
    return *p->more ? mem_append(line, ", %s", p->more) : line;
}

/* on_terminal: the next line replaces it */
static void print_line(struct tool *t, double now, int on_terminal)
{
    struct progress *p = &t->progress;
    char *line = progress_line(p, now), *text = utf8_visible(line),
         *whole = mem_format("%s: %s", t->desc->name, text);
    if (on_terminal)
        fprintf(stderr, "\r\033[K%.*s", terminal_width() - 1, whole);
    else
        fprintf(stderr, "%s%s\n", p->is_shown ? "\r\033[K" : "", whole);
    fflush(stderr);
    p->is_shown = on_terminal;
    p->shown = now;
    p->lines++;
    free(line);
    free(text);
    free(whole);
}

static int passed(const struct progress *p, int64_t every)
{
    return every > 0 && p->done / every > p->said / every;
}

/* Is a line due that remains? */
static int line_is_due(const struct progress *p, double now, int on_terminal)
{
    enum { MINUTE = 60, LEAST = 10 };
    if (p->every || on_terminal)
        return passed(p, p->every);
    if (!p->lines)
        return now - p->start >= (p->is_copy ? LEAST : 0.9); /* the first sign of life */
    return now - p->shown >= MINUTE ||
           (now - p->shown >= LEAST && passed(p, (p->total + 99) / 100));
}

static void show(struct tool *t, double now, double redraw_after)
{
    struct progress *p = &t->progress;
    int on_terminal = isatty(2);
    if (line_is_due(p, now, on_terminal)) {
        print_line(t, now, 0);
        p->said = p->done;
    }
    if (on_terminal && now - p->shown >= redraw_after)
        print_line(t, now, 1);
}

/* ---- while a unit takes long */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct tool *watched; /* NULL: none that is at work */

static void *watch(void *unused)
{
    for (;;) {
        usleep(300000);
        pthread_mutex_lock(&lock);
        if (watched)
            show(watched, usage_seconds(), 1);
        pthread_mutex_unlock(&lock);
    }
    return unused;
}

/* Signals are for the main thread. Without the thread all else works. */
static void watch_begin(void)
{
    static int begun;
    pthread_t thread;
    sigset_t all, before;
    if (begun++)
        return;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (!pthread_create(&thread, NULL, watch, NULL))
        pthread_detach(thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void tool_progress_hold(struct tool *t)
{
    pthread_mutex_lock(&lock);
    if (t->progress.is_shown)
        fputs("\r\033[K", stderr);
    t->progress.is_shown = 0;
}

void tool_progress_release(void) { pthread_mutex_unlock(&lock); }

void tool_progress_end(struct tool *t)
{
    tool_progress_hold(t);
    watched = NULL;
    t->progress.unit = NULL;
    tool_progress_release();
}

/* ---- for tools */

void tool_progress_with(struct tool *t, int64_t done, int64_t total, const char *unit,
                        const char *more)
{
    struct progress *p = &t->progress;
    double now = usage_seconds();
    if (t->quiet)
        return;
    watch_begin();
    pthread_mutex_lock(&lock);
    if (!p->unit || strcmp(p->unit, unit) || done < p->done) { /* another model begins */
        int is_shown = p->is_shown;
        *p = (struct progress){
            .unit = unit, .start = now, .first = done, .every = p->every, .is_copy = p->is_copy};
        p->said = done;
        p->is_shown = is_shown;
    }
    p->at = now;
    p->done = done;
    p->total = total;
    snprintf(p->more, sizeof p->more, "%s", more);
    watched = t;
    show(t, now, 1.0 / 6);
    pthread_mutex_unlock(&lock);
    if (total > 0 && done >= total)
        tool_progress_end(t);
}

void tool_progress(struct tool *t, int64_t done, int64_t total, const char *unit)
{
    tool_progress_with(t, done, total, unit, "");
}

void tool_waiting(struct tool *t, const char *what) { tool_progress_with(t, 0, -1, what, ""); }

void tool_progress_every(struct tool *t, int64_t units) { t->progress.every = units; }
