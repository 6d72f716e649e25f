/* rowgate on CUDA: see kernels/cpu/rowgate.c. One block a row. */
#include "cuda.h"

enum { THREADS = 128 };

template <class T>
static __global__ void __launch_bounds__(THREADS)
    rowgate_forward(const T *x, const T *g, T *y, int64_t n)
{
    float s = 1 / (1 + expf(-widen(g[blockIdx.x])));
    for (int64_t i = blockIdx.x * n + threadIdx.x; i < (blockIdx.x + 1) * n; i += THREADS)
        y[i] = narrow<T>(s * widen(x[i]));
}

template <class T>
static __global__ void __launch_bounds__(THREADS)
    rowgate_backward(const T *x, const T *g, const T *dy, T *dx, T *dg, int64_t n, int set_x,
                     int set_g)
{
    float s = 1 / (1 + expf(-widen(g[blockIdx.x])));
    double dot = 0;
    for (int64_t i = blockIdx.x * n + threadIdx.x; i < (blockIdx.x + 1) * n; i += THREADS) {
        dot += (double)widen(x[i]) * (double)widen(dy[i]);
        if (dx)
            dx[i] = narrow<T>((set_x ? 0 : widen(dx[i])) + s * widen(dy[i]));
    }
    dot = block_sum(dot);
    if (dg && threadIdx.x == 0)
        dg[blockIdx.x] = narrow<T>((set_g ? 0 : widen(dg[blockIdx.x])) + (float)dot * s * (1 - s));
}

static void rowgate_fwd(const struct op_args *c)
{
    if (c->rows)
        BY_DTYPE(c->out.dtype, T,
                 LAUNCH(c, rowgate_forward<T>, (unsigned)c->rows, THREADS, 0, (const T *)c->in[0].v,
                        (const T *)c->in[1].v, (T *)c->out.v, c->in[0].cols));
    launched(c, "rowgate forward");
}

static void rowgate_bwd(const struct op_args *c)
{
    if (c->rows && (c->in[0].g || c->in[1].g))
        BY_DTYPE(c->out.dtype, T,
                 LAUNCH(c, rowgate_backward<T>, (unsigned)c->rows, THREADS, 0,
                        (const T *)c->in[0].v, (const T *)c->in[1].v, (const T *)c->out.g,
                        (T *)c->in[0].g, (T *)c->in[1].g, c->in[0].cols, c->in[0].overwrite,
                        c->in[1].overwrite));
    launched(c, "rowgate backward");
}

const struct kernel rowgate_cuda = {.forward = rowgate_fwd, .backward = rowgate_bwd, .sets = 1};
