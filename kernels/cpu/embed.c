/* embed: y[T,E] = scale * w[ids[t]], w[V,E] f32, bf16, f16 or q8_0. Backward: dw[ids[t]] += scale *
 * dy[t], in the order of t for any number of threads: each thread owns some columns. Ids must
 * be below V (the tape checks them). */
#include "../../lib/base/minmax.h"
#include "weights.h"

enum { COLUMNS = 128, SERIAL = 65536 };

static void embed_fwd(const struct op_args *c)
{
    const struct operand *w = &c->w[0];
    int64_t E = w->cols;
    float scale = c->p.scale.scale, *out = c->out.v;
#pragma omp parallel for schedule(static) num_threads(c->x->threads) if (c->rows * E > SERIAL)
    for (int64_t t = 0; t < c->rows; t++) {
        float *restrict y = out + t * E;
        vec_widen(y, weight_row(w, c->batch->ids[t]), w->dtype, E);
        for (int64_t i = 0; i < E && scale != 1; i++)
            y[i] *= scale;
    }
}

static void embed_bwd(const struct op_args *c)
{
    int64_t E = c->w[0].cols;
    float scale = c->p.scale.scale;
    if (!c->w[0].g)
        return;
#pragma omp parallel for schedule(static) num_threads(c->x->threads) if (c->rows * E > SERIAL)
    for (int64_t first = 0; first < E; first += COLUMNS) {
        int64_t n = min64(COLUMNS, E - first);
        for (int64_t t = 0; t < c->rows; t++) {
            const float *restrict dy = c->out.g + t * E + first;
            float *restrict dw = c->w[0].g + c->batch->ids[t] * E + first;
            for (int64_t i = 0; i < n; i++)
                dw[i] += scale * dy[i];
        }
    }
}

const struct kernel embed_cpu = {.forward = embed_fwd, .backward = embed_bwd};
