/* embed on CUDA: see kernels/cpu/embed.c. Backward without atomics: the places of the batch are
 * sorted by id (a stable radix sort, DIGIT_BITS a pass), and one block sums each run of equal ids
 * in an order that depends on the batch alone. */
#include "cuda.h"

enum { THREADS = 256, DIGIT_BITS = 9, DIGITS = 1 << DIGIT_BITS, WALKERS = 8, AHEAD = 4 };

template <class W, class T> struct embed_forward {
    const W *w;
    T *y;
    const int32_t *ids;
    int64_t E;
    float scale;
    template <int N> __device__ void at(int64_t i) const
    {
        entry at = entry_of(i, E);
        float v[N];
        load(w + ids[at.row] * E + at.column, v);
#pragma unroll
        for (int k = 0; k < N; k++)
            v[k] *= scale;
        store(y + i, v);
    }
};

template <class W, class T> static void forward(const struct op_args *c)
{
    int64_t E = c->w[0].cols;
    embed_forward<W, T> f = {(const W *)c->w[0].v, (T *)c->out.v, c->batch->ids, E,
                             c->p.scale.scale};
    map<T>(c, c->rows * E, aligned16(f.w) && aligned16(f.y) && E % VECTOR<T> == 0, f);
}

static void embed_fwd(const struct op_args *c)
{
    BY_DTYPE(c->out.dtype, T, {
        if (c->w[0].dtype == DT_F32)
            forward<float, T>(c);
        else if (c->w[0].dtype == DT_BF16)
            forward<bf16, T>(c);
        else
            forward<__half, T>(c);
    });
    launched(c, "embed forward");
}

/* ---- sorting: blocks of THREADS places; counts [DIGITS, blocks], totals [DIGITS] */

/* The digit of the thread's place, and how many places of the block before it have the same; *last:
 * none after it has. */
static __device__ __forceinline__ int digit_rank(const int32_t *ids, const int32_t *order, int rows,
                                                 int shift, int *digit, bool *last)
{
    SHARED(int, tile, [THREADS]);
    int t = (int)(blockIdx.x * THREADS + threadIdx.x), rank = 0;
    *digit = -1;
    if (t < rows)
        *digit = ids[order ? order[t] : t] >> shift & (DIGITS - 1);
    *last = t < rows;
    tile[threadIdx.x] = *digit;
    __syncthreads();
    for (int i = 0; i < THREADS; i++)
        if (tile[i] == *digit) {
            rank += i < (int)threadIdx.x;
            *last = *last && i <= (int)threadIdx.x;
        }
    return rank;
}

static __global__ void __launch_bounds__(THREADS)
    count_digits(const int32_t *ids, const int32_t *order, int rows, int shift, int32_t *counts)
{
    int digit;
    bool last;
    int rank = digit_rank(ids, order, rows, shift, &digit, &last);
    if (last)
        counts[digit * gridDim.x + blockIdx.x] = rank + 1;
}

/* Counts become the numbers of places with the block's digit in the blocks before. */
static __global__ void __launch_bounds__(THREADS)
    add_up_digits(int32_t *counts, int blocks, int32_t *totals)
{
    SHARED(int, sums, [THREADS]);
    int me = (int)threadIdx.x, before = 0;
    counts += (int64_t)blockIdx.x * blocks;
    for (int first = 0; first < blocks; first += THREADS) {
        int mine = first + me < blocks ? counts[first + me] : 0;
        sums[me] = mine;
        __syncthreads();
        for (int step = 1; step < THREADS; step *= 2) {
            int other = me >= step ? sums[me - step] : 0;
            __syncthreads();
            sums[me] += other;
            __syncthreads();
        }
        if (first + me < blocks)
            counts[first + me] = before + sums[me] - mine;
        before += sums[THREADS - 1];
        __syncthreads();
    }
    if (me == 0)
        totals[blockIdx.x] = before;
}

static __global__ void __launch_bounds__(THREADS)
    move_places(const int32_t *ids, const int32_t *order, int rows, int shift,
                const int32_t *counts, const int32_t *totals, int32_t *sorted)
{
    SHARED(int, all, [DIGITS]);
    int t = (int)(blockIdx.x * THREADS + threadIdx.x), digit;
    bool last;
    int to = digit_rank(ids, order, rows, shift, &digit, &last);
    for (int i = (int)threadIdx.x; i < DIGITS; i += THREADS)
        all[i] = totals[i];
    __syncthreads();
    if (t >= rows)
        return;
    to += counts[digit * gridDim.x + blockIdx.x];
    for (int i = 0; i < digit; i++)
        to += all[i];
    sorted[to] = order ? order[t] : t;
}

