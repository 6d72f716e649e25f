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

#endif
