/* The history of a stream, as commands. */
#ifndef PARE_HISTORY_H
#define PARE_HISTORY_H

#include <jansson.h>
#include <stdio.h>

#include "../base/err.h"

/* A shell script that makes the file again from its "hist", intermediate files under the names that
 * were typed. */
int hist_script(const json_t *head, const char *path, FILE *f, struct err *e);
/* One step as a command line, words quoted for the shell; without output. */
void hist_command(const json_t *step, FILE *f);
/* The same with its first n operands alone. */
void hist_words(const json_t *step, size_t n, FILE *f);

/* The first input of the last step, followed back through the steps that made it to what none of
 * them did: {path, id}, borrowed. Of a model it is the one that it was made from. NULL: no history.
 */
const json_t *hist_origin(const json_t *steps);

/* A word, quoted where a shell would read it otherwise. */
void hist_word(const char *word, FILE *f);
/* What a history, which anybody can write, may name: tools that write streams, options that they
 * record. */
int hist_may_call(const char *tool);
int hist_may_give(const char *option);

#endif
