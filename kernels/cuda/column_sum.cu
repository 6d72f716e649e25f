/* column_sum on CUDA: see kernels/cpu/column_sum.c. One block a column. */
#include "cuda.h"

enum { THREADS = 1024 };

static __global__ void __launch_bounds__(THREADS)
    sum_column(const double *x, int64_t rows, int64_t cols, double *out)
{
    double sum = 0;
    for (int64_t t = threadIdx.x; t < rows; t += THREADS)
        sum += x[t * cols + blockIdx.x];
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        out[blockIdx.x] += sum;
}

static void column_sum_fwd(const struct op_args *c)
{
    LAUNCH(c, sum_column, (unsigned)c->in[0].cols, THREADS, 0, (const double *)c->in[0].v, c->rows,
           c->in[0].cols, c->p.column_sum.out);
    launched(c, "column_sum");
}

const struct kernel column_sum_cuda = {.forward = column_sum_fwd};
