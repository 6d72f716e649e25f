/* expert_stats on CUDA: see kernels/cpu/expert_stats.c. A thread takes a channel of an expert in a
 * sequence. */
#include "routes.h"

enum { THREADS = 128 };

static size_t expert_stats_scratch(const struct op_args *c) { return routes_scratch(c, 0); }

template <class T>
static __global__ void __launch_bounds__(THREADS)
    channel_stats(routes r, const T *h, int64_t len, struct route_params p)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x, e = blockIdx.y, seq = blockIdx.z;
    double absolute = 0, sum = 0, squares = 0;
    if (i >= r.N)
        return;
    for (int64_t k = 0; k < r.count[e]; k++) {
        int64_t row = r.row[e * r.T + k];
        if (row / r.top / len != seq)
            continue;
        double s = widen(h[row * r.N + i]);
        absolute += fabs(s);
        sum += s;
        squares += s * s;
    }
    double mean = sum / (double)len, variance = squares / (double)len - mean * mean;
    int64_t at = (seq * r.X + e) * r.N + i;
    p.out_mean[at] = absolute / (double)len;
    p.out_l2[at] = sqrt(squares);
    p.out_var[at] = variance < 0 ? 0 : variance;
}

static void expert_stats_fwd(const struct op_args *c)
{
    routes r = routes_of(c);
    dim3 grid(blocks_of(r.N, THREADS), (unsigned)r.X, (unsigned)c->batch->n_seq);
    BY_DTYPE(c->in[0].dtype, T,
             LAUNCH(c, channel_stats<T>, grid, THREADS, 0, r, (const T *)c->in[0].v,
                    c->batch->seq_len, c->p.route));
    launched(c, "expert_stats");
}

const struct kernel expert_stats_cuda = {.forward = expert_stats_fwd,
                                         .scratch = expert_stats_scratch};
