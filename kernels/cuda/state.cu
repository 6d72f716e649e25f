/* state on CUDA: see kernels/cpu/state.c. One block a row. */
#include "cuda.h"

enum { THREADS = 128 };

template <class V> struct products {
    V aa, ab, bb;
};

template <class T>
static __device__ products<long_sum<T>> row_products(const T *a, const T *b, int64_t n)
{
    products<long_sum<T>> p = {0, 0, 0};
    for (int64_t i = threadIdx.x; i < n; i += THREADS) {
        long_sum<T> x = widen(a[i]), y = widen(b[i]);
        p.aa += x * x;
        p.ab += x * y;
        p.bb += y * y;
    }
    return {block_sum(p.aa), block_sum(p.ab), block_sum(p.bb)};
}

template <class T> static __device__ double row_square_loss(const T *a, const T *b, int64_t n)
{
    long_sum<T> sum = 0;
    for (int64_t i = threadIdx.x; i < n; i += THREADS) {
        long_sum<T> d = (long_sum<T>)widen(a[i]) - widen(b[i]);
        sum += d * d;
    }
    return (double)block_sum(sum) / (double)n;
}

template <class T> static __device__ double row_cosine_loss(const T *a, const T *b, int64_t n)
{
    auto p = row_products(a, b, n);
    double norms = sqrt((double)p.aa) * sqrt((double)p.bb),
           loss = norms == 0 ? 1 : 1 - (double)p.ab / norms;
    return loss < 0 ? 0 : loss;
}

template <class T>
static __global__ void __launch_bounds__(THREADS)
    state_losses(const T *a, const T *b, int64_t n, const int32_t *labels, int is_cosine,
                 double *out)
{
    a += blockIdx.x * n;
    b += blockIdx.x * n;
    double loss = 0;
    if (labels[blockIdx.x] != LABEL_PADDING)
        loss = is_cosine ? row_cosine_loss(a, b, n) : row_square_loss(a, b, n);
    if (threadIdx.x == 0)
        out[blockIdx.x] = loss;
}

template <class T> static void losses(const struct op_args *c)
{
    LAUNCH(c, state_losses<T>, (unsigned)c->rows, THREADS, 0, (const T *)c->in[0].v,
           (const T *)c->in[1].v, c->in[0].cols, c->batch->labels, c->p.state.loss == STATE_cosine,
           (double *)c->out.v);
}

static void state_fwd(const struct op_args *c)
{
    if (c->rows > 0)
        BY_DTYPE(c->in[0].dtype, T, losses<T>(c));
    launched(c, "state forward");
}

/* The gradient of a row is of_a * a + of_b * b. */
template <class T>
static __global__ void __launch_bounds__(THREADS)
    state_gradients(const T *a, const T *b, int64_t n, const int32_t *labels, state_params p,
                    const float *step, int set, T *g)
{
    float f = p.weight * step[STATE_SCALE] * step[STATE_WEIGHT], of_a = 0, of_b = 0;
    a += blockIdx.x * n;
    b += blockIdx.x * n;
    g += blockIdx.x * n;
    if (labels[blockIdx.x] == LABEL_PADDING) {
        of_a = of_b = 0;
    } else if (p.loss == STATE_mse) {
        of_a = 2 * f / (float)n;
        of_b = -of_a;
    } else {
        auto s = row_products(a, b, n);
        double norms = sqrt((double)s.aa) * sqrt((double)s.bb);
        of_a = norms == 0 ? 0 : (float)(f * (double)s.ab / (norms * (double)s.aa));
        of_b = norms == 0 ? 0 : (float)(-f / norms);
    }
    for (int64_t i = threadIdx.x; i < n; i += THREADS)
        g[i] = narrow<T>(of_a * widen(a[i]) + of_b * widen(b[i]) + (set ? 0 : widen(g[i])));
}

template <class T> static void gradients(const struct op_args *c)
{
    LAUNCH(c, state_gradients<T>, (unsigned)c->rows, THREADS, 0, (const T *)c->in[0].v,
           (const T *)c->in[1].v, c->in[0].cols, c->batch->labels, c->p.state, c->step,
           c->in[0].overwrite, (T *)(void *)c->in[0].g);
}

static void state_bwd(const struct op_args *c)
{
    if (c->rows > 0 && c->in[0].g)
        BY_DTYPE(c->in[0].dtype, T, gradients<T>(c));
    launched(c, "state backward");
}

const struct kernel state_cuda = {.forward = state_fwd, .backward = state_bwd, .sets = 1};
