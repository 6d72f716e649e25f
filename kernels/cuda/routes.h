/* Shared by the ops of mixtures of experts on CUDA: which rows belong to which expert, and products
 * of an expert's rows with its matrix. Row t * top + j is the j-th expert of token t, experts in
 * ascending order. How many rows an expert has is known on the device only: grids are for as many
 * as there can be, and blocks without work return at once. */
#ifndef PARE_CUDA_ROUTES_H
#define PARE_CUDA_ROUTES_H

#include "cuda.h"

enum { TILE = 32, TILE_ROWS = 8, TILE_EACH = TILE / TILE_ROWS };

/* In scratch: taken [T, X], 1 for the experts of a token; row [X, T], the rows of each expert,
 * ascending; count [X]; then `products`, f32. */
struct routes {
    int64_t T, X, top, E, N;
    int32_t *taken, *row, *count;
    float *products;
};

static inline size_t routes_list_bytes(int64_t T, int64_t X)
{
    return arena_round((size_t)(2 * T * X + X) * sizeof(int32_t));
}

/* With a product of n values for each row. */
static inline size_t routes_scratch(const struct op_args *c, int64_t n)
{
    return routes_list_bytes(c->rows, c->in[1].cols) +
           arena_round((size_t)(c->rows * c->p.route.top * n) * sizeof(float));
}

/* NaNs first, so that the order is total. */
static __device__ __forceinline__ float place_of(float weight)
{
    return isnan(weight) ? INFINITY : weight;
}

/* Is expert e among the `top` of X weights? Of equal ones, the lower are. */
template <class T>
static __device__ __forceinline__ int is_taken(const T *weight, int64_t X, int64_t top, int64_t e)
{
    int64_t before = 0;
    float mine = place_of(widen(weight[e]));
    for (int64_t i = 0; i < X; i++) {
        float other = place_of(widen(weight[i]));
        before += other > mine || (other == mine && i < e);
    }
    return before < top;
}

template <class T> struct mark_taken {
    const T *weights;
    int32_t *taken;
    int64_t X, top;
    template <int N> __device__ void at(int64_t i) const
    {
        entry at = entry_of(i, X);
        taken[i] = is_taken(weights + at.row * X, X, top, at.column);
    }
};

/* One warp an expert. */
static __global__ void __launch_bounds__(WARP) collect_rows(routes r)
{
    int64_t e = blockIdx.x, n = 0;
    for (int64_t first = 0; first < r.T; first += WARP) {
        int64_t t = first + threadIdx.x, j = 0;
        bool mine = t < r.T && r.taken[t * r.X + e];
        unsigned all = __ballot_sync(ALL_LANES, mine);
        for (int64_t i = 0; i < e && mine; i++)
            j += r.taken[t * r.X + i];
        if (mine)
            r.row[e * r.T + n + __popc(all & ((1u << threadIdx.x) - 1))] = (int32_t)(t * r.top + j);
        n += __popc(all);
    }
    if (threadIdx.x == 0)
        r.count[e] = (int32_t)n;
}

static inline routes routes_of(const struct op_args *c)
{
    routes r = {c->rows, c->in[1].cols, c->p.route.top, c->w[0].cols};
    r.N = c->w[0].rows / r.X;
    r.taken = (int32_t *)c->scratch;
    r.row = r.taken + r.T * r.X;
    r.count = r.row + r.T * r.X;
    r.products = (float *)((char *)c->scratch + routes_list_bytes(r.T, r.X));
    BY_DTYPE(
        c->in[1].dtype, T,
        map<float>(c, r.T * r.X, 0, mark_taken<T>{(const T *)c->in[1].v, r.taken, r.X, r.top}));
    if (r.T)
        LAUNCH(c, collect_rows, (unsigned)r.X, WARP, 0, r);
    return r;
}

