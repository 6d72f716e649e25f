/* What ends a tool: see tool.h. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../base/unfinished.h"
#include "tool_private.h"

/* An interrupted tool leaves nothing half-written. */
static void on_end(int sig)
{
    unfinished_remove_all();
    signal(sig, SIG_DFL);
    raise(sig);
}

void tool_signals(void)
{
    const int ends[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGUSR1};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (signal(ends[i], on_end) == SIG_IGN)
            signal(ends[i], SIG_IGN); /* leave nohup and background jobs alone */
    /* exceeding a file size limit then fails in write, which is reported */
    signal(SIGXFSZ, SIG_IGN);
}

static volatile sig_atomic_t stop;
static void (*end)(int); /* the handler for the same signal again: that of every tool */
static char said[160];   /* at the first signal of a kind; "": nothing */

static void on_stop(int s)
{
    int saved = errno; /* what was interrupted may be about to read it */
    signal(stop = s, end);
    ssize_t ignored = write(2, said, strlen(said));
    (void)ignored;
    errno = saved;
}

const volatile sig_atomic_t *tool_catch_signals(const struct tool *t)
{
    if (!t->quiet)
        snprintf(said, sizeof said,
                 "%s%s: stopping after this step; the same signal again ends it at once\n",
                 isatty(2) ? "\r\033[K" : "", t->desc->name);
    end = signal(SIGTERM, on_stop);
    signal(SIGINT, on_stop);
    signal(SIGUSR1, on_stop); /* Slurm warns with it */
    if (signal(SIGHUP, on_stop) == SIG_IGN)
        signal(SIGHUP, SIG_IGN); /* under nohup */
    signal(SIGPIPE, SIG_IGN);    /* a reader that leaves is an error of the write */
    return &stop;
}
