/* act on CUDA: see kernels/cpu/act.c. */
#include "act.h"

template <enum act F, class T> struct act_forward {
    const T *x;
    T *y;
    template <int N> __device__ void at(int64_t i) const
    {
        float v[N];
        load(x + i, v);
#pragma unroll
        for (int k = 0; k < N; k++)
            v[k] = act_at<F, T>(v[k]).value;
        store(y + i, v);
    }
};

template <enum act F, class T> struct act_backward {
    const T *x, *dy;
    T *dx;
    int overwrite; /* dx is set */
    template <int N> __device__ void at(int64_t i) const
    {
        float v[N], g[N], sum[N] = {0};
        load(x + i, v);
        load(dy + i, g);
        if (!overwrite)
            load(dx + i, sum);
#pragma unroll
        for (int k = 0; k < N; k++)
            sum[k] += g[k] * act_at<F, T>(v[k]).slope;
        store(dx + i, sum);
    }
};

static void act_fwd(const struct op_args *c)
{
    int aligned = aligned16(c->in[0].v) && aligned16(c->out.v);
    BY_DTYPE(c->out.dtype, T,
             BY_ACT(c->p.act.f, F,
                    map<T>(c, c->rows * c->in[0].cols, aligned,
                           act_forward<F, T>{(const T *)c->in[0].v, (T *)c->out.v})));
    launched(c, "act forward");
}

static void act_bwd(const struct op_args *c)
{
    int aligned = aligned16(c->in[0].v) && aligned16(c->out.g) && aligned16(c->in[0].g);
    if (c->in[0].g)
        BY_DTYPE(c->out.dtype, T,
                 BY_ACT(c->p.act.f, F,
                        map<T>(c, c->rows * c->in[0].cols, aligned,
                               act_backward<F, T>{(const T *)c->in[0].v, (const T *)c->out.g,
                                                  (T *)c->in[0].g, c->in[0].overwrite})));
    launched(c, "act backward");
}

const struct kernel act_cuda = {.forward = act_fwd, .backward = act_bwd, .sets = 1};
