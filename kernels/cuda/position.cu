/* position on CUDA: see kernels/cpu/position.c; the weights may also be bf16. */
#include "cuda.h"

template <class W, class T> struct position_forward {
    const T *x;
    const W *w;
    T *y;
    int64_t E, seq_len;
    first_place pos0;
    const int32_t *starts; /* of the batch, or NULL */
    template <int N> __device__ void at(int64_t i) const
    {
        entry at = entry_of(i, E);
        int64_t start = starts ? starts[at.row] : 0;
        int64_t place = pos0.get() + entry_of(at.row, seq_len).column;
        const W *row = w + (place - start) * E + at.column;
        float v[N];
        load(x + i, v);
#pragma unroll
        for (int k = 0; k < N; k++)
            v[k] += widen(row[k]);
        store(y + i, v);
    }
};

template <class W, class T> static void forward(const struct op_args *c)
{
    int64_t E = c->in[0].cols;
    const struct batch *b = c->batch;
    position_forward<W, T> f = {(const T *)c->in[0].v,
                                (const W *)c->w[0].v,
                                (T *)c->out.v,
                                E,
                                b->seq_len,
                                first_place_of(b),
                                b->starts};
    map<T>(c, c->rows * E, aligned16(f.x) && aligned16(f.y) && E % VECTOR<T> == 0, f);
}

static void position_fwd(const struct op_args *c)
{
    BY_DTYPE(c->out.dtype, T, {
        if (c->w[0].dtype == DT_BF16)
            forward<bf16, T>(c);
        else
            forward<float, T>(c);
    });
    launched(c, "position forward");
}

template <class T> struct add_gradient {
    const T *dy;
    T *dx;
    template <int N> __device__ void at(int64_t i) const
    {
        float v[N], u[N];
        load(dy + i, v);
        load(dx + i, u);
#pragma unroll
        for (int k = 0; k < N; k++)
            u[k] += v[k];
        store(dx + i, u);
    }
};

/* i: of dw, one position's row after the other; summed over the tokens at it in their order. */
template <class T> struct add_positions {
    const T *dy;
    float *dw;
    int64_t n_seq, seq_len, pos0, E;
    const int32_t *starts;
    template <int N> __device__ void at(int64_t i) const
    {
        entry at = entry_of(i, E);
        float sum[N], v[N];
        load(dw + i, sum);
        for (int64_t seq = 0; seq < n_seq; seq++)
            for (int64_t place = max(at.row, pos0); place < pos0 + seq_len;) {
                int64_t t = seq * seq_len + place - pos0, start = starts ? starts[t] : 0;
                if (place - start == at.row) {
                    load(dy + t * E + at.column, v);
#pragma unroll
                    for (int k = 0; k < N; k++)
                        sum[k] += v[k];
                }
                place = place - start < at.row ? start + at.row : place + 1 + at.row;
            }
        store(dw + i, sum);
    }
};

static void position_bwd(const struct op_args *c)
{
    int64_t E = c->in[0].cols;
    const struct batch *b = c->batch;
    BY_DTYPE(c->out.dtype, T, {
        const T *dy = (const T *)c->out.g;
        float *dw = c->w[0].g;
        if (c->in[0].g)
            map<T>(c, c->rows * E, aligned16(dy) && aligned16(c->in[0].g),
                   add_gradient<T>{dy, (T *)c->in[0].g});
        if (dw)
            map<T>(c, (b->pos0 + b->seq_len) * E,
                   aligned16(dy) && aligned16(dw) && E % VECTOR<T> == 0,
                   add_positions<T>{dy, dw, b->n_seq, b->seq_len, b->pos0, E, b->starts});
    });
    launched(c, "position backward");
}

const struct kernel position_cuda = {.forward = position_fwd, .backward = position_bwd};
