/* The progress line, on a terminal and in a log. Prints "N passed, N failed". */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "../../lib/tool/tool_private.h"
#include "check.h"

static const struct tool_desc desc = {.name = "kd-train"};
static const char loss[] = "loss 2.5000, learning rate 0.001";

/* What arrives, in pieces, up to a word. */
static void read_to(int from, const char *word, char text[1000])
{
    size_t at = 0;
    ssize_t n;
    do {
        n = read(from, text + at, 999 - at);
        at += n > 0 ? (size_t)n : 0;
        text[at] = 0;
    } while (n > 0 && !strstr(text, word));
}

/* What a run says at `from`, where standard error goes now: 1000 of 1100 steps are behind it, and
 * 50 more take at least 0.2 s. */
struct run {
    int to, from;
    double log_age;  /* of the last line, -1: there was none */
    int64_t every;   /* --logging-steps */
    const char *end; /* the last word of what it says, NULL: unknown */
    char text[1000];
};
static void run(struct run *r)
{
    struct tool t = {.desc = &desc};
    int old = dup(2);
    dup2(r->to, 2);
    tool_progress_every(&t, r->every);
    tool_progress(&t, 1000, 1100, "steps");
    if (r->end)
        read_to(r->from, r->end, r->text);
    usleep(200000);
    t.progress.lines = r->log_age >= 0;
    t.progress.shown = usage_seconds() - r->log_age;
    tool_progress_with(&t, 1050, 1100, "steps", loss);
    tool_progress_end(&t);
    fputs("\nend", stderr);
    dup2(old, 2);
    close(old);
    if (!r->end)
        read_to(r->from, "end", r->text);
}

/* The pace counts the 50 steps of this run, in at least 0.2 s. */
static void check_line(const char *line, const char *what)
{
    long long minutes, seconds;
    double pace;
    int n = sscanf(line, "kd-train: 1050 / 1100 steps, %lld:%lld left, %lf steps/s", &minutes,
                   &seconds, &pace);
    CHECK(n == 3 && pace <= 250, "%s: %s", what, line);
}

static int open_terminal(int *terminal, unsigned short columns)
{
    struct winsize w = {.ws_row = 24, .ws_col = columns};
    int m = posix_openpt(O_RDWR | O_NOCTTY);
    if (m < 0 || grantpt(m) || unlockpt(m) || (*terminal = open(ptsname(m), O_RDWR | O_NOCTTY)) < 0)
        return -1;
    ioctl(*terminal, TIOCSWINSZ, &w);
    return m;
}

/* The line is drawn twice and then removed. */
static void test_terminal(unsigned short columns)
{
    int terminal = -1, m = open_terminal(&terminal, columns);
    CHECK(m >= 0, "there is no terminal");
    struct run r = {.to = terminal, .from = m, .log_age = 1};
    run(&r);
    char *first = strstr(r.text, "kd-train"), *line = strrchr(r.text, 'k');
    CHECK(first == r.text + 4 && line > first, "two lines: %s", r.text);
    CHECK(!strncmp(first, "kd-train: 1000 / 1100 steps", 27), "the first line: %s", r.text);
    line[strcspn(line, "\r\n")] = 0;
    check_line(line, "on a terminal");
    CHECK((int)strlen(line) < columns, "%d columns: %s", columns, line);
    CHECK((strstr(line, loss) != NULL) == (columns > 100), "%d columns: %s", columns, line);
    close(terminal);
    close(m);
}

static void test_log(double age, int64_t every, int line)
{
    int p[2];
    CHECK(!pipe(p), "there is no pipe");
    struct run r = {.to = p[1], .from = p[0], .log_age = age, .every = every};
    run(&r);
    if (line)
        check_line(r.text, "in a log");
    CHECK((strstr(r.text, loss) != NULL) == line, "after %g s, every %lld: %s", age,
          (long long)every, r.text);
    close(p[0]);
    close(p[1]);
}

/* A step that takes seconds. */
static void test_long_step(void)
{
    int p[2];
    CHECK(!pipe(p), "there is no pipe");
    struct run r = {.to = p[1], .from = p[0], .end = "so far\n"};
    run(&r);
    CHECK(!strncmp(r.text, "kd-train: 1000 / 1100 steps, 0:0", 32), "a long step: %s", r.text);
    close(p[0]);
    close(p[1]);
}

int main(void)
{
    test_terminal(60);
    test_terminal(120);
    test_log(61, 0, 1); /* a minute */
    test_log(11, 0, 1); /* 50 of 1100 steps, and ten seconds */
    test_log(9, 0, 0);
    test_log(0, 10, 1);
    test_log(0, 1050, 1);
    test_log(61, 1100, 0);
    test_long_step();
    return check_report();
}
