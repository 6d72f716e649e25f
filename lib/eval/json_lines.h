/* Files of JSON: a value a line, or the elements of one array; empty lines are skipped. */
#ifndef PARE_JSON_LINES_H
#define PARE_JSON_LINES_H

#include <jansson.h>

#include "../../formats/stream.h"

/* Takes a value, as text and read; number: from 1; where: "FILE: line N", for messages. 0: go on,
 * 1: read no more, -1: error. */
typedef int json_line_fn(void *user, const char *line, const json_t *value, int64_t number,
                         const char *where, struct err *e);
/* Reads a file, or standard input for "-". Refuses lines that are not JSON, by number. digest: of
 * the lines that were read, or NULL. */
int json_lines_read(const char *path, json_line_fn *each, void *user, char digest[ST_DIGEST],
                    struct err *e);
/* What messages call the file. */
const char *json_lines_name(const char *path);

#endif
