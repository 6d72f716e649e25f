/* Bytes by position, perhaps more than memory holds: kept in memory, or in an unnamed file in
 * TMPDIR (file.h). */
#ifndef PARE_SPILL_H
#define PARE_SPILL_H

#include "mem.h"

struct spill {
    struct arena memory; /* base NULL: in the file */
    int fd;              /* -1: in memory */
    void *buffer;        /* what was last read from the file */
};
/* in_file: in the file, where they also go if there is no memory for them. -1 also if the file
 * system has no room for them. */
int spill_open(struct spill *s, int64_t bytes, int in_file, struct err *e);
int spill_put(struct spill *s, int64_t at, const void *from, int64_t n, struct err *e);
/* n bytes, until the next call; NULL: error */
const void *spill_get(struct spill *s, int64_t at, int64_t n, struct err *e);
void spill_close(struct spill *s); /* also of all zeros */

#endif