/* The expert of a row. */
static __device__ __forceinline__ int64_t expert_of(const routes &r, int64_t row)
{
    const int32_t *taken = r.taken + row / r.top * r.X;
    int64_t e = 0;
    for (int64_t j = row % r.top; j > 0 || !taken[e]; e++)
        j -= taken[e];
    return e;
}

/* ---- products: out[row][n] = sum over k of a[row][k] B(k, n), times the row's weight */

/* Of an expert's matrix w[N, E]: its rows are the columns of B, or the rows of B. */
template <class T, class W, class O> struct row_product {
    const T *a; /* of the rows; by_token: of their tokens */
    const W *w;
    O *out;
    const T *weights;                        /* [T, X], or NULL */
    int64_t K, columns, from_k, from_column; /* strides in w */
    int by_token;
};

template <class T, class W, class O>
static __global__ void __launch_bounds__(TILE *TILE_ROWS)
    product_rows(routes r, row_product<T, W, O> p)
{
    SHARED(float, left, [TILE][TILE + 1]);
    SHARED(float, right, [TILE][TILE + 1]);
    int64_t e = blockIdx.y, across = (p.columns + TILE - 1) / TILE, rows = r.count[e],
            first = (int64_t)blockIdx.x / across * TILE,
            column = (int64_t)blockIdx.x % across * TILE + threadIdx.x;
    const W *w = p.w + e * r.N * r.E;
    const int32_t *row = r.row + e * r.T;
    float sum[TILE_EACH] = {};
    if (first >= rows)
        return;
    for (int64_t k = 0; k < p.K; k += TILE) {
        __syncthreads();
        for (int i = (int)threadIdx.y; i < TILE; i += TILE_ROWS) {
            int64_t at = first + i < rows ? row[first + i] : 0, deep = k + threadIdx.x;
            at = p.by_token ? at / r.top : at;
            left[i][threadIdx.x] = first + i < rows && deep < p.K ? widen(p.a[at * p.K + deep]) : 0;
            right[i][threadIdx.x] = k + i < p.K && column < p.columns
                                        ? widen(w[(k + i) * p.from_k + column * p.from_column])
                                        : 0;
        }
        __syncthreads();
        for (int l = 0; l < TILE; l++)
#pragma unroll
            for (int i = 0; i < TILE_EACH; i++)
                sum[i] += left[threadIdx.y + i * TILE_ROWS][l] * right[l][threadIdx.x];
    }
    for (int i = 0; i < TILE_EACH; i++) {
        int64_t place = first + threadIdx.y + i * TILE_ROWS;
        if (place >= rows || column >= p.columns)
            continue;
        int64_t at = row[place];
        float share = p.weights ? widen(p.weights[at / r.top * r.X + e]) : 1;
        p.out[at * p.columns + column] = narrow<O>(share * sum[i]);
    }
}

template <class T, class W, class O>
static void run_product(const struct op_args *c, const routes &r, row_product<T, W, O> p)
{
    unsigned tiles = blocks_of(r.T, TILE) * blocks_of(p.columns, TILE);
    if (tiles)
        LAUNCH(c, (product_rows<T, W, O>), dim3(tiles, (unsigned)r.X), dim3(TILE, TILE_ROWS), 0, r,
               p);
}

/* out = a W^T: from E values to N. */
template <class T, class O>
static void narrow_rows(const struct op_args *c, const routes &r, const T *a, int by_token, O *out)
{
    if (c->w[0].dtype == DT_F32)
        run_product(c, r,
                    row_product<T, float, O>{a, (const float *)c->w[0].v, out, NULL, r.E, r.N, 1,
                                             r.E, by_token});
    else if (c->w[0].dtype == DT_BF16)
        run_product(c, r,
                    row_product<T, bf16, O>{a, (const bf16 *)c->w[0].v, out, NULL, r.E, r.N, 1, r.E,
                                            by_token});
    else
        run_product(c, r,
                    row_product<T, __half, O>{a, (const __half *)c->w[0].v, out, NULL, r.E, r.N, 1,
                                              r.E, by_token});
}

