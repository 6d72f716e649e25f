/* expert_use on CUDA: see kernels/cpu/expert_use.c. */
#include "routes.h"
#include "weights.h"

enum { THREADS = 128 };

static size_t expert_use_scratch(const struct op_args *c)
{
    return routes_scratch(c, c->w[0].cols);
}

/* One block a row; r.products: what the expert gives. */
template <class T>
static __global__ void __launch_bounds__(THREADS) row_use(routes r, const T *weights, T *y)
{
    int64_t row = blockIdx.x, t = row / r.top, e = expert_of(r, row);
    const float *z = r.products + row * r.E;
    double squares = 0;
    for (int64_t i = threadIdx.x; i < r.E; i += THREADS)
        squares += (double)z[i] * (double)z[i];
    squares = block_sum(squares);
    if (threadIdx.x == 0) {
        y[t * 2 * r.X + e] = narrow<T>(widen(weights[t * r.X + e]) * (float)sqrt(squares));
        y[t * 2 * r.X + r.X + e] = narrow<T>(1);
    }
}

static void expert_use_fwd(const struct op_args *c)
{
    if (weights_refused(c, "expert_use", &c->w[0], c->in[0].dtype))
        return;
    routes r = routes_of(c);
    exec_zero(c->x, c->out.v, (size_t)dtype_bytes(c->out.dtype, c->rows * 2 * r.X));
    BY_DTYPE(c->in[0].dtype, T, {
        widen_rows<T>(c, r, (const T *)c->in[0].v, (const T *)NULL);
        if (r.T)
            LAUNCH(c, row_use<T>, (unsigned)(r.T * r.top), THREADS, 0, r, (const T *)c->in[1].v,
                   (T *)c->out.v);
    });
    launched(c, "expert_use");
}

const struct kernel expert_use_cuda = {.forward = expert_use_fwd, .scratch = expert_use_scratch};
