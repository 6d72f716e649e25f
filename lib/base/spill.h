/* Bytes by position that may be more than memory holds: kept there, or in an unnamed file in TMPDIR
 * (file.h). */
#ifndef PARE_SPILL_H
#define PARE_SPILL_H

#include "mem.h"

struct spill {
    struct arena memory; /* base NULL: in the file */
    int fd;              /* -1: in memory */
    void *buffer;        /* what was last read from the file */
};
/* in_file: not in memory, where they also are not if it cannot be had. -1 also where the file's
 * system has no room for so many. */
int spill_open(struct spill *s, int64_t bytes, int in_file, struct err *e);
int spill_put(struct spill *s, int64_t at, const void *from, int64_t n, struct err *e);
/* n bytes, until the next call; NULL: error */
const void *spill_get(struct spill *s, int64_t at, int64_t n, struct err *e);
void spill_close(struct spill *s); /* also of zeros */

#endif
