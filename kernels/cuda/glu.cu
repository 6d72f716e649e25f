/* glu on CUDA: see kernels/cpu/glu.c. Backward makes both gradients in one pass. */
#include "act.h"

template <enum act F, class T> struct glu_forward {
    const T *a, *b;
    T *y;
    template <int N> __device__ void at(int64_t i) const
    {
        float u[N], v[N];
        load(a + i, u);
        load(b + i, v);
#pragma unroll
        for (int k = 0; k < N; k++)
            u[k] = act_at<F, T>(u[k]).value * v[k];
        store(y + i, u);
    }
};

template <enum act F, class T> struct glu_backward {
    const T *a, *b, *dy;
    T *da, *db;                   /* each may be NULL */
    int overwrite_a, overwrite_b; /* it is set */
    template <int N> __device__ void at(int64_t i) const
    {
        float u[N], v[N], g[N];
        load(a + i, u);
        load(b + i, v);
        load(dy + i, g);
#pragma unroll
        for (int k = 0; k < N; k++) {
            act_result f = act_at<F, T>(u[k]);
            u[k] = g[k] * v[k] * f.slope;
            v[k] = g[k] * f.value;
        }
        if (da)
            put(da + i, u, overwrite_a);
        if (db)
            put(db + i, v, overwrite_b);
    }
    template <int N> static __device__ void put(T *to, float (&v)[N], int overwrite)
    {
        float before[N];
        if (!overwrite) {
            load(to, before);
#pragma unroll
            for (int k = 0; k < N; k++)
                v[k] += before[k];
        }
        store(to, v);
    }
};

static void glu_fwd(const struct op_args *c)
{
    int aligned = aligned16(c->in[0].v) && aligned16(c->in[1].v) && aligned16(c->out.v);
    BY_DTYPE(c->out.dtype, T,
             BY_ACT(c->p.act.f, F,
                    map<T>(c, c->rows * c->in[0].cols, aligned,
                           glu_forward<F, T>{(const T *)c->in[0].v, (const T *)c->in[1].v,
                                             (T *)c->out.v})));
    launched(c, "glu forward");
}

static void glu_bwd(const struct op_args *c)
{
    int aligned = aligned16(c->in[0].v) && aligned16(c->in[1].v) && aligned16(c->out.g) &&
                  aligned16(c->in[0].g) && aligned16(c->in[1].g);
    if (c->in[0].g || c->in[1].g)
        BY_DTYPE(
            c->out.dtype, T,
            BY_ACT(c->p.act.f, F,
                   map<T>(c, c->rows * c->in[0].cols, aligned,
                          glu_backward<F, T>{(const T *)c->in[0].v, (const T *)c->in[1].v,
                                             (const T *)c->out.g, (T *)c->in[0].g, (T *)c->in[1].g,
                                             c->in[0].overwrite, c->in[1].overwrite})));
    launched(c, "glu backward");
}

const struct kernel glu_cuda = {.forward = glu_fwd, .backward = glu_bwd, .sets = 1};