static int64_t sorting_blocks(const struct op_args *c) { return (c->rows + THREADS - 1) / THREADS; }

static size_t embed_scratch(const struct op_args *c)
{
    return (size_t)(2 * c->rows + DIGITS * (sorting_blocks(c) + 1)) * sizeof(int32_t);
}

/* The places 0 .. rows - 1 by id, places of one id in ascending order; in scratch. */
static const int32_t *sort_places(const struct op_args *c)
{
    int rows = (int)c->rows;
    unsigned blocks = (unsigned)sorting_blocks(c);
    int32_t *sorted[2] = {(int32_t *)c->scratch, (int32_t *)c->scratch + rows},
            *counts = sorted[1] + rows, *totals = counts + DIGITS * sorting_blocks(c);
    const int32_t *ids = c->batch->ids, *order = NULL;
    for (int shift = 0, side = 0; shift == 0 || (c->w[0].rows - 1) >> shift > 0;
         shift += DIGIT_BITS, side ^= 1) {
        exec_zero(c->x, counts, DIGITS * blocks * sizeof *counts);
        LAUNCH(c, count_digits, blocks, THREADS, 0, ids, order, rows, shift, counts);
        LAUNCH(c, add_up_digits, DIGITS, THREADS, 0, counts, (int)blocks, totals);
        LAUNCH(c, move_places, blocks, THREADS, 0, ids, order, rows, shift, counts, totals,
               sorted[side]);
        order = sorted[side];
    }
    return order;
}

/* ---- sums */

/* One block for each place that begins a run, and for each 32 N columns; walker y takes every
 * eighth place of the run. */
template <class T, int N>
static __global__ void __launch_bounds__(WARP *WALKERS)
    backward(const int32_t *ids, const int32_t *order, int rows, const T *dy, float *dw, int64_t E,
             float scale)
{
    SHARED(float, part, [WALKERS][WARP * N]);
    int first = (int)blockIdx.x;
    int64_t column = ((int64_t)blockIdx.y * WARP + threadIdx.x) * N;
    int32_t id = ids[order[first]];
    float sum[N] = {}, v[AHEAD][N];
    if (first > 0 && ids[order[first - 1]] == id)
        return;
    bool more = column < E;
    for (int j = first + (int)threadIdx.y; more; j += WALKERS * AHEAD) {
        bool same[AHEAD];
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            int at = j + k * WALKERS, place = at < rows ? order[at] : 0;
            same[k] = at < rows && ids[place] == id;
            if (same[k])
                load(dy + place * E + column, v[k]);
        }
#pragma unroll
        for (int k = 0; k < AHEAD; k++)
#pragma unroll
            for (int i = 0; i < N; i++)
                sum[i] += same[k] ? v[k][i] : 0;
        more = same[AHEAD - 1];
    }
#pragma unroll
    for (int i = 0; i < N; i++)
        part[threadIdx.y][i * WARP + threadIdx.x] = sum[i];
    __syncthreads();
    if (threadIdx.y || column >= E)
        return;
    float *to = dw + id * E + column, before[N];
    load(to, before);
#pragma unroll
    for (int i = 0; i < N; i++) {
        for (int k = 1; k < WALKERS; k++)
            sum[i] += part[k][i * WARP + threadIdx.x];
        sum[i] = before[i] + scale * sum[i];
    }
    store(to, sum);
}

template <class T, int N> static void launch_backward(const struct op_args *c, const int32_t *order)
{
    LAUNCH(c, (backward<T, N>), dim3((unsigned)c->rows, blocks_of(c->w[0].cols, WARP * N)),
           dim3(WARP, WALKERS), 0, c->batch->ids, order, (int)c->rows, (const T *)(void *)c->out.g,
           c->w[0].g, c->w[0].cols, c->p.scale.scale);
}

static void embed_bwd(const struct op_args *c)
{
    if (!c->w[0].g || c->rows <= 0)
        return;
    const int32_t *order = sort_places(c);
    BY_DTYPE(c->out.dtype, T, {
        if (c->w[0].cols % VECTOR<T> == 0 && aligned16(c->out.g) && aligned16(c->w[0].g))
            launch_backward<T, VECTOR<T>>(c, order);
        else
            launch_backward<T, 1>(c, order);
    });
    launched(c, "embed backward");
}

const struct kernel embed_cuda = {
    .forward = embed_fwd, .backward = embed_bwd, .scratch = embed_scratch};
