/* rowcos on CUDA: see kernels/cpu/rowcos.c. One block a row. */
#include "cuda.h"

enum { THREADS = 128 };

template <class T> static __global__ void __launch_bounds__(THREADS) cosines(const T *a, const T *b, int64_t n, double *out)
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

void rowcos_fwd_cuda(const struct call *c)
{
    if (c->rows > 0)
        BY_DTYPE(c->in[0].dtype, T,
                 LAUNCH(c, cosines<T>, (unsigned)c->rows, THREADS, 0, (const T *)c->in[0].v, (const T *)c->in[1].v, c->in[0].cols, c->p.rowcos.out));
    launched(c, "rowcos");
}
