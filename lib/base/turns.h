/* Work that the processes of a run share (world.h). It is cut into batches, the same ones as in a
 * single process, and they are dealt out in turn: batch i is run by process i mod size. What each
 * batch gave is then put together in the order of the batches, so that sums have the same bits as
 * those of a single process, for which all turns are its own. */
#ifndef PARE_TURNS_H
#define PARE_TURNS_H

#include "world.h"

static inline int turn_of(int64_t batch) { return (int)(batch % world_size()); }
static inline int turn_is_mine(int64_t batch) { return turn_of(batch) == world_rank(); }

/* Results that are small: an entry for each batch, or for each thing in one. Those of other
 * processes' batches are zeros before, and theirs after, since x + 0 = x. */
static inline int turns_join(double *values, int64_t n, struct err *e)
{
    return world_sum(values, n, e);
}

/* Results that are not: called batch by batch, it brings what the process whose turn it is has in
 * `data` to the `data` of the first process. */
static inline int turn_bring(int64_t batch, void *data, size_t bytes, struct err *e)
{
    return world_bring(data, bytes, turn_of(batch), e);
}

/* Is this the first process, where all results are? */
static inline int turns_end_here(void) { return !world_rank(); }

/* And at last, if need be, from the first process to all. */
static inline int turns_share(void *data, size_t bytes, struct err *e)
{
    return world_broadcast(data, bytes, 0, e);
}

#endif
