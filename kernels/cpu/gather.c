/* gather: the parts of a large range of values as a smaller one. See struct gather_params. Forward
 * sets out from in0; backward adds the gradient of out to that of in0. */
#include <string.h>

#include "../op.h"

/* In both directions each thread takes its share of the rows of every part. */
static void gather_fwd(const struct op_args *c)
{
    const struct gather_params *g = &c->p.gather;
    const char *x = c->in[0].v;
    char *y = c->out.v;
    size_t size = (size_t)dtype_bytes(c->out.dtype, 1);
#pragma omp parallel num_threads(c->x->threads)
    for (int64_t i = 0; i < g->n_parts; i++) {
        const struct gather_part *p = &g->parts[i];
#pragma omp for schedule(static) nowait
        for (int64_t r = 0; r < p->rows; r++)
            memcpy(y + (size_t)(p->to + r * p->to_stride) * size,
                   x + (size_t)(p->from + r * p->from_stride) * size, (size_t)p->cols * size);
    }
}

static void gather_bwd(const struct op_args *c)
{
    const struct gather_params *g = &c->p.gather;
#pragma omp parallel num_threads(c->x->threads)
    for (int64_t i = 0; i < g->n_parts; i++) {
        const struct gather_part *p = &g->parts[i];
#pragma omp for schedule(static) nowait
        for (int64_t r = 0; r < p->rows; r++) {
            const float *dy = c->out.g + p->to + r * p->to_stride;
            float *dx = c->in[0].g + p->from + r * p->from_stride;
#pragma omp simd
            for (int64_t j = 0; j < p->cols; j++)
                dx[j] += dy[j];
        }
    }
}

const struct kernel gather_cpu = {.forward = gather_fwd, .backward = gather_bwd};
