/* rowcos: cosines of rows at points of a ring. in0 [slots][in0.rows, N]: point p lies in slot p % slots, its rows 0..T-1 count. For the points p = from..to-1 and
 * n = 1..back, as far as p - n >= 0: out[((p - from) * back + n - 1) * T + t] = cosine of row t at p and at p - n, in f64; 0 where a row is all zeros.
 * Row after row is taken at all points together, so that each is read from memory once, and four cosines share what is read of an earlier point. */
#include <math.h>

#include "../op.h"

enum { FOUR = 4 };

static const float *row_at(const struct call *c, int64_t point, int64_t t)
{
    return (const float *)c->in[0].v + (point % c->p.rowcos.slots * c->in[0].rows + t) * c->in[0].cols;
}

static void products(const float *restrict x, const float *const y[FOUR], int64_t n, double xy[FOUR])
{
    const float *restrict y0 = y[0], *restrict y1 = y[1], *restrict y2 = y[2], *restrict y3 = y[3];
    double s0 = 0, s1 = 0, s2 = 0, s3 = 0;
#pragma omp simd reduction(+ : s0, s1, s2, s3)
    for (int64_t i = 0; i < n; i++) {
        double v = x[i];
        s0 += v * y0[i];
        s1 += v * y1[i];
        s2 += v * y2[i];
        s3 += v * y3[i];
    }
    xy[0] = s0;
    xy[1] = s1;
    xy[2] = s2;
    xy[3] = s3;
}

static double norm(const float *x, int64_t n)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    return sqrt(sum);
}

/* The cosines of row t at points p..p+points-1 with all before them. */
static void row_cosines(const struct call *c, int64_t t, int64_t p, int64_t points)
{
    const struct rowcos_params *r = &c->p.rowcos;
    const float *late[FOUR];
    double norms[FOUR], xy[FOUR];
    for (int64_t k = 0; k < FOUR; k++) {        /* points that are not there repeat the last one */
        late[k] = row_at(c, p + (k < points ? k : points - 1), t);
        norms[k] = norm(late[k], c->in[0].cols);
    }
    for (int64_t q = p > r->back ? p - r->back : 0; q < p + points - 1; q++) {
        const float *early = row_at(c, q, t);
        double length = norm(early, c->in[0].cols);
        products(early, late, c->in[0].cols, xy);
        for (int64_t k = 0; k < points; k++) {
            int64_t n = p + k - q;
            if (n >= 1 && n <= r->back)
                r->out[((p + k - r->from) * r->back + n - 1) * c->rows + t] = length == 0 || norms[k] == 0 ? 0 : xy[k] / (length * norms[k]);
        }
    }
}

void rowcos_fwd_cpu(const struct call *c)
{
    const struct rowcos_params *r = &c->p.rowcos;
#pragma omp parallel for schedule(static) num_threads(c->x->threads)
    for (int64_t t = 0; t < c->rows; t++)
        for (int64_t p = r->from; p < r->to; p += FOUR)
            row_cosines(c, t, p, r->to - p < FOUR ? r->to - p : FOUR);
}
