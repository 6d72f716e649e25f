/* conv on CUDA: see kernels/cpu/conv.c. A thread computes one entry of the output or of dx; weight
 * gradients are sums over pieces of the tokens, added up in order. Backward computes dz again where
 * it needs it, which costs less than a matrix of them would. */
#include "act.h"
#include "weights.h"

enum { THREADS = 128, PIECE_TOKENS = 64, PIECES_MOST = 256 };

/* Of a call. Token t of all rows; a token before the call is in the state. */
template <class T, class W> struct conv_call {
    const T *x;
    const W *w;
    const float *bias;
    float *state; /* [n_seq, width - 1, C], or NULL */
    const int32_t *starts;
    int64_t C, width, seq_len;
    first_place pos0;

    /* how many tokens before row t its document has, at most width - 1 */
    __device__ int64_t reach(int64_t t) const
    {
        int64_t place = pos0.get() + t % seq_len;
        return min(place - (starts ? starts[t] : 0), width - 1);
    }
    /* channel c of the token `back` before row t */
    __device__ float input(int64_t t, int64_t back, int64_t c) const
    {
        entry at = entry_of(t, seq_len);
        if (at.column >= back)
            return widen(x[(t - back) * C + c]);
        return state[(at.row * (width - 1) + width - 1 + at.column - back) * C + c];
    }
    __device__ float weight(int64_t back, int64_t c) const
    {
        return widen(w[c * width + width - 1 - back]);
    }
    __device__ float sum(int64_t t, int64_t c) const
    {
        float z = bias ? bias[c] : 0;
        for (int64_t back = reach(t); back >= 0; back--)
            z = fmaf(weight(back, c), input(t, back, c), z);
        return z;
    }
};

template <class T, class W> static conv_call<T, W> call_of(const struct op_args *c)
{
    return {
        (const T *)c->in[0].v,   (const W *)c->w[0].v, (const float *)c->w[1].v, c->state,
        c->batch->starts,        c->in[0].cols,        c->p.conv.width,          c->batch->seq_len,
        first_place_of(c->batch)};
}

/* Runs a statement with W standing for the type of the weights. */
#define BY_WEIGHTS(dtype, W, ...) \
    do { \
        if ((dtype) == DT_F16) { \
            typedef __half W; \
            __VA_ARGS__; \
        } else { \
            BY_DTYPE(dtype, W, __VA_ARGS__); \
        } \
    } while (0)

/* ---- forward */

template <class T, class W> struct conv_forward {
    conv_call<T, W> k;
    T *y;
    template <int N> __device__ void at(int64_t i) const
    {
        entry at = entry_of(i, k.C);
        y[i] = narrow<T>(act_at<ACT_SILU, T>(k.sum(at.row, at.column)).value);
    }
};

/* i: of a sequence's channels. The rows are moved in ascending order, each from a later one. */
template <class T, class W> struct conv_keep {
    conv_call<T, W> k;
    template <int N> __device__ void at(int64_t i) const
    {
        entry at = entry_of(i, k.C);
        int64_t rows = k.width - 1, last = (at.row + 1) * k.seq_len - 1;
        for (int64_t row = 0; row < rows; row++)
            if (k.pos0.get() + k.seq_len >= rows - row)
                k.state[(at.row * rows + row) * k.C + at.column] = k.input(last, rows - 1 - row,
                                                                           at.column);
    }
};

static void conv_fwd(const struct op_args *c)
{
    BY_DTYPE(c->out.dtype, T, BY_WEIGHTS(c->w[0].dtype, W, {
                 conv_call<T, W> k = call_of<T, W>(c);
                 map<T>(c, c->rows * k.C, 0, conv_forward<T, W>{k, (T *)c->out.v});
                 if (k.state)
                     map<T>(c, c->batch->n_seq * k.C, 0, conv_keep<T, W>{k});
             }));
    launched(c, "conv forward");
}

/* ---- backward */

template <class T, class W> struct conv_backward {
    conv_call<T, W> k;
    const T *dy;
    T *dx;
    __device__ float slope(int64_t t, int64_t c) const
    {
        return widen(dy[t * k.C + c]) * act_at<ACT_SILU, T>(k.sum(t, c)).slope;
    }
    template <int N> __device__ void at(int64_t i) const
    {
        entry at = entry_of(i, k.C);
        int64_t ahead = min(k.width, k.seq_len - at.row % k.seq_len);
        float sum = widen(dx[i]);
        for (int64_t back = 0; back < ahead; back++)
            if (k.reach(at.row + back) >= back)
                sum = fmaf(k.weight(back, at.column), slope(at.row + back, at.column), sum);
        dx[i] = narrow<T>(sum);
    }
};

