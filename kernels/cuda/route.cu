/* route on CUDA: see kernels/cpu/route.c. One warp a row. */
#include "routes.h"

/* The largest value of a row of X, and the sum of exp of the differences from it. */
template <class T> static __device__ void row_sum(const T *x, int64_t X, float *most, double *sum)
{
    *most = -INFINITY;
    for (int64_t i = threadIdx.x; i < X; i += WARP)
        *most = fmaxf(*most, widen(x[i]));
    *most = warp_max(*most);
    *sum = 0;
    for (int64_t i = threadIdx.x; i < X; i += WARP)
        *sum += exp((double)widen(x[i]) - (double)*most);
    *sum = warp_sum(*sum);
}

template <class T>
static __global__ void __launch_bounds__(WARP)
    route_forward(const T *x, T *y, int64_t X, int64_t top, int renormalise)
{
    float most;
    double all, chosen = 0;
    x += blockIdx.x * X;
    y += blockIdx.x * X;
    row_sum(x, X, &most, &all);
    for (int64_t i = threadIdx.x; i < X; i += WARP)
        if (is_taken(x, X, top, i))
            chosen += exp((double)widen(x[i]) - (double)most);
    chosen = warp_sum(chosen);
    for (int64_t i = threadIdx.x; i < X; i += WARP) {
        double share = exp((double)widen(x[i]) - (double)most) / (renormalise ? chosen : all);
        if (isnan(all))
            share = all;
        else if (!is_taken(x, X, top, i))
            share = 0;
        y[i] = narrow<T>((float)share);
    }
}

template <class T>
static __global__ void __launch_bounds__(WARP)
    route_backward(const T *x, const T *y, const T *dy, T *dx, int64_t X, int renormalise, int set)
{
    float most;
    double all, dot = 0;
    int64_t at = blockIdx.x * X;
    row_sum(x + at, X, &most, &all);
    for (int64_t i = threadIdx.x; i < X; i += WARP)
        dot += (double)widen(y[at + i]) * (double)widen(dy[at + i]);
    dot = warp_sum(dot);
    for (int64_t i = at + threadIdx.x; i < at + X; i += WARP) {
        double s = exp((double)widen(x[i]) - (double)most) / all, share = widen(y[i]);
        double g = share * (double)widen(dy[i]) - (renormalise ? share : s) * dot;
        dx[i] = narrow<T>((set ? 0 : widen(dx[i])) + (float)g);
    }
}

static void route_fwd(const struct op_args *c)
{
    const struct route_params *p = &c->p.route;
    if (c->rows)
        BY_DTYPE(c->out.dtype, T,
                 LAUNCH(c, route_forward<T>, (unsigned)c->rows, WARP, 0, (const T *)c->in[0].v,
                        (T *)c->out.v, c->in[0].cols, p->top, p->renormalise));
    launched(c, "route forward");
}

static void route_bwd(const struct op_args *c)
{
    if (c->in[0].g && c->rows)
        BY_DTYPE(c->out.dtype, T,
                 LAUNCH(c, route_backward<T>, (unsigned)c->rows, WARP, 0, (const T *)c->in[0].v,
                        (const T *)c->out.v, (const T *)c->out.g, (T *)c->in[0].g, c->in[0].cols,
                        c->p.route.renormalise, c->in[0].overwrite));
    launched(c, "route backward");
}

const struct kernel route_cuda = {.forward = route_fwd, .backward = route_bwd, .sets = 1};
