/* msgpack <-> JSON values. The scanner finds the end of an untrusted object and checks its limits
 * before msgpack-c sees it. */
#ifndef PARE_MPK_H
#define PARE_MPK_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

enum { MPK_DEPTH = 32 }; /* nested maps and arrays; also msgpack-c's own bound */

/* bytes of the object; memory its values take as JSON, which is up to 260 times as much */
struct mpk_limits {
    uint64_t bytes, memory;
};

/* Resumable: start as zeros with `limits` set, and call again whenever more bytes of the same
 * object have arrived. */
struct mpk_scan {
    struct mpk_limits limits;
    /* first byte not yet scanned; the extent once done. May lie beyond what has arrived */
    uint64_t at;
    /* entries that open containers still promise, each at least a byte; memory of the entries so
     * far */
    uint64_t owed, memory;
    uint64_t left[MPK_DEPTH + 1]; /* per open container */
    int depth, started;
};
/* p[0, have): the object's bytes so far. 1: whole, s->at bytes long; 0: more bytes wanted; -1:
 * refused, *why says in a few words. */
int mpk_scan(struct mpk_scan *s, const unsigned char *p, uint64_t have, const char **why);

/* Exactly n scanned bytes. NULL: *why says in a few words (duplicate key, text that is not UTF-8,
 * NaN, ...). */
json_t *mpk_decode(const unsigned char *p, size_t n, const char **why);
/* malloc'd. -1: *why. */
int mpk_encode(const json_t *value, unsigned char **bytes, size_t *n, const char **why);

#endif
