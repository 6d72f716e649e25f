/* layernorm on CUDA: see kernels/cpu/layernorm.c for formulas and shapes, norm.h for the kernels.
 */
#include "norm.h"

static void layernorm_fwd(const struct op_args *c)
{
    norms::run_forward<true>(c);
    launched(c, "layernorm forward");
}

static void layernorm_bwd(const struct op_args *c)
{
    norms::run_backward<true>(c);
    launched(c, "layernorm backward");
}

const struct kernel layernorm_cuda = {
    .forward = layernorm_fwd, .backward = layernorm_bwd, .scratch = norms::scratch, .sets = 1};
