/* row_cosine on CUDA: see kernels/cpu/row_cosine.c. One block a row. */
#include "cuda.h"

enum { THREADS = 128 };

template <class T>
static __global__ void __launch_bounds__(THREADS)
    cosines(const T *a, const T *b, int64_t n, double *out)
{
    double ab = 0, aa = 0, bb = 0;
    a += blockIdx.x * n;
    b += blockIdx.x * n;
    for (int64_t i = threadIdx.x; i < n; i += THREADS) {
        double x = widen(a[i]), y = widen(b[i]);
        ab += x * y;
        aa += x * x;
        bb += y * y;
    }
    ab = block_sum(ab);
    aa = block_sum(aa);
    bb = block_sum(bb);
    if (threadIdx.x == 0)
        out[blockIdx.x] = aa == 0 || bb == 0 ? 0 : ab / (sqrt(aa) * sqrt(bb));
}

template <class T> static void pair(const struct op_args *c, int64_t p, int64_t n)
{
    const struct row_cosine_params *r = &c->p.row_cosine;
    const T *ring = (const T *)c->in[0].v;
    int64_t slot = c->in[0].rows * c->in[0].cols;
    LAUNCH(c, cosines<T>, (unsigned)c->rows, THREADS, 0, ring + p % r->slots * slot,
           ring + (p - n) % r->slots * slot, c->in[0].cols,
           r->out + ((p - r->from) * r->back + n - 1) * c->rows);
}

static void row_cosine_fwd(const struct op_args *c)
{
    const struct row_cosine_params *r = &c->p.row_cosine;
    for (int64_t p = r->from; p < r->to && c->rows > 0; p++)
        for (int64_t n = 1; n <= r->back && n <= p; n++)
            BY_DTYPE(c->in[0].dtype, T, pair<T>(c, p, n));
    launched(c, "row_cosine");
}

const struct kernel row_cosine_cuda = {.forward = row_cosine_fwd};
