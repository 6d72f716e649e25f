/* ratio on CUDA: see kernels/cpu/ratio.c. One thread: there are few terms. */
#include "cuda.h"

static __global__ void divide_sums(const double *x, int64_t n, ratio_params p)
{
    double over = 0, under = 0;
    for (int64_t i = 0; i < n; i++) {
        over += p.over[i] != 0 ? p.over[i] * x[i] : 0;
        under += p.under[i] != 0 ? p.under[i] * x[i] : 0;
    }
    double ratio = under == 0 ? 0 : over / under;
    p.out[0] = ratio > p.most ? p.most : (float)ratio;
}

static void ratio_fwd(const struct op_args *c)
{
    LAUNCH(c, divide_sums, 1, 1, 0, (const double *)c->in[0].v, c->in[0].cols, c->p.ratio);
    launched(c, "ratio");
}

const struct kernel ratio_cuda = {.forward = ratio_fwd};
