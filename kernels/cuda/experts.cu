/* experts on CUDA: see kernels/cpu/experts.c. dx is summed over a token's experts from a product
 * for each, so that the order never changes. */
#include "routes.h"
#include "weights.h"

static size_t experts_scratch(const struct op_args *c) { return routes_scratch(c, c->w[0].cols); }

static int refused(const struct op_args *c)
{
    return weights_refused(c, "experts", &c->w[0], c->in[0].dtype);
}

static void experts_fwd(const struct op_args *c)
{
    if (refused(c))
        return;
    routes r = routes_of(c);
    BY_DTYPE(c->in[0].dtype, T, (narrow_rows<T, T>(c, r, (const T *)c->in[0].v, 1, (T *)c->out.v)));
    launched(c, "experts forward");
}

static void experts_bwd(const struct op_args *c)
{
    if (refused(c))
        return;
    routes r = routes_of(c);
    if (c->in[1].g && c->in[1].overwrite)
        exec_zero(c->x, c->in[1].g, (size_t)dtype_bytes(c->in[1].dtype, c->rows * r.X));
    BY_DTYPE(c->in[0].dtype, T, {
        const T *dy = (const T *)c->out.g;
        if (c->in[0].g) {
            widen_rows<T>(c, r, dy, (const T *)NULL);
            add_products<T>(c, r, (T *)c->in[0].g, c->in[0].overwrite);
        }
        add_weight_gradient<T>(c, r, dy, (const T *)c->in[0].v, (const T *)NULL);
    });
    launched(c, "experts backward");
}

const struct kernel experts_cuda = {
    .forward = experts_fwd, .backward = experts_bwd, .scratch = experts_scratch, .sets = 1};