/* r.products = weight a W: from N values to E. */
template <class T>
static void widen_rows(const struct op_args *c, const routes &r, const T *a, const T *weights)
{
    if (c->w[0].dtype == DT_F32)
        run_product(c, r,
                    row_product<T, float, float>{a, (const float *)c->w[0].v, r.products, weights,
                                                 r.N, r.E, r.E, 1, 0});
    else if (c->w[0].dtype == DT_BF16)
        run_product(c, r,
                    row_product<T, bf16, float>{a, (const bf16 *)c->w[0].v, r.products, weights,
                                                r.N, r.E, r.E, 1, 0});
    else
        run_product(c, r,
                    row_product<T, __half, float>{a, (const __half *)c->w[0].v, r.products, weights,
                                                  r.N, r.E, r.E, 1, 0});
}

/* y[t] = (set) or += the products of the token's rows. */
template <class T> struct sum_products {
    const float *products;
    T *y;
    int64_t top, E;
    int set;
    template <int N> __device__ void at(int64_t i) const
    {
        entry at = entry_of(i, E);
        float sum = set ? 0 : widen(y[i]);
        for (int64_t j = 0; j < top; j++)
            sum += products[(at.row * top + j) * E + at.column];
        y[i] = narrow<T>(sum);
    }
};

template <class T> static void add_products(const struct op_args *c, const routes &r, T *y, int set)
{
    map<float>(c, r.T * r.E, 0, sum_products<T>{r.products, y, r.top, r.E, set});
}

/* ---- the gradient of the matrices: dW[n][k] (+)= sum over rows of a[row][n] b[token][k], times
 * the row's weight */
template <class T>
static __global__ void __launch_bounds__(TILE *TILE_ROWS)
    product_weights(routes r, const T *a, const T *b, const T *weights, float *dw, int set)
{
    SHARED(float, left, [TILE][TILE + 1]);
    SHARED(float, right, [TILE][TILE + 1]);
    int64_t e = blockIdx.y, across = (r.E + TILE - 1) / TILE, rows = r.count[e],
            first = (int64_t)blockIdx.x / across * TILE,
            column0 = (int64_t)blockIdx.x % across * TILE, column = column0 + threadIdx.x;
    const int32_t *row = r.row + e * r.T;
    float sum[TILE_EACH] = {};
    for (int64_t k = 0; k < rows; k += TILE) {
        __syncthreads();
        for (int i = (int)threadIdx.y; i < TILE; i += TILE_ROWS) {
            bool there = k + i < rows;
            int64_t at = there ? row[k + i] : 0, t = at / r.top, n = first + threadIdx.x;
            float share = there && weights ? widen(weights[t * r.X + e]) : 1;
            left[i][threadIdx.x] = there && n < r.N ? share * widen(a[at * r.N + n]) : 0;
            right[i][threadIdx.x] = there && column < r.E ? widen(b[t * r.E + column]) : 0;
        }
        __syncthreads();
        for (int l = 0; l < TILE; l++)
#pragma unroll
            for (int i = 0; i < TILE_EACH; i++)
                sum[i] += left[l][threadIdx.y + i * TILE_ROWS] * right[l][threadIdx.x];
    }
    for (int i = 0; i < TILE_EACH; i++) {
        int64_t n = first + threadIdx.y + i * TILE_ROWS, at = (e * r.N + n) * r.E + column;
        if (n < r.N && column < r.E)
            dw[at] = (set ? 0 : dw[at]) + sum[i];
    }
}

template <class T>
static void add_weight_gradient(const struct op_args *c, const routes &r, const T *a, const T *b,
                                const T *weights)
{
    unsigned tiles = blocks_of(r.N, TILE) * blocks_of(r.E, TILE);
    if (c->w[0].g && tiles)
        LAUNCH(c, product_weights<T>, dim3(tiles, (unsigned)r.X), dim3(TILE, TILE_ROWS), 0, r, a, b,
               weights, c->w[0].g, c->w[0].overwrite);
}

#endif
