/* The order of sequences: see order.h. */
#include "order.h"

#include "../base/rng.h"

/* enough for the smallest networks too, of one bit against one or two */
enum { ROUNDS = 16 };

/* Number x * ROUNDS + round of the generator's numbers: a random function for each round. */
static uint64_t round_value(struct rng key, uint64_t x, uint64_t round)
{
    key.counter = x * ROUNDS + round;
    return rng_u64(&key);
}

/* The two parts of the number take turns in being changed by a function of the other, which the
 * same function would undo; they differ in width by at most a bit. */
static uint64_t feistel(struct rng key, int bits, uint64_t x)
{
    int low_bits = bits / 2;
    uint64_t low_mask = (UINT64_C(1) << low_bits) - 1,
             high_mask = (UINT64_C(1) << (bits - low_bits)) - 1;
    uint64_t low = x & low_mask, high = x >> low_bits;
    for (uint64_t round = 0; round < ROUNDS; round += 2) {
        low ^= round_value(key, high, round) & low_mask;
        high ^= round_value(key, low, round + 1) & high_mask;
    }
    return high << low_bits | low;
}

int64_t permutation_at(uint64_t seed, uint64_t stream, int64_t n, int64_t i)
{
    struct rng key = rng_open(seed, stream);
    uint64_t x = (uint64_t)i;
    int bits = 2;
    while (n > INT64_C(1) << bits && bits < 62)
        bits++;
    do
        x = feistel(key, bits, x);
    while (x >= (uint64_t)n);
    return (int64_t)x;
}

int64_t data_order_next(struct data_order *o)
{
    int64_t epoch = o->position / o->n, at = o->position % o->n;
    o->position++;
    if (!o->shuffled)
        return at;
    /* the low streams of a seed draw initial weights */
    uint64_t stream = ((o->source + 1) << 32) + (uint64_t)epoch;
    return permutation_at(o->seed, stream, o->n, at);
}
