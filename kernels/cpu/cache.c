/* cache: puts the rows of a call where attention keeps them between calls (generation):
 * y[s * kv_len + pos0 + j] = x[s * seq_len + j]. Other rows of y stay. Forward only. */
#include "../op.h"

#include <string.h>

static void cache_fwd(const struct op_args *c)
{
    const struct batch *b = c->batch;
    size_t row = (size_t)c->in[0].cols * sizeof(float), bytes = (size_t)b->seq_len * row;
    for (int64_t s = 0; s < b->n_seq; s++)
        memcpy((char *)c->out.v + (size_t)(s * b->kv_len + b->pos0) * row,
               (const char *)c->in[0].v + (size_t)s * bytes, bytes);
}

const struct kernel cache_cpu = {.forward = cache_fwd};
