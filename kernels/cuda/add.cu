/* add on CUDA: see kernels/cpu/add.c. */
#include "add.h"

template <class T>
static void add(const struct op_args *c, const void *a, const void *b, void *y, float scale)
{
    map<T>(c, c->rows * c->in[0].cols, aligned16(a) && aligned16(b) && aligned16(y),
           add_scaled<T>{(const T *)a, (const T *)b, (T *)y, scale});
}

static void add_fwd(const struct op_args *c)
{
    BY_DTYPE(c->out.dtype, T, add<T>(c, c->in[0].v, c->in[1].v, c->out.v, c->p.scale.scale));
    launched(c, "add forward");
}

static void add_bwd(const struct op_args *c)
{
    BY_DTYPE(c->out.dtype, T, {
        if (c->in[0].g)
            add<T>(c, c->in[0].overwrite ? NULL : c->in[0].g, c->out.g, c->in[0].g, 1);
        if (c->in[1].g)
            add<T>(c, c->in[1].overwrite ? NULL : c->in[1].g, c->out.g, c->in[1].g,
                   c->p.scale.scale);
    });
    launched(c, "add backward");
}

const struct kernel add_cuda = {.forward = add_fwd, .backward = add_bwd, .sets = 1};
