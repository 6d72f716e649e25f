/* A strict JSON reader (RFC 8259) for large files of plain shape (a vocabulary of 150,000 entries)
 * and for lines of JSON: no tree, no allocation per value. The caller walks a text in memory;
 * anything malformed sets `failed`, and every later call then gives nothing. Small irregular values
 * are located with json_members and handed to a JSON library. Strings are UTF-8, without bare
 * control characters or lone surrogates. */
#ifndef PARE_JSON_SCAN_H
#define PARE_JSON_SCAN_H

#include <stdint.h>

enum { JSON_SCAN_DEPTH = 512 }; /* brackets in brackets */

struct json_scan {
    const char *p, *end;
    int failed;
    char *buffer; /* unescaped strings; free with json_scan_close */
    int64_t room;
};
struct json_range {
    const char *s;
    int64_t n;
}; /* n = 0: absent */

void json_scan_open(struct json_scan *j, const char *s, int64_t n);
void json_scan_close(struct json_scan *j);
/* skips white space; if the next character is c, consumes it: 1, else 0 */
int json_take(struct json_scan *j, char c);
/* the same, but anything else is a failure */
void json_need(struct json_scan *j, char c);
/* nothing but white space follows; else a failure */
void json_need_end(struct json_scan *j);
/* The text of a string, *n its bytes, valid until the next call; NULL on failure. Points into the
 * source where nothing is escaped. */
const char *json_string_text(struct json_scan *j, int64_t *n);
/* an integer from 0 to 2^53; -1 on failure */
int64_t json_whole(struct json_scan *j);
/* steps over any value, nested or not, and returns its extent */
struct json_range json_skip_value(struct json_scan *j);
/* Locates the members names[0..count) of an object in one pass. 0; or -1, and *why says in a few
 * words: not an object, text after it, a duplicate name. */
int json_members(struct json_range object, const char *const *names, struct json_range *values,
                 int count, const char **why);

#endif
