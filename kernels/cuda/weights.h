/* Shared by kernels with weights: frozen half-precision weights widened for f32 activations, a
 * panel of rows at a time, and sums over rows for the gradients of vectors. */
#ifndef PARE_CUDA_WEIGHTS_H
#define PARE_CUDA_WEIGHTS_H

#include "cuda.h"

enum { WALKERS = 16 };

template <class W> struct widen_values {
    const W *from;
    float *to;
    template <int N> __device__ void at(int64_t i) const
    {
        float v[N];
        load(from + i, v);
        store(to + i, v);
    }
};

/* Rows first..first+n-1 of a matrix of weights in the type of the activations: in place, or widened
 * to `wide`, which is aligned to 16. */
static inline const void *weight_panel(const struct op_args *c, const struct operand *w,
                                       enum dtype activations, float *wide, int64_t first,
                                       int64_t n)
{
    const char *from = (const char *)w->v + first * w->cols * (w->dtype == DT_F32 ? 4 : 2);
    if (w->dtype == activations)
        return from;
    if (w->dtype == DT_BF16)
        map<float>(c, n * w->cols, aligned16(from),
                   widen_values<bf16>{(const bf16 *)(const void *)from, wide});
    else
        map<float>(c, n * w->cols, aligned16(from),
                   widen_values<__half>{(const __half *)(const void *)from, wide});
    return wide;
}

/* Weights of another type than the activations are widened, which bf16 activations do not allow. */
static inline int weights_refused(const struct op_args *c, const char *op, const struct operand *w,
                                  enum dtype activations)
{
    if (w->v && w->dtype != activations && activations != DT_F32)
        return err_set(&c->x->err,
                       "%s: no CUDA kernel for weights of type %s and activations of type %s", op,
                       dtype_name(w->dtype), dtype_name(activations));
    return 0;
}

/* Sums over rows of x [rows, n] with row stride ld, in an order that the number of rows and of
 * pieces (the grid's y) decides: g[i] = (set) or += the whole sum, by one piece; or, with `parts`
 * [pieces, n], one sum a piece, of interleaved rows. */
template <class V>
static __global__ void __launch_bounds__(WARP *WALKERS)
    sum_rows(const V *x, int64_t rows, int64_t n, int64_t ld, double *parts, float *g, int set)
{
    SHARED(double, part, [WALKERS][WARP]);
    int64_t i = (int64_t)blockIdx.x * WARP + threadIdx.x;
    double s = 0;
#pragma unroll 4
    for (int64_t t = (int64_t)blockIdx.y * WALKERS + threadIdx.y; t < rows && i < n;
         t += (int64_t)gridDim.y * WALKERS)
        s += (double)widen(x[t * ld + i]);
    part[threadIdx.y][threadIdx.x] = s;
    __syncthreads();
    if (threadIdx.y || i >= n)
        return;
    for (int k = 1; k < WALKERS; k++)
        s += part[k][threadIdx.x];
    if (parts)
        parts[blockIdx.y * n + i] = s;
    else
        g[i] = (set ? 0 : g[i]) + (float)s;
}

template <class V>
static inline void add_row_sums(const struct op_args *c, const V *x, int64_t rows, int64_t n,
                                int64_t ld, float *g, int set = 0)
{
    LAUNCH(c, sum_rows<V>, blocks_of(n, WARP), dim3(WARP, WALKERS), 0, x, rows, n, ld,
           (double *)NULL, g, set);
}

/* The same for few columns of many rows, so that more than a few processors have work: sums of
 * pieces first, in `parts` [row_parts(rows), n]. */
enum { PART_ROWS = 512, ROW_PARTS_MOST = 128 };

static inline int64_t row_parts(int64_t rows)
{
    return min((rows + PART_ROWS - 1) / PART_ROWS, (int64_t)ROW_PARTS_MOST);
}

template <class V>
static inline void add_many_row_sums(const struct op_args *c, const V *x, int64_t rows, int64_t n,
                                     double *parts, float *g)
{
    int64_t pieces = row_parts(rows);
    LAUNCH(c, sum_rows<V>, dim3(blocks_of(n, WARP), (unsigned)pieces), dim3(WARP, WALKERS), 0, x,
           rows, n, n, parts, (float *)NULL, 0);
    add_row_sums(c, parts, pieces, n, n, g);
}

#endif
