/* softcap on CUDA: see kernels/cpu/softcap.c. */
#include "cuda.h"

template <class T> struct softcap_forward {
    const T *x;
    T *y;
    float scale, cap;
    template <int N> __device__ void at(int64_t i) const
    {
        float v[N];
        load(x + i, v);
#pragma unroll
        for (int k = 0; k < N; k++)
            v[k] = cap != 0 ? cap * tanhf(scale / cap * v[k]) : scale * v[k];
        store(y + i, v);
    }
};

template <class T> struct softcap_backward {
    const T *y, *dy;
    T *dx;
    float scale, cap;
    template <int N> __device__ void at(int64_t i) const
    {
        float v[N], g[N], sum[N];
        load(y + i, v);
        load(dy + i, g);
        load(dx + i, sum);
#pragma unroll
        for (int k = 0; k < N; k++) {
            float share = cap != 0 ? v[k] / cap : 0;
            sum[k] += g[k] * scale * fmaf(-share, share, 1.0f);
        }
        store(dx + i, sum);
    }
};

static void softcap_fwd(const struct op_args *c)
{
    const struct scale_params *p = &c->p.scale;
    BY_DTYPE(c->out.dtype, T,
             map<T>(c, c->rows * c->in[0].cols, aligned16(c->in[0].v) && aligned16(c->out.v),
                    softcap_forward<T>{(const T *)c->in[0].v, (T *)c->out.v, p->scale, p->cap}));
    launched(c, "softcap forward");
}

static void softcap_bwd(const struct op_args *c)
{
    const struct scale_params *p = &c->p.scale;
    int aligned = aligned16(c->out.v) && aligned16(c->out.g) && aligned16(c->in[0].g);
    if (c->in[0].g)
        BY_DTYPE(c->out.dtype, T,
                 map<T>(c, c->rows * c->in[0].cols, aligned,
                        softcap_backward<T>{(const T *)c->out.v, (const T *)c->out.g,
                                            (T *)c->in[0].g, p->scale, p->cap}));
    launched(c, "softcap backward");
}

const struct kernel softcap_cuda = {.forward = softcap_fwd, .backward = softcap_bwd};
