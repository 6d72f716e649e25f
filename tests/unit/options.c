/* Options of a command line, and what a mistyped name may have meant. Prints "N passed, N failed".
 */
#include <string.h>

#include "../../lib/tool/options.h"
#include "../../lib/tool/similar.h"
#include "check.h"

/* Distances worked by hand from the rules in similar.h. */
static const struct {
    const char *word, *name;
    int distance;
} distances[] = {
    {"hiden-size", "hidden-size", 0},
    {"hidden-szie", "hidden-size", 0},
    {"hiden-siez", "hidden-size", 1},
    {"quit", "quiet", 0},
    {"lr", "learning-rate", 100},
    {"layers", "num-hidden-layers", 100},
    {"key-value", "num-key-value-heads", 100},
    {"ctx", "context", 200},
    {"alue", "num-key-value-heads", -1}, /* no whole part */
    {"ct", "context", -1},               /* too short for an abbreviation */
    {"xtc", "context", -1},
    {"", "context", -1},
};

static int64_t size, steps;
static const char *name;
static struct opt_list data;
static int quiet, bias;

/* What a command line gives, or the words of its error. */
static const struct {
    const char *words[5], *message;
    int64_t size;
} lines[] = {
    {{"t", "--hidden-size", "8"}, NULL, 8},
    {{"t", "--hidden_size=8"}, NULL, 8},
    {{"t", "--hidden-si=8"}, NULL, 8},
    {{"t", "--hidden-size=8", "--hidden-size", "8"}, NULL, 8},
    {{"t", "--data=a", "--data=b", "--hidden-size=8"}, NULL, 8},
    {{"t", "--quiet", "-q", "8"}, "unknown option -q; did you mean --quiet?", 0},
    {{"t", "--hidden-size=9", "--hidden-size=7", "--hidden-size=8"}, NULL, 8},
    {{"t", "--hidden-s=8"},
     "--hidden-s=8 may be --hidden-size or --hidden-steps: give more of its name",
     0},
    {{"t", "--hid=8"},
     "--hid=8 may be --hidden-size or --hidden-bias, among others: give more of its name",
     0},
    {{"t", "---hidden-size", "8"}, "unknown option ---hidden-size; did you mean --hidden-size?", 0},
    {{"t", "--hiden-size=8"}, "unknown option --hiden-size=8; did you mean --hidden-size?", 0},
    {{"t", "-hidden-size", "8"}, "unknown option -hidden-size; did you mean --hidden-size?", 0},
    {{"t", "--ffn=8"}, "unknown option --ffn=8; did you mean --intermediate-size?", 0},
    {{"t", "--wonderful"}, "unknown option --wonderful (see --help)", 0},
    {{"t", "--"}, NULL, 0},
    {{"t", "--="}, "unknown option --= (see --help)", 0},
    {{"t", "--hidden-size"}, "--hidden-size needs a value", 0},
    {{"t", "--quiet=1"}, "--quiet takes no value", 0},
};

static const struct opt table[] = {{"Sizes", OPT_GROUP, NULL, NULL, NULL, 0},
                                   {"hidden-size", OPT_INT, &size, "N", "", 0},
                                   {"hidden-steps", OPT_INT, &steps, "N", "", 0},
                                   {"hidden-bias", OPT_FLAG, &bias, NULL, "", 0},
                                   {"intermediate-size", OPT_TEXT, &name, "TEXT", "", 0},
                                   {"data", OPT_LIST, &data, "FILE", "", 0},
                                   {0}},
                        common[] = {{"quiet", OPT_FLAG, &quiet, NULL, "", 0}, {0}};

int main(void)
{
    for (size_t i = 0; i < sizeof distances / sizeof *distances; i++) {
        int d = similar_distance(distances[i].word, distances[i].name);
        CHECK(d == distances[i].distance, "%s and %s: %d", distances[i].word, distances[i].name, d);
    }
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct options o = {.tables = {table, common}};
        struct err e = {0};
        int argc = 0;
        size = 0;
        while (argc < 5 && lines[i].words[argc])
            argc++;
        int failed = options_parse(&o, argc, (char **)lines[i].words, &e);
        const char *message = failed ? e.msg : "none";
        CHECK(!strcmp(message, lines[i].message ? lines[i].message : "none"), "line %zu: %s", i,
              message);
        CHECK(failed || size == lines[i].size, "line %zu: %lld", i, (long long)size);
        int replaced = lines[i].words[1] && !strcmp(lines[i].words[1], "--hidden-size=9");
        const char *note = replaced ? "--hidden-size 7 replaces --hidden-size 9; "
                                      "--hidden-size 8 replaces --hidden-size 7"
                                    : "";
        CHECK(!strcmp(o.note, note), "line %zu: %s", i, o.note);
        options_free(&o);
    }
    return check_report();
}
