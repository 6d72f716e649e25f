/* column_sum: p.column_sum.out[i] += sum of column i of in0 [T, cols], all f64, row after row. For
 * the losses of a step, which are few: one thread. */
#include "../op.h"

static void column_sum_fwd(const struct op_args *c)
{
    const double *x = c->in[0].v;
    int64_t cols = c->in[0].cols;
    for (int64_t t = 0; t < c->rows; t++)
        for (int64_t i = 0; i < cols; i++)
            c->p.column_sum.out[i] += x[t * cols + i];
}

const struct kernel column_sum_cpu = {.forward = column_sum_fwd};
