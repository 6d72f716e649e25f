/* Options of a tool: parsing, defaults, help, and their resolved values for provenance. */
#ifndef PARE_OPTIONS_H
#define PARE_OPTIONS_H

#include <jansson.h>
#include <stdio.h>

#include "../base/err.h"

/* Of int, int64_t, double, const char * (TEXT, PATH, SIZES), struct opt_list (LIST, PATHS: may be
 * repeated). PATH: the name of a file or directory; PATHS: those of several; SIZES: a number, or
 * text that the tool parses (lib/base/ranges.h), recorded as a number where it is one, as 0 where
 * it is not given (with OPT_UNSET not at all); GROUP: a heading in --help (name = text). */
enum opt_type {
    OPT_FLAG,
    OPT_INT,
    OPT_REAL,
    OPT_TEXT,
    OPT_PATH,
    OPT_SIZES,
    OPT_LIST,
    OPT_PATHS,
    OPT_GROUP
};
struct opt_list {
    const char **text;
    int n;
};
/* What an option is, and with it what it does to provenance:
 * - OPT_SILENT_ID: it does not change what is made (--threads, --quiet, --output, --log): neither
 * in hist nor in the id.
 * - of type OPT_PATH or OPT_PATHS: in hist; the id has what the file holds instead of its name, as
 *   one of the parents: the tool opens it with tool_in or tool_model, or registers it with
 * tool_parent.
 * - all others are in both.
 * OPT_FROM_0, OPT_FROM_1: a given whole number is at least 0, or 1. OPT_UNSET: the default stands
 * for an option that is not given, and --help does not show it; a REAL that is NaN is left out of
 * provenance. */
enum { OPT_SILENT_ID = 1, OPT_FROM_1 = 2, OPT_UNSET = 4, OPT_FROM_0 = 8 };
struct opt {
    /* "seq-length", for --seq-length N or --seq-length=N; flags take no value */
    const char *name;
    enum opt_type type;
    void *value; /* holds the default before tool_begin */
    /* "N"; one line; the default is appended by the frame where the value is not 0 / NULL */
    const char *arg, *help;
    int flags;
};

/* The tables, the tool's own and the common one, are tried in order; each ends with {0}. */
struct options {
    const struct opt *tables[2];
    const char **operands;
    int n_operands;
    struct given { /* the options so far that take a value */
        const struct opt *option;
        const char *value;
    } * given;
    int n_given;
    char *note; /* which options were given several values, "": none */
};
/* Fills values and operands (which point into argv). -1: usage error, message in e. "--" ends the
 * options; "-" is an operand; -o is --output, -m is --model, -h is --help. A name may be cut short
 * where only one begins so, and have _ for -. Of several values the last is used, so that a command
 * with defaults can be added to, and the note says so. */
int options_parse(struct options *o, int argc, char **argv, struct err *e);
void options_free(struct options *o);                /* all but the values of lists */
void options_help(const struct options *o, FILE *f); /* the "Options:" part of --help */
/* Prints text from `column` on, wrapped at 80 columns, further lines indented; '\n' begins a new
 * line at column 0. The further lines of one that begins with "- " are indented by 2. */
void options_wrap(const char *text, int column, int indent, FILE *f);
/* {name: value} of all that make a difference, with those that name files or without; unset ones
 * left out */
json_t *options_resolved(const struct options *o, int with_paths);

#endif
