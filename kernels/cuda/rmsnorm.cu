/* rmsnorm on CUDA: see kernels/cpu/rmsnorm.c for formulas and shapes, norm.h for the kernels. */
#include "norm.h"

/* Sums of the gradients of weight and bias, of every block; serves layernorm as well. */
size_t norm_scratch_cuda(const struct op_args *c)
{
    norms::parts k = norms::parts_of(c);
    int64_t sums = k.count * k.groups * (c->in[0].cols / c->p.norm.groups);
    return 2 * (size_t)sums * (c->in[0].dtype == DT_BF16 ? sizeof(float) : sizeof(double));
}

void rmsnorm_fwd_cuda(const struct op_args *c)
{
    norms::run_forward<false>(c);
    launched(c, "rmsnorm forward");
}

void rmsnorm_bwd_cuda(const struct op_args *c)
{
    norms::run_backward<false>(c);
    launched(c, "rmsnorm backward");
}
