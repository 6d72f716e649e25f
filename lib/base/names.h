/* Names of the entries of an array, to be found by binary search. */
#ifndef PARE_NAMES_H
#define PARE_NAMES_H

#include <stddef.h>

struct names {
    const char *first; /* the name of entry 0; borrowed, as are all */
    size_t stride;     /* bytes from the name of an entry to that of the next */
    int n, *order;     /* the entries by name */
};

/* Sets x. Returns an entry whose name another has too, or -1 if there is none. */
int names_index(struct names *x, const char *first, size_t stride, int n);
/* The entry of that name, or -1. */
int names_find(const struct names *x, const char *name);
void names_free(struct names *x);

#endif
