/* rmsnorm on CUDA: see kernels/cpu/rmsnorm.c for formulas and shapes, norm.h for the kernels. */
#include "norm.h"

static void rmsnorm_fwd(const struct op_args *c)
{
    norms::run_forward<false>(c);
    launched(c, "rmsnorm forward");
}

static void rmsnorm_bwd(const struct op_args *c)
{
    norms::run_backward<false>(c);
    launched(c, "rmsnorm backward");
}

const struct kernel rmsnorm_cuda = {
    .forward = rmsnorm_fwd, .backward = rmsnorm_bwd, .scratch = norms::scratch, .sets = 1};
