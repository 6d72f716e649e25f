/* JSON text from outside, checked before the library allocates: jansson spends some hundred bytes
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
json_t *json_parse_file(const char *path, const struct json_limits *limits, struct err *e);

#endif
