/* Where a JSON value ends, found while its text arrives. */
#ifndef PARE_JSON_EXTENT_H
#define PARE_JSON_EXTENT_H

#include <stdint.h>

/* {0} before the first byte of a value. at: bytes looked at so far. */
struct json_extent {
    int64_t at, depth;
    int in_string, escaped;
};
/* s[0, n): the value's text from its beginning, with what has arrived since. The offset where it
 * ends, -1: not within these bytes. An object, array or string ends with its last byte, anything
 * else before white space, a comma or a bracket. Text that is not JSON has some end, too. */
int64_t json_extent(struct json_extent *x, const char *s, int64_t n);

#endif
