/* sumsq: p.sumsq.out[0] += sum of squares of in0 [rows, cols], in f64. The range is cut in a fixed
 * number of pieces whose sums are added in order, so that the result depends on the values and
 * their number only, not on the threads. */
#include "../../lib/base/minmax.h"
#include "../op.h"

enum { PIECES = 256 };

static void sumsq_fwd(const struct op_args *c)
{
    const float *x = c->in[0].v;
    int64_t n = c->in[0].rows * c->in[0].cols, piece = (n + PIECES - 1) / PIECES;
    double sums[PIECES];
#pragma omp parallel for schedule(static) num_threads(c->x->threads)
    for (int i = 0; i < PIECES; i++) {
        int64_t end = min64((i + 1) * piece, n);
        double sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = i * piece; j < end; j++)
            sum += (double)x[j] * x[j];
        sums[i] = sum;
    }
    for (int i = 0; i < PIECES; i++)
        c->p.sumsq.out[0] += sums[i];
}

const struct kernel sumsq_cpu = {.forward = sumsq_fwd};
