/* What a tool says, and how it ends when something is wrong: see tool.h. */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../base/unfinished.h"
#include "../base/utf8.h"
#include "../base/world.h"
#include "tool_private.h"

/* Every message is printed here: names, keys and patterns in it are untrusted text, so anything a
 * terminal would act on is escaped. */
static void message_print(const struct tool *t, const char *message)
{
    char *text = utf8_visible(message);
    fprintf(stderr, "%s: %s\n", t->desc->name, text);
    free(text);
}

/* Rank 0 may be about to say the same; the launcher then ends this process, with SIGTERM. Free it.
 */
static char *wait_to_speak(const char *message)
{
    enum { SECONDS = 2 };
    if (!world_rank())
        return mem_string(message);
    signal(SIGTERM, SIG_DFL);
    sleep(SECONDS);
    return mem_format("rank %d on %s: %s", world_rank(), world_host(world_rank()), message);
}

_Noreturn void tool_exit(struct tool *t, int status, const char *message)
{
    tool_progress_hold(t); /* for good */
    for (int i = 0; i < t->n_outputs; i++)
        if (t->outputs[i])
            st_abandon(t->outputs[i]);
    fflush(stdout);
    unfinished_remove_all(); /* world_abort does not return */
    char *text = wait_to_speak(message);
    message_print(t, text);
    free(text);
    world_abort(status);
    exit(status);
}

#define TOOL_EXIT(status) \
    do { \
        int saved_ = errno; \
        char m_[900]; \
        va_list args_; \
        va_start(args_, format); \
        vsnprintf(m_, sizeof m_, format, args_); \
        va_end(args_); \
        errno = saved_; \
        size_t n_ = strlen(format); \
        if (n_ && format[n_ - 1] == ':') \
            snprintf(m_ + strlen(m_), sizeof m_ - strlen(m_), " %s", strerror(saved_)); \
        tool_exit(t, status, m_); \
    } while (0)

void tool_die(struct tool *t, const char *format, ...) { TOOL_EXIT(1); }
void tool_usage(struct tool *t, const char *format, ...) { TOOL_EXIT(2); }
void tool_refuse(struct tool *t, const char *format, ...) { TOOL_EXIT(3); }

void tool_say(struct tool *t, const char *text)
{
    tool_progress_hold(t);
    message_print(t, text);
    tool_progress_release();
}

void tool_note(const struct tool *t, const char *format, ...)
{
    if (t->quiet)
        return;
    char *text = NULL;
    va_list args;
    va_start(args, format);
    int n = vasprintf(&text, format, args);
    va_end(args);
    tool_say((struct tool *)t, n < 0 ? "out of memory" : text);
    free(n < 0 ? NULL : text);
}
