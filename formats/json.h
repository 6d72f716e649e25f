/* Untrusted JSON text, checked before the library allocates: jansson spends about a hundred bytes
 * on a value that takes two. */
#ifndef PARE_JSON_H
#define PARE_JSON_H

#include <jansson.h>
#include <stdint.h>

#include "../lib/base/err.h"

struct json_limits {
    int64_t bytes;  /* of the file; ignored for text in memory */
    int64_t values; /* members, elements */
    int depth;      /* of nested brackets */
};
/* NULL on error (names `what` and the place); refuses duplicate keys and anything after the value.
 * json_decref it. */
json_t *json_parse_text(const char *text, int64_t n, const struct json_limits *limits,
                        const char *what, struct err *e);
/* The same of a file. Python writes Infinity, -Infinity and NaN, which JSON does not have: they are
 * read as transformers 5 writes them, {"__float__": "Infinity"}. */
json_t *json_parse_file(const char *path, const struct json_limits *limits, struct err *e);

/* A JSON string for names and paths, which may hold any bytes: bytes that are not UTF-8 become
 * U+FFFD. Every name given by a user or a file enters JSON through this. */
json_t *json_text(const char *s);
/* A number, or null where it is not finite, which JSON cannot say; new reference. */
json_t *json_number_or_null(double x);
/* Sets a member of an object to that. */
void json_put_number(json_t *j, const char *key, double x);
/* A member of an object: a number, NAN for anything else; a value, NULL for null. */
double json_number_of(const json_t *j, const char *key);
json_t *json_given(const json_t *j, const char *key);
/* From this call on, jansson ends the process with a sentence when it is out of memory, as
 * mem_alloc does; its callers do not check for NULL. */
void json_memory_or_exit(void);

#endif
