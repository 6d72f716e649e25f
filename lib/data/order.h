/* The order in which training sees sequences: in epochs, as they are or shuffled, without a table.
 */
#ifndef PARE_ORDER_H
#define PARE_ORDER_H

#include <stdint.h>

/* A permutation of 0..n-1 that a seed and the number of a stream determine, computed entry by
 * entry: a Feistel network over the smallest power of two >= n (and >= 4) whose outputs from n on
 * are put in again (cycle walking: Black and Rogaway, Ciphers with Arbitrary Finite Domains,
 * 2002, 2.3 and 3). n > 0, 0 <= i < n. */
int64_t permutation_at(uint64_t seed, uint64_t stream, int64_t n, int64_t i);

/* Sequences 0..n-1 of a source in epochs. Sequential: in order; shuffled: a new permutation for
 * each epoch, determined by seed, source and epoch. The whole state is `position`, the number of
 * sequences taken so far. */
struct data_order {
    int64_t n, position; /* n > 0 */
    int shuffled;
    uint64_t seed, source; /* source: its number, from 0 */
};
int64_t data_order_next(struct data_order *o);

#endif
