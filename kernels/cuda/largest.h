/* The largest entries of a row of logits, one after the other, found by a block: pick, divergence.
 */
#ifndef PARE_CUDA_LARGEST_H
#define PARE_CUDA_LARGEST_H

#include "cuda.h"

/* Entry a comes before the entry with logit z and id b: it is larger, or as large with a lower id.
 */
static __device__ __forceinline__ bool is_before(float z_a, int64_t a, float z, int64_t b)
{
    return z_a > z || (z_a == z && a < b);
}

/* The first of V entries after (z, id) in the order; (INFINITY, -1): the first of all. */
template <class T>
static __device__ int64_t next_largest(const T *row, int64_t V, float z, int64_t id)
{
    float best = -INFINITY;
    double first = -INFINITY; /* of the lowest id, negative */
    for (int64_t i = threadIdx.x; i < V; i += blockDim.x) {
        float own = widen(row[i]);
        if (is_before(z, id, own, i) && (own > best || first == -INFINITY)) {
            best = own;
            first = -(double)i;
        }
    }
    float largest = block_max(best);
    double found = -block_max(best == largest ? first : -INFINITY);
    return found < (double)V ? (int64_t)found : 0; /* none: a logit is no number */
}

#endif
