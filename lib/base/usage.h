/* Resource usage: time and memory of this process. */
#ifndef PARE_USAGE_H
#define PARE_USAGE_H

#include <stdint.h>

double usage_seconds(void);         /* a monotonic clock; only differences are meaningful */
int64_t usage_peak_bytes(void);     /* peak resident memory so far */
int64_t usage_resident_bytes(void); /* resident now */

/* A part of the memory a run will hold; `loaded`: already resident. Lists end with a NULL name. */
struct memory_part {
    const char *name;
    int64_t bytes;
    int loaded;
};

#endif
