/* Shared by the ops of mixtures of experts: which rows belong to which expert, and a matrix product
 * of one expert's rows, which is that of op linear. Row t * top + j is the j-th expert of token t,
 * experts in ascending order. */
#ifndef PARE_CPU_ROUTES_H
#define PARE_CPU_ROUTES_H

#include "../../lib/base/mem.h"
#include "../backend.h"

#include <omp.h>

/* chosen[top]: the indices of the `top` largest of X weights, ascending; of equal weights, the
 * lower indices. */
void routes_choose(const float *weight, int64_t X, int64_t top, int32_t *chosen);

/* Scratch of a thread for one row: X doubles and `top` indices. */
static inline size_t routes_row_bytes(int64_t X, int64_t top)
{
    return arena_round((size_t)X * sizeof(double) + (size_t)top * sizeof(int32_t));
}
static inline double *routes_row(void *scratch, int64_t X, int64_t top)
{
    size_t at = (size_t)omp_get_thread_num() * routes_row_bytes(X, top);
    return (double *)((char *)scratch + at);
}

/* The rows of a call of experts or mixture, by expert: those of expert e are row[first[e]] ..
 * row[first[e + 1] - 1], ascending. Two blocks of rows [T, E] and [T, N] for the products of one
 * expert, which all tokens may have. */
struct routes {
    int64_t X, top, E, N;
    int32_t *first, *row;
    float *wide, *narrow;  /* [T, E], [T, N] */
    struct op_args linear; /* with w[0] of expert 0 */
};

/* wides: blocks [T, E] that `wide` holds */
size_t routes_scratch(const struct op_args *c, int wides);
struct routes routes_of(const struct op_args *c, int wides);

static inline int64_t routes_token(const struct routes *r, int64_t k) { return r->row[k] / r->top; }

/* Rows of expert e: how many, and copies of them, each of n values, from the tokens' or the
 * experts' rows at `from`. */
static inline int64_t routes_count(const struct routes *r, int64_t e)
{
    return r->first[e + 1] - r->first[e];
}
void routes_gather(const struct routes *r, int64_t e, const float *from, int64_t n, int by_token,
                   float *to);

/* wide = the rows of expert e of h [T, top*N] times its matrix: what the expert gives. */
void routes_output(const struct routes *r, const struct op_args *c, int64_t e, const float *h);

/* The linear call of expert e: in[0] [count, E], w[0] its rows with their gradients, out [count,
 * N]. */
struct op_args routes_linear(const struct routes *r, const struct op_args *c, int64_t e);

#endif
