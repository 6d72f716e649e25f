/* rowcos: p.rowcos.out[t] = cosine of row t of in0 and row t of in1, [T,N] each, in f64; 0 where a row is all zeros. */
#include <math.h>

#include "../op.h"

void rowcos_fwd_cpu(const struct call *c)
{
    int64_t n = c->in[0].cols;
#pragma omp parallel for schedule(static) num_threads(c->x->threads)
    for (int64_t t = 0; t < c->rows; t++) {
        const float *a = (const float *)c->in[0].v + t * n, *b = (const float *)c->in[1].v + t * n;
        double ab = 0, aa = 0, bb = 0;
#pragma omp simd reduction(+ : ab, aa, bb)
        for (int64_t i = 0; i < n; i++) {
            double x = a[i], y = b[i];
            ab += x * y;
            aa += x * x;
            bb += y * y;
        }
        c->p.rowcos.out[t] = aa == 0 || bb == 0 ? 0 : ab / (sqrt(aa) * sqrt(bb));
    }
}
