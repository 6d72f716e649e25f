/* The table of ops and their dispatch: see op.h. The table is ops.def, included twice more. */
#include "backend.h"

#include <assert.h>

#include "../lib/base/usage.h"

const struct op_info ops[OP_COUNT] = {
#define OP(name, inputs, weights, traits, reads, memo) {#name, inputs, weights, traits, reads},
#include "ops.def"
#undef OP
};

int64_t op_memo(enum op op, const struct op_args *c)
{
    switch (op) {
#define OP(name, inputs, weights, traits, reads, memo) \
    case OP_##name: \
        return memo;
#include "ops.def"
#undef OP
    case OP_COUNT: break;
    }
    return (void)c, 0;
}

int64_t op_state(enum op op, const struct op_args *c)
{
    const struct scan_params *s = &c->p.scan;
    if (op == OP_conv) /* the inputs that the next token's output reads */
        return (c->p.conv.width - 1) * c->p.conv.channels;
    return op == OP_scan ? s->heads * s->head_dim * s->state : 0;
}

const struct kernel *op_kernel(const struct exec *x, enum op op)
{
    static const struct kernel none;
    const struct kernel *k = backend_of(x)->kernels[op];
    return k ? k : &none;
}

size_t op_scratch(enum op op, const struct op_args *c)
{
    const struct kernel *k = op_kernel(c->x, op);
    return k->scratch ? k->scratch(c) : 0;
}

int op_check(enum op op, const struct op_args *c, struct err *e)
{
    const struct kernel *k = op_kernel(c->x, op);
    return k->check ? k->check(c, e) : 0;
}

/* Missing kernels were refused when the tape was recorded. After a device error further calls do
 * nothing. */
static void op_run(op_fn *fn, const struct op_args *c, double *seconds)
{
    assert(fn);
    if (c->x->err.set)
        return;
    double start = usage_seconds();
    fn(c);
    *seconds += usage_seconds() - start;
}

void op_forward(enum op op, const struct op_args *c)
{
    op_run(op_kernel(c->x, op)->forward, c, &c->x->seconds[op][0]);
}

void op_backward(enum op op, const struct op_args *c)
{
    op_run(op_kernel(c->x, op)->backward, c, &c->x->seconds[op][1]);
}
