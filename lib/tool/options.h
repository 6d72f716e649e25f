/* Options of a tool: parsing, defaults, help, and their resolved values for provenance. Part of the
 * frame (tool.h); prints and exits only through the callbacks of tool.c. */
#ifndef PARE_OPTIONS_H
#define PARE_OPTIONS_H

#include <jansson.h>
#include <stdio.h>

#include "tool.h"

/* The tables are tried in order; each ends with {0}. */
struct options {
    const struct opt *tables[3];
    const char **operands;
    int n_operands;
};
/* Fills values and operands (which point into argv). -1: usage error, message in e. "--" ends the
 * options; "-" is an operand; -o is --output, -m is --model. */
int options_parse(struct options *o, int argc, char **argv, struct err *e);
void options_help(const struct options *o, FILE *f); /* the "Options:" part of --help */
/* Prints text from `column` on, wrapped at 80 columns, further lines indented; '\n' begins a new
 * line at column 0. */
void options_wrap(const char *text, int column, int indent, FILE *f);
/* {name: value} of all that make a difference, with those that name files or without; unset ones
 * left out */
json_t *options_resolved(const struct options *o, int with_paths);

#endif
