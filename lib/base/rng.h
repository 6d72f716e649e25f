/* Random numbers that are the same everywhere: splitmix64 over a counter, so a generator is two
 * integers and its state can be saved. */
#ifndef PARE_RNG_H
#define PARE_RNG_H

#include <math.h>
#include <stdint.h>

struct rng {
    uint64_t key, counter;
};

static inline uint64_t rng_mix(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* Independent streams of one seed for different purposes. */
static inline struct rng rng_open(uint64_t seed, uint64_t stream)
{
    return (struct rng){rng_mix(seed + 0x9e3779b97f4a7c15u) ^ rng_mix(~stream), 0};
}

static inline uint64_t rng_u64(struct rng *r)
{
    return rng_mix(r->key + ++r->counter * 0x9e3779b97f4a7c15u);
}
/* [0, 1) */
static inline double rng_uniform(struct rng *r) { return (double)(rng_u64(r) >> 11) * 0x1p-53; }

/* Uniform in 0..n-1, n > 0, without bias. */
static inline uint64_t rng_below(struct rng *r, uint64_t n)
{
    uint64_t limit = UINT64_MAX - UINT64_MAX % n, x;
    do
        x = rng_u64(r);
    while (x >= limit);
    return x % n;
}

/* Box-Muller, one value a call so that the state stays simple */
static inline double rng_normal(struct rng *r)
{
    double u = 1 - rng_uniform(r), v = rng_uniform(r);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

#endif
