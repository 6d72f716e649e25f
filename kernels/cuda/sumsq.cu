/* sumsq on CUDA: see kernels/cpu/sumsq.c. The range is cut in pieces by its length alone; their
 * sums, in scratch, are added in order. */
#include "cuda.h"

/* the most pieces, and the fewest values per piece */
enum { PIECES = 1024, SHORTEST = 8192, THREADS = 256 };

static size_t sumsq_scratch(const struct op_args *c)
{
    (void)c;
    return PIECES * sizeof(double);
}

template <class T, int N>
static __global__ void __launch_bounds__(THREADS)
    piece_sums(const T *x, int64_t n, int64_t piece, double *sums)
{
    int64_t end = min((blockIdx.x + 1) * piece, n);
    double sum = 0;
    for (int64_t i = blockIdx.x * piece + threadIdx.x * N; i < end; i += THREADS * N) {
        float v[N];
        if (i + N <= end)
            load(x + i, v);
        else
            for (int k = 0; k < N; k++)
                v[k] = i + k < end ? widen(x[i + k]) : 0;
#pragma unroll
        for (int k = 0; k < N; k++)
            sum += (double)v[k] * v[k];
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        sums[blockIdx.x] = sum;
}

static __global__ void __launch_bounds__(THREADS)
    add_sums(const double *sums, int pieces, double *out)
{
    double sum = 0;
    for (int i = (int)threadIdx.x; i < pieces; i += THREADS)
        sum += sums[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        out[0] += sum;
}

static void sumsq_fwd(const struct op_args *c)
{
    /* whole vectors */
    int64_t n = c->in[0].rows * c->in[0].cols,
            piece = max((int64_t)SHORTEST, ((n + PIECES - 1) / PIECES + 7) / 8 * 8);
    unsigned pieces = blocks_of(n, piece);
    if (n <= 0)
        return;
    double *sums = (double *)c->scratch;
    if (aligned16(c->in[0].v))
        BY_DTYPE(c->in[0].dtype, T,
                 LAUNCH(c, (piece_sums<T, VECTOR<T>>), pieces, THREADS, 0, (const T *)c->in[0].v, n,
                        piece, sums));
    else
        BY_DTYPE(c->in[0].dtype, T,
                 LAUNCH(c, (piece_sums<T, 1>), pieces, THREADS, 0, (const T *)c->in[0].v, n, piece,
                        sums));
    LAUNCH(c, add_sums, 1, THREADS, 0, sums, (int)pieces, c->p.sumsq.out);
    launched(c, "sumsq");
}

const struct kernel sumsq_cuda = {.forward = sumsq_fwd, .scratch = sumsq_scratch};
