/* The processes of one run, started by mpirun or srun: how many there are, and what passes between
 * them. Started otherwise, or built without MPI, a program is a world of one process, in which
 * every call here is trivial.
 *
 * Every rank makes the same calls in the same order, from one thread. What is to be reduced or
 * spread is queued: a thread of its own moves it while the caller computes. Sums are added in the
 * order of the ranks, in f64, so that they have the same bits on every rank, and in every run of as
 * many processes.
 *
 * Errors stick: after the first, further calls fail with the same message. Whoever waits says for
 * whom, and fails when the deadline has passed. */
#ifndef PARE_WORLD_H
#define PARE_WORLD_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "err.h"

enum { WORLD_DEADLINE = 600 }; /* seconds, until world_patience changes it */

/* Joins the other processes, if a launcher has started any. -1: it has, but this build has no MPI,
 * or they cannot be joined. */
int world_start(struct err *e);
/* After the last call, on every rank: waits for the others. */
void world_finish(void);
/* Ends all processes with this status; returns only in a world of one. */
void world_abort(int status);

int world_rank(void); /* 0 .. size - 1 */
int world_size(void);
int world_neighbours(void); /* processes on this host, this one included */
int world_place(void);      /* of this one among them, from 0 */
const char *world_host(int rank);

/* say: called with a sentence, by another thread, once a wait has lasted a while, then every
 * minute; on rank 0, or where rank 0 is awaited, on rank 1. deadline: in seconds, 0: none
 */
void world_patience(double deadline, void (*say)(const char *text, void *user), void *user);

/* `bytes` of data, from rank `from` to all */
int world_broadcast(void *data, size_t bytes, int from, struct err *e);
/* The same from rank `from` to rank 0 alone; the others go on at once. */
int world_bring(void *data, size_t bytes, int from, struct err *e);
/* values[n] become their sums over all ranks. */
int world_sum(double *values, int64_t n, struct err *e);
struct world_bytes {
    void *data;
    size_t n;
};
/* What every rank gives, its own n and all; on rank 0 all[size], in the order of ranks
 * (world_free), elsewhere NULL. */
int world_gather(const void *data, size_t n, struct world_bytes **all, struct err *e);
void world_free(struct world_bytes *all);
/* Returns when every rank has called it. */
int world_barrier(struct err *e);
/* An error of any rank becomes that of all, e being that of each: 0 if none has one. */
int world_agree(struct err *e);

/* The part of n values that a rank owns: from `first` on, perhaps none. Sizes are multiples of
 * WORLD_ALIGN values, but for the last. */
enum { WORLD_ALIGN = 64 };
struct world_piece {
    int64_t first, n;
};
struct world_piece world_piece(int64_t n, int rank);
/* Queued: this rank's piece of values[n] becomes the sum over all ranks; the other pieces stay as
 * they are. */
void world_reduce(float *values, int64_t n);
/* Queued: every rank gets each other's piece of values[n], of `size` bytes each. */
void world_spread(void *values, int64_t n, size_t size);
/* Until all that is queued is done. */
int world_wait(struct err *e);
/* memory that world_reduce takes for so many values */
int64_t world_reduce_bytes(int64_t n);

#ifdef __cplusplus
}
#endif
#endif
