/* embed on CUDA: see kernels/cpu/embed.c. Backward without atomics: each row of the gradient is summed by one block, which walks the places where
 * its id stands in ascending order; scratch holds, for each place, the next one of the same id. */
#include "cuda.h"

enum { THREADS = 256, NOT_FIRST = -1 };

template <class W, class T> struct embed_forward {
    const W *w;
    T *y;
    const int32_t *ids;
    int64_t E;
    float scale;
    template <int N> __device__ void at(int64_t i) const
    {
        entry at = entry_of(i, E);
        const W *from = w + ids[at.row] * E + at.column;
        float v[N];
#pragma unroll
        for (int k = 0; k < N; k++)
            v[k] = scale * widen(from[k]);
        store(y + i, v);
    }
};

template <class W, class T> static void forward(const struct call *c)
{
    int64_t E = c->w[0].cols;
    embed_forward<W, T> f = {(const W *)c->w[0].v, (T *)c->out.v, c->batch->ids, E, c->p.scale.scale};
    map<T>(c, c->rows * E, aligned16(c->out.v) && E % VECTOR<T> == 0, f);
}

void embed_fwd_cuda(const struct call *c)
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

/* next[t]: the first place after t with t's id, or `rows`; NOT_FIRST where an earlier place has the id and so owns it: -1 - next. */
static __global__ void chain(const int32_t *ids, int rows, int32_t *next)
{
    SHARED(int32_t, tile, [THREADS]);
    int t = (int)(blockIdx.x * THREADS + threadIdx.x), after = rows, owned = 0;
    int32_t id = t < rows ? ids[t] : -1;
    for (int first = 0; first < rows; first += THREADS) {
        int n = rows - first < THREADS ? rows - first : THREADS;
        __syncthreads();
        if ((int)threadIdx.x < n)
            tile[threadIdx.x] = ids[first + threadIdx.x];
        __syncthreads();
        for (int i = 0; i < n; i++)
            if (tile[i] == id) {
                owned |= first + i < t;
                if (first + i > t && first + i < after)
                    after = first + i;
            }
    }
    if (t < rows)
        next[t] = owned ? NOT_FIRST - after : after;
}

/* One block for each place that is the first of its id, and for each THREADS columns. */
template <class T> static __global__ void backward(const int32_t *ids, const int32_t *next, int rows, const T *dy, float *dw, int64_t E, float scale)
{
    int t = (int)blockIdx.x;
    int64_t column = (int64_t)blockIdx.y * THREADS + threadIdx.x;
    if (next[t] < 0 || column >= E)
        return;
    float *to = dw + ids[t] * E + column, s = *to;
    for (; t < rows; t = next[t] < 0 ? NOT_FIRST - next[t] : next[t])
        s += scale * widen(dy[t * E + column]);
    *to = s;
}

size_t embed_scratch_cuda(const struct call *c) { return (size_t)c->rows * sizeof(int32_t); }

void embed_bwd_cuda(const struct call *c)
{
    int64_t E = c->w[0].cols;
    int rows = (int)c->rows;
    int32_t *next = (int32_t *)c->scratch;
    if (!c->w[0].g || rows <= 0)
        return;
    LAUNCH(c, chain, blocks_of(rows, THREADS), THREADS, 0, c->batch->ids, rows, next);
    BY_DTYPE(c->out.dtype, T,
             LAUNCH(c, backward<T>, dim3((unsigned)rows, blocks_of(E, THREADS)), THREADS, 0, c->batch->ids, next, rows, (const T *)c->out.g, c->w[0].g, E,
                    c->p.scale.scale));
    launched(c, "embed backward");
}
