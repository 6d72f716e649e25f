/* The progress line, on a terminal and in a log. Prints "N passed, N failed". */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
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

/* What comes out at `from`, where standard error goes now, of a run that has 1000 of 1100 steps
 * behind it and takes at least 0.2 s for 50 more. */
static void run(int to, int from, char text[1000], double log_age)
{
    struct tool t = {.desc = &desc};
    int old = dup(2);
    dup2(to, 2);
    tool_progress(&t, 1000, 1100, "steps");
    usleep(200000);
    t.progress_last -= log_age;
    tool_progress_with(&t, 1050, 1100, "steps", loss);
    fputs("\nend", stderr);
    dup2(old, 2);
    close(old);
    read_to(from, "end", text);
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

static void test_terminal(unsigned short columns)
{
    char text[1000];
    int terminal = -1, m = open_terminal(&terminal, columns);
    CHECK(m >= 0, "there is no terminal");
    run(terminal, m, text, 0);
    char *last = strrchr(text, '\033'), *line = last ? last + 3 : text;
    line[strcspn(line, "\r\n")] = 0;
    CHECK(last && last != text + 1, "one line of two: %s", text);
    check_line(line, "on a terminal");
    CHECK((int)strlen(line) < columns, "%d columns: %s", columns, line);
    CHECK((strstr(line, loss) != NULL) == (columns > 100), "%d columns: %s", columns, line);
    close(terminal);
    close(m);
}

static void test_log(double age)
{
    char text[1000];
    int p[2];
    CHECK(!pipe(p), "there is no pipe");
    run(p[1], p[0], text, age);
    if (age > 60)
        check_line(text, "in a log");
    CHECK((strstr(text, loss) != NULL) == (age > 60), "after %g s: %s", age, text);
    close(p[0]);
    close(p[1]);
}

int main(void)
{
    test_terminal(60);
    test_terminal(120);
    test_log(61);
    test_log(0);
    return check_report();
}