/* Sums over a piece of the rows, by channel: [pieces, width + 1, C], those of the bias last. */
template <class T, class W>
static __global__ void __launch_bounds__(THREADS)
    conv_weights(conv_backward<T, W> f, int64_t rows, int64_t piece, double *parts)
{
    SHARED_DYNAMIC(double, all);
    const conv_call<T, W> &k = f.k;
    int64_t c = (int64_t)blockIdx.x * THREADS + threadIdx.x, first = blockIdx.y * piece;
    if (c >= k.C)
        return;
    double *sums = all + threadIdx.x;
    for (int64_t i = 0; i <= k.width; i++)
        sums[i * THREADS] = 0;
    for (int64_t t = first; t < min(first + piece, rows); t++) {
        float dz = f.slope(t, c);
        for (int64_t back = k.reach(t); back >= 0; back--)
            sums[(k.width - 1 - back) * THREADS] += (double)(dz * k.input(t, back, c));
        sums[k.width * THREADS] += (double)dz;
    }
    for (int64_t i = 0; i <= k.width; i++)
        parts[(blockIdx.y * (k.width + 1) + i) * k.C + c] = sums[i * THREADS];
}

/* i: of dw [C, width] and, after it, of dbias. */
struct conv_join {
    const double *parts;
    float *dw, *dbias;
    int64_t C, width, pieces;
    template <int N> __device__ void at(int64_t i) const
    {
        entry at = i < C * width ? entry_of(i, width) : entry{i - C * width, width};
        float *to = at.column < width ? dw : dbias;
        double sum = 0;
        for (int64_t k = 0; k < pieces && to; k++)
            sum += parts[(k * (width + 1) + at.column) * C + at.row];
        if (to)
            to[i < C * width ? i : at.row] += (float)sum;
    }
};

static int64_t piece_tokens(int64_t rows)
{
    return max((int64_t)PIECE_TOKENS, (rows + PIECES_MOST - 1) / PIECES_MOST);
}
static int64_t piece_count(int64_t rows)
{
    return min((int64_t)PIECES_MOST, rows / PIECE_TOKENS + 1);
}

static size_t conv_scratch(const struct op_args *c)
{
    return (size_t)(piece_count(c->rows) * (c->p.conv.width + 1) * c->in[0].cols) * sizeof(double);
}

static int conv_check(const struct op_args *c, struct err *e)
{
    int most = SHARED_MOST / (THREADS * (int)sizeof(double)) - 1;
    return c->p.conv.width > most
               ? err_set(e, "a convolution on CUDA takes at most %d tokens, not %lld", most,
                         (long long)c->p.conv.width)
               : 0;
}

template <class T, class W> static void backward(const struct op_args *c)
{
    conv_backward<T, W> f = {call_of<T, W>(c), (const T *)c->out.g, (T *)c->in[0].g};
    int64_t C = f.k.C, width = f.k.width, pieces = piece_count(c->rows);
    float *dw = c->w[0].g, *dbias = c->w[1].v ? c->w[1].g : NULL;
    if (f.dx)
        map<T>(c, c->rows * C, 0, f);
    if (!dw && !dbias)
        return;
    LAUNCH(c, (conv_weights<T, W>), dim3(blocks_of(C, THREADS), (unsigned)pieces), THREADS,
           (size_t)(width + 1) * THREADS * sizeof(double), f, c->rows, piece_tokens(c->rows),
           (double *)c->scratch);
    map<float>(c, C * (width + 1), 0,
               conv_join{(const double *)c->scratch, dw, dbias, C, width, pieces});
}

static void conv_bwd(const struct op_args *c)
{
    BY_DTYPE(c->out.dtype, T, BY_WEIGHTS(c->w[0].dtype, W, backward<T, W>(c)));
    launched(c, "conv backward");
}

const struct kernel conv_cuda = {
    .forward = conv_fwd, .backward = conv_bwd, .scratch = conv_scratch, .check = conv_check};
