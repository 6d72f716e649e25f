/* rmsnorm and layernorm on CUDA, which differ by the mean only: see kernels/cpu/rmsnorm.c and
 * layernorm.c for formulas and shapes.
 *
 * A piece is the n channels of one row and group. LANES threads share a piece: a warp up to
 * WARP_MOST channels (a block takes several pieces), else the block. Backward walks over x and dy
 * once: a block takes every gridDim.x-th piece, adds dx, and keeps its sums of the weight gradients
 * in shared memory (in their place in global memory where they are too many), where each thread has
 * its own columns; a second kernel adds up the blocks in their order. With f32 activations sums are
 * f64. */
#ifndef PARE_CUDA_NORM_H
#define PARE_CUDA_NORM_H

#include "weights.h"

namespace norms
{

/* SUMS_MOST: bytes of a block's sums in shared memory */
enum { THREADS = 128, WARP_MOST = 1024, PARTS_MOST = 1024, SUMS_MOST = 90 << 10 };

/* w_step, b_step: n if every group has its own, else 0. w, b NULL: 1, 0. */
struct shape {
    int64_t pieces, groups, n, w_step, b_step;
    float plus1, eps;
    const float *w, *b;
    int set_dx;
};

template <int LANES, class V> static __device__ __forceinline__ V lanes_sum(V v)
{
    if constexpr (LANES == WARP)
        return warp_sum(v);
    else
        return block_sum(v);
}

/* w + plus1 at N columns of a piece */
template <int N>
static __device__ __forceinline__ void weights(const shape &s, const float *w, int64_t i,
                                               float (&f)[N])
{
#pragma unroll
    for (int k = 0; k < N; k++)
        f[k] = 1;
    if (!w)
        return;
    load(w + i, f);
#pragma unroll
    for (int k = 0; k < N; k++)
        f[k] += s.plus1;
}

template <class T, int N, int LANES, bool CENTRED>
static __global__ void __launch_bounds__(THREADS) forward(shape s, const T *x, T *y, float *memo)
{
    typedef long_sum<T> sum_t;
    int64_t p = (int64_t)blockIdx.x * (THREADS / LANES) + threadIdx.x / LANES,
            first = (int64_t)(threadIdx.x % LANES) * N;
    if (p >= s.pieces)
        return;
    int64_t g = entry_of(p, s.groups).column;
    sum_t mean = 0, square = 0;
    float v[N], f[N], shift[N] = {};
    x += p * s.n;
    y += p * s.n;
    if constexpr (CENTRED) {
        for (int64_t i = first; i < s.n; i += LANES * N) {
            load(x + i, v);
#pragma unroll
            for (int k = 0; k < N; k++)
                mean += (sum_t)v[k];
        }
        mean = lanes_sum<LANES>(mean) / (sum_t)s.n;
    }
    for (int64_t i = first; i < s.n; i += LANES * N) {
        load(x + i, v);
#pragma unroll
        for (int k = 0; k < N; k++)
            square += ((sum_t)v[k] - mean) * ((sum_t)v[k] - mean);
    }
    square = lanes_sum<LANES>(square) / (sum_t)s.n + (sum_t)s.eps;
    float m = (float)mean, r = (float)(1 / sqrt(square));
    if (first == 0) {
        if (CENTRED) {
            memo[2 * p] = m;
            memo[2 * p + 1] = r;
        } else {
            memo[p] = r;
        }
    }
    for (int64_t i = first; i < s.n; i += LANES * N) {
        load(x + i, v);
        weights(s, s.w ? s.w + g * s.w_step : NULL, i, f);
        if (CENTRED && s.b)
            load(s.b + g * s.b_step + i, shift);
#pragma unroll
        for (int k = 0; k < N; k++)
            v[k] = (v[k] - m) * r * f[k] + shift[k];
        store(y + i, v);
    }
}

/* The block's dw and db, [n] each or nothing: the k-th column of vector i at i * vector + k * step.
 * In shared memory the vectors' first columns lie side by side, then their second ones:
 * neighbouring threads in neighbouring banks. */
template <class V> struct sums {
    V *dw, *db;
    int64_t vector, step;
};

/* One piece: dx where wanted, and the thread's columns of the sums. */
template <class T, int N, int LANES, bool CENTRED>
static __device__ __forceinline__ void backward_piece(const shape &s, const float *w, const T *x,
                                                      const T *dy, T *dx, const float *memo,
                                                      int64_t first, sums<long_sum<T>> to)
{
    typedef long_sum<T> sum_t;
    float m = CENTRED ? memo[0] : 0, r = memo[CENTRED], v[N], d[N], f[N], sum[N] = {};
    sum_t u = 0, uh = 0;
    for (int64_t i = first; dx && i < s.n; i += LANES * N) {
        load(x + i, v);
        load(dy + i, d);
        weights(s, w, i, f);
#pragma unroll
        for (int k = 0; k < N; k++) {
            u += (sum_t)(d[k] * f[k]);
            uh += (sum_t)(d[k] * f[k]) * (sum_t)(v[k] - m);
        }
    }
    float shift = CENTRED && dx ? (float)(lanes_sum<LANES>(u) / (sum_t)s.n) : 0,
          back = dx ? (float)(lanes_sum<LANES>(uh) * r * r / (sum_t)s.n) : 0;
    for (int64_t i = first; i < s.n; i += LANES * N) {
        int64_t at = i / N * to.vector;
        load(x + i, v);
        load(dy + i, d);
        if (dx && !s.set_dx)
            load(dx + i, sum);
        if (to.dw)
#pragma unroll
            for (int k = 0; k < N; k++)
                to.dw[at + k * to.step] += (sum_t)(d[k] * ((v[k] - m) * r));
        if (CENTRED && to.db)
#pragma unroll
            for (int k = 0; k < N; k++)
                to.db[at + k * to.step] += (sum_t)d[k];
        if (!dx)
            continue;
        weights(s, w, i, f);
#pragma unroll
        for (int k = 0; k < N; k++)
            d[k] = (s.set_dx ? 0 : sum[k]) + r * (d[k] * f[k] - shift - (v[k] - m) * back);
        store(dx + i, d);
    }
}

/* Block (i, group) takes pieces of its group, or of all groups where they share everything; its
 * sums go to parts[i][group]. */
template <class T, int N, int LANES, bool CENTRED>
static __global__ void __launch_bounds__(THREADS)
    backward(shape s, const T *x, const T *dy, T *dx, const float *memo, long_sum<T> *dw_parts,
             long_sum<T> *db_parts, bool in_place)
{
    typedef long_sum<T> sum_t;
    enum { TEAMS = THREADS / LANES };
    SHARED_DYNAMIC(sum_t, all);
    int64_t team = threadIdx.x / LANES, first = (int64_t)(threadIdx.x % LANES) * N,
            stride = gridDim.y, out = (blockIdx.x * stride + blockIdx.y) * s.n;
    int64_t both = (dw_parts != NULL) + (db_parts != NULL), each = s.n / N;
    sums<sum_t> place = {NULL, NULL, N, 1}, to = {NULL, NULL, 1, each};
    if (dw_parts) {
        place.dw = dw_parts + out;
        to.dw = all + team * both * s.n;
    }
    if (db_parts) {
        place.db = db_parts + out;
        to.db = all + (team * both + (dw_parts != NULL)) * s.n;
    }
    if (in_place)
        to = place;
    for (int64_t i = threadIdx.x % LANES; i < s.n; i += LANES) {
        if (to.dw)
            to.dw[i] = 0;
        if (to.db)
            to.db[i] = 0;
    }
    __syncthreads();
    for (int64_t k = (int64_t)blockIdx.x * TEAMS + team; k < s.pieces / stride;
         k += (int64_t)gridDim.x * TEAMS) {
        int64_t p = k * stride + blockIdx.y;
        const float *w = s.w ? s.w + entry_of(p, s.groups).column * s.w_step : NULL;
        backward_piece<T, N, LANES, CENTRED>(s, w, x + p * s.n, dy + p * s.n,
                                             dx ? dx + p * s.n : NULL, memo + p * (CENTRED + 1),
                                             first, to);
    }
    __syncthreads();
    for (int64_t i = threadIdx.x; i < s.n && !in_place; i += THREADS)
        for (int which = 0; which < both; which++) {
            sum_t sum = 0;
            for (int64_t j = 0; j < TEAMS; j++)
                sum += all[(j * both + which) * s.n + i / N + i % N * each];
            (which == 0 && dw_parts ? place.dw : place.db)[i] = sum;
        }
}

/* ---- host */

static inline shape shape_of(const struct op_args *c)
{
    const struct norm_params *p = &c->p.norm;
    int64_t n = c->in[0].cols / p->groups;
    return {c->rows * p->groups,      p->groups,         n,      c->w[0].rows > n ? n : 0,
            c->w[1].rows > n ? n : 0, p->plus1,          p->eps, (const float *)c->w[0].v,
            (const float *)c->w[1].v, c->in[0].overwrite};
}

/* Blocks that sum up backward, [parts, groups]; 1 group where all share weight and bias. */
struct parts {
    int64_t count, groups;
};

static inline parts parts_of(const struct op_args *c)
{
    int64_t n = c->in[0].cols / c->p.norm.groups,
            groups = c->w[0].rows > n || c->w[1].rows > n ? c->p.norm.groups : 1;
    int64_t pieces = c->rows * c->p.norm.groups / groups,
            blocks = n <= WARP_MOST ? (pieces + THREADS / WARP - 1) / (THREADS / WARP) : pieces;
    return {min(blocks, (int64_t)PARTS_MOST), groups};
}

/* Sums of the gradients of weight and bias, of every block. */
static inline size_t scratch(const struct op_args *c)
{
    parts k = parts_of(c);
    int64_t sums = k.count * k.groups * (c->in[0].cols / c->p.norm.groups);
    return 2 * (size_t)sums * (c->in[0].dtype == DT_BF16 ? sizeof(float) : sizeof(double));
}

/* g (set, or added to) gets the sums of the parts; where all groups share it every group of a part
 * counts. */
template <class V>
static void launch_sum(const struct op_args *c, const V *from, parts k, int64_t n, int64_t step,
                       float *g, int set)
{
    int64_t wide = step ? k.groups * n : n;
    int64_t count = step ? k.count : k.count * k.groups;
    add_row_sums(c, from, count, wide, wide, g, set);
}

template <class T, int N, int LANES, bool CENTRED>
static void launch_forward(const struct op_args *c)
{
    shape s = shape_of(c);
    LAUNCH(c, (forward<T, N, LANES, CENTRED>), blocks_of(s.pieces, THREADS / LANES), THREADS, 0, s,
           (const T *)c->in[0].v, (T *)c->out.v, c->memo);
}

template <class T, int N, int LANES, bool CENTRED>
static void launch_backward(const struct op_args *c)
{
    typedef long_sum<T> sum_t;
    shape s = shape_of(c);
    parts k = parts_of(c);
    int64_t all = k.count * k.groups * s.n;
    float *dw = s.w ? c->w[0].g : NULL;
    float *db = s.b ? c->w[1].g : NULL;
    sum_t *dws = dw ? (sum_t *)c->scratch : NULL;
    sum_t *dbs = db ? (sum_t *)c->scratch + all : NULL;
    size_t shared = (size_t)((dw != NULL) + (db != NULL)) * (size_t)(THREADS / LANES * s.n) *
                    sizeof(sum_t);
    bool in_place = LANES == THREADS && shared > SUMS_MOST;
    LAUNCH(c, (backward<T, N, LANES, CENTRED>), dim3((unsigned)k.count, (unsigned)k.groups),
           THREADS, in_place ? 0 : shared, s, (const T *)c->in[0].v, (const T *)(void *)c->out.g,
           (T *)(void *)c->in[0].g, c->memo, dws, dbs, in_place);
    if (dw)
        launch_sum(c, dws, k, s.n, s.w_step, dw, c->w[0].overwrite);
    if (db)
        launch_sum(c, dbs, k, s.n, s.b_step, db, 0);
}

/* 16 bytes at a time if every pointer and row allows it. */
static inline int is_aligned(const struct op_args *c, int64_t vector)
{
    return c->in[0].cols / c->p.norm.groups % vector == 0 && aligned16(c->in[0].v) &&
           aligned16(c->in[0].g) && aligned16(c->out.v) && aligned16(c->out.g) &&
           aligned16(c->w[0].v) && aligned16(c->w[1].v);
}

#define NORM_RUN(launch) \
    do { \
        int short_ = c->in[0].cols / c->p.norm.groups <= norms::WARP_MOST; \
        if (norms::is_aligned(c, VECTOR<T>) && short_) \
            norms::launch<T, VECTOR<T>, WARP, CENTRED>(c); \
        else if (norms::is_aligned(c, VECTOR<T>)) \
            norms::launch<T, VECTOR<T>, norms::THREADS, CENTRED>(c); \
        else if (short_) \
            norms::launch<T, 1, WARP, CENTRED>(c); \
        else \
            norms::launch<T, 1, norms::THREADS, CENTRED>(c); \
    } while (0)

template <bool CENTRED> static void run_forward(const struct op_args *c)
{
    if (c->rows > 0)
        BY_DTYPE(c->in[0].dtype, T, NORM_RUN(launch_forward));
}

template <bool CENTRED> static void run_backward(const struct op_args *c)
{
    if (c->rows > 0)
        BY_DTYPE(c->in[0].dtype, T, NORM_RUN(launch_backward));
}

} // namespace norms
#endif
