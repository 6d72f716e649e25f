/* ratio: out[0] = sum over[i] x[i] / sum under[i] x[i] of x = in0 f64 [1, n], or 0 where the
 * divisor is 0. Terms with a factor of 0 do not count, whatever their x. */
#include "../op.h"

static void ratio_fwd(const struct op_args *c)
{
    const struct ratio_params *p = &c->p.ratio;
    const double *x = c->in[0].v;
    double over = 0, under = 0;
    for (int64_t i = 0; i < c->in[0].cols; i++) {
        over += p->over[i] != 0 ? p->over[i] * x[i] : 0;
        under += p->under[i] != 0 ? p->under[i] * x[i] : 0;
    }
    double ratio = under == 0 ? 0 : over / under;
    p->out[0] = ratio > p->most ? p->most : (float)ratio;
}

const struct kernel ratio_cpu = {.forward = ratio_fwd};
