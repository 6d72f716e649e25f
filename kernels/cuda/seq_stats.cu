/* seq_stats on CUDA: see kernels/cpu/seq_stats.c. A block takes 32 channels or one unit of a
 * sequence; its threads share the positions. The variance comes from sums of differences to the
 * first position, in f64, which is as exact far from zero as near it. */
#include "cuda.h"

enum { WALKERS = 8 };

struct moments {
    double absolute, squares, off, off_squares;
};

static __device__ __forceinline__ void add_position(moments *m, double s, double origin)
{
    m->absolute += fabs(s);
    m->squares += s * s;
    m->off += s - origin;
    m->off_squares += (s - origin) * (s - origin);
}

static __device__ __forceinline__ void put_stats(const struct seq_stats_params &p, int64_t at,
                                                 const moments &m, double T)
{
    double shift = m.off / T;
    if (p.out_mean)
        p.out_mean[at] = m.absolute / T;
    if (p.out_l2)
        p.out_l2[at] = sqrt(m.squares);
    if (p.out_var)
        /* a NaN stays */
        p.out_var[at] = m.off_squares < m.off * shift ? 0 : m.off_squares / T - shift * shift;
}

/* Sums of the walkers in their order, in walker 0. Thread (x, y) is walker y. */
static __device__ __forceinline__ void join_walkers(moments *m)
{
    SHARED(moments, all, [WALKERS][WARP]);
    all[threadIdx.y][threadIdx.x] = *m;
    __syncthreads();
    for (int k = 1; k < WALKERS && threadIdx.y == 0; k++) {
        const moments &other = all[k][threadIdx.x];
        m->absolute += other.absolute;
        m->squares += other.squares;
        m->off += other.off;
        m->off_squares += other.off_squares;
    }
}

/* norm 0: a thread's channel is blockIdx.x * 32 + x, the sequence blockIdx.y. */
template <class T>
static __global__ void __launch_bounds__(WARP *WALKERS)
    channel_stats(struct seq_stats_params p, const T *x, int64_t len)
{
    int64_t cols = p.units * p.width, i = (int64_t)blockIdx.x * WARP + threadIdx.x;
    moments m = {};
    x += blockIdx.y * len * cols;
    for (int64_t t = threadIdx.y; t < len && i < cols; t += WALKERS)
        add_position(&m, (double)widen(x[t * cols + i]), (double)widen(x[i]));
    join_walkers(&m);
    if (threadIdx.y == 0 && i < cols)
        put_stats(p, blockIdx.y * cols + i, m, (double)len);
}

/* L2 norm of `width` values, by a warp. */
template <class T> static __device__ __forceinline__ double unit_norm(const T *x, int64_t width)
{
    double sum = 0;
    for (int64_t j = threadIdx.x; j < width; j += WARP) {
        double v = widen(x[j]);
        sum += v * v;
    }
    return sqrt(warp_sum(sum));
}

/* norm 1: unit blockIdx.x, sequence blockIdx.y; a warp is a walker, every lane has its sums. */
template <class T>
static __global__ void __launch_bounds__(WARP *WALKERS)
    unit_stats(struct seq_stats_params p, const T *x, int64_t len)
{
    int64_t cols = p.units * p.width;
    moments m = {};
    x += blockIdx.y * len * cols + blockIdx.x * p.width;
    double origin = unit_norm(x, p.width);
    for (int64_t t = threadIdx.y; t < len; t += WALKERS)
        add_position(&m, unit_norm(x + t * cols, p.width), origin);
    join_walkers(&m);
    if (threadIdx.y == 0 && threadIdx.x == 0)
        put_stats(p, blockIdx.y * p.units + blockIdx.x, m, (double)len);
}

static void seq_stats_fwd(const struct op_args *c)
{
    const struct seq_stats_params *p = &c->p.seq_stats;
    unsigned n_seq = (unsigned)c->batch->n_seq;
    int64_t len = c->batch->seq_len;
    if (p->norm)
        BY_DTYPE(c->in[0].dtype, T,
                 LAUNCH(c, unit_stats<T>, dim3((unsigned)p->units, n_seq), dim3(WARP, WALKERS), 0,
                        *p, (const T *)c->in[0].v, len));
    else
        BY_DTYPE(c->in[0].dtype, T,
                 LAUNCH(c, channel_stats<T>, dim3(blocks_of(p->units * p->width, WARP), n_seq),
                        dim3(WARP, WALKERS), 0, *p, (const T *)c->in[0].v, len));
    launched(c, "seq_stats");
}

const struct kernel seq_stats_cuda = {.forward = seq_stats_fwd};
