/* mixture on CUDA: see kernels/cpu/mixture.c. */
#include "routes.h"
#include "weights.h"

enum { THREADS = 128 };

static size_t mixture_scratch(const struct op_args *c)
{
    return routes_scratch(c, max(c->w[0].cols, c->w[0].rows / c->in[1].cols));
}

static int refused(const struct op_args *c)
{
    return weights_refused(c, "mixture", &c->w[0], c->in[0].dtype);
}

static void mixture_fwd(const struct op_args *c)
{
    if (refused(c))
        return;
    routes r = routes_of(c);
    BY_DTYPE(c->in[0].dtype, T, {
        widen_rows<T>(c, r, (const T *)c->in[0].v, (const T *)c->in[1].v);
        add_products<T>(c, r, (T *)c->out.v, 1);
    });
    launched(c, "mixture forward");
}

/* The gradients of h and of its weight, from u = W dy; one block a row. */
template <class T>
static __global__ void __launch_bounds__(THREADS)
    row_gradients(routes r, const T *h, const T *weights, T *dh, T *dweights, int set)
{
    int64_t row = blockIdx.x, t = row / r.top, e = expert_of(r, row);
    const float *u = r.products + row * r.N;
    float p = widen(weights[t * r.X + e]);
    double dot = 0;
    for (int64_t i = threadIdx.x; i < r.N; i += THREADS) {
        int64_t at = row * r.N + i;
        dot += (double)widen(h[at]) * (double)u[i];
        if (dh)
            dh[at] = narrow<T>((set ? 0 : widen(dh[at])) + p * u[i]);
    }
    dot = block_sum(dot);
    if (dweights && threadIdx.x == 0)
        dweights[t * r.X + e] = narrow<T>(widen(dweights[t * r.X + e]) + (float)dot);
}

template <class T> static void backward(const struct op_args *c, const routes &r)
{
    const T *h = (const T *)c->in[0].v, *weights = (const T *)c->in[1].v, *dy = (const T *)c->out.g;
    if ((c->in[0].g || c->in[1].g) && r.T) {
        narrow_rows<T, float>(c, r, dy, 1, r.products);
        LAUNCH(c, row_gradients<T>, (unsigned)(r.T * r.top), THREADS, 0, r, h, weights,
               (T *)c->in[0].g, (T *)c->in[1].g, c->in[0].overwrite);
    }
    add_weight_gradient<T>(c, r, h, dy, weights);
}

static void mixture_bwd(const struct op_args *c)
{
    if (refused(c))
        return;
    routes r = routes_of(c);
    if (c->in[1].g && c->in[1].overwrite)
        exec_zero(c->x, c->in[1].g, (size_t)dtype_bytes(c->in[1].dtype, c->rows * r.X));
    BY_DTYPE(c->in[0].dtype, T, backward<T>(c, r));
    launched(c, "mixture backward");
}

const struct kernel mixture_cuda = {
    .forward = mixture_fwd, .backward = mixture_bwd, .scratch = mixture_scratch, .sets = 1};
