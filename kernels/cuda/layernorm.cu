/* layernorm on CUDA: see kernels/cpu/layernorm.c for formulas and shapes, norm.h for the kernels.
 */
#include "norm.h"

void layernorm_fwd_cuda(const struct op_args *c)
{
    norms::run_forward<true>(c);
    launched(c, "layernorm forward");
}

void layernorm_bwd_cuda(const struct op_args *c)
{
    norms::run_backward<true>(c);
    launched(c, "layernorm backward");
}
