/* What a run uses: time and memory of this process. */
#ifndef PARE_USAGE_H
#define PARE_USAGE_H

#include <stdint.h>

double usage_seconds(void);         /* a clock that only goes forward; differences count */
int64_t usage_peak_bytes(void);     /* the most memory that was resident so far */
int64_t usage_resident_bytes(void); /* resident now */

/* A part of what a run will hold; `loaded`: resident already. Lists end with a NULL name. */
struct memory_part {
    const char *name;
    int64_t bytes;
    int loaded;
};

#endif
