/* Lists of layers, as options take them: "0,3,12-19", or with a value for each range,
 * "0-7:896,8-:1024". Layers count from 0; "8-" extends to the last layer, "-7" starts at the first;
 * a list with values may be a single number, the value of every layer. */
#ifndef PARE_RANGES_H
#define PARE_RANGES_H

#include <stdint.h>

#include "err.h"

struct range {
    int64_t from, to; /* both inclusive; to: INT64_MAX if open-ended */
    int64_t value;    /* from 1; 0 in a list without values */
};
struct ranges {
    struct range *list; /* in the order given; no two overlap */
    int64_t n;
};

/* NUMBER: a single number is allowed */
enum ranges_kind { RANGES_PLAIN, RANGES_VALUES, RANGES_NUMBER };

/* Refuses anything but such a list, reversed and overlapping ranges, and values below 1, in one
 * sentence that begins with --option. */
int ranges_parse(struct ranges *r, const char *option, const char *text, enum ranges_kind kind,
                 struct err *e);
/* 0 if every range is within that many layers; else -1 and a sentence. */
int ranges_check(const struct ranges *r, const char *option, int64_t layers, struct err *e);
/* The range that holds the layer, or NULL. */
const struct range *ranges_find(const struct ranges *r, int64_t layer);
void ranges_free(struct ranges *r);

/* The reverse: layer[i], ascending, has value[i]. "896" if all n are equal, else
 * "0-7:896,8-11:1024"; value NULL: a list without values, "0,3,12-19". free it. */
char *ranges_text(const int64_t *layer, const int64_t *value, int64_t n);

#endif
