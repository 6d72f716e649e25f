/* layernorm: per row and group of n channels, y = h (w0 + plus1) + w1 with h = (x - mean) r, r = 1
 * / sqrt(var + eps), var over n (Ba et al. 2016, eq. 4). x[T, groups*n]; w0, w1 [n] shared by the
 * groups, or [groups*n], either may be absent (1, 0); memo[T, 2 groups] = mean, r. Backward, with u
 * = dy (w0 + plus1): dx += r (u - mean(u) - h mean(u h)), dw0 += sum over rows of dy h, dw1 += sum
 * of dy. Sums in f64. */
#include "norm.h"

#include <math.h>

static void forward_group(const float *restrict x, const float *restrict w, const float *restrict b,
                          float plus1, float eps, int64_t n, float *restrict y,
                          float *restrict memo)
{
    double sum = 0, square = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i];
    double mean = sum / (double)n;
#pragma omp simd reduction(+ : square)
    for (int64_t i = 0; i < n; i++)
        square += (x[i] - mean) * (x[i] - mean);
    float m = memo[0] = (float)mean,
          r = memo[1] = (float)(1 / sqrt(square / (double)n + (double)eps));
    for (int64_t i = 0; i < n; i++) {
        float gain = w ? w[i] + plus1 : 1;
        float shift = b ? b[i] : 0;
        y[i] = (x[i] - m) * r * gain + shift;
    }
}

static void layernorm_fwd(const struct op_args *c)
{
    int64_t groups = c->p.norm.groups, cols = c->in[0].cols, n = cols / groups;
#pragma omp parallel for schedule(static) \
    num_threads(c->x->threads) if (c->rows * cols > NORM_SERIAL)
    for (int64_t t = 0; t < c->rows; t++)
        for (int64_t k = 0; k < groups; k++) {
            int64_t at = t * cols + k * n;
            forward_group((const float *)c->in[0].v + at, norm_part(&c->w[0], k, n),
                          norm_part(&c->w[1], k, n), c->p.norm.plus1, c->p.norm.eps, n,
                          (float *)c->out.v + at, c->memo + 2 * (t * groups + k));
        }
}

static void backward_group(const float *restrict x, const float *restrict w,
                           const float *restrict dy, float plus1, const float *memo, int64_t n,
                           float *restrict dx)
{
    float m = memo[0], r = memo[1];
    double u = 0, uh = 0;
#pragma omp simd reduction(+ : u, uh)
    for (int64_t i = 0; i < n; i++) {
        double v = (double)(dy[i] * (w ? w[i] + plus1 : 1));
        u += v;
        uh += v * (double)(x[i] - m);
    }
    float shift = (float)(u / (double)n), back = (float)(uh * r * r / (double)n);
    for (int64_t i = 0; i < n; i++)
        dx[i] += r * (dy[i] * (w ? w[i] + plus1 : 1) - shift - (x[i] - m) * back);
}

static void backward_weight(const float *restrict x, const float *restrict dy, const float *memo,
                            int64_t n, double *restrict dw)
{
    float m = memo[0], r = memo[1];
    for (int64_t i = 0; i < n; i++)
        dw[i] += (double)(dy[i] * ((x[i] - m) * r));
}

static void backward_bias(const float *restrict dy, int64_t n, double *restrict db)
{
    for (int64_t i = 0; i < n; i++)
        db[i] += (double)dy[i];
}

/* dw, db: this thread's sums, NULL if not wanted. */
static void backward_row(const struct op_args *c, int64_t t, double *dw, double *db)
{
    int64_t groups = c->p.norm.groups, cols = c->in[0].cols, n = cols / groups;
    for (int64_t k = 0; k < groups; k++) {
        int64_t at = t * cols + k * n;
        const float *x = (const float *)c->in[0].v + at, *dy = c->out.g + at,
                    *memo = c->memo + 2 * (t * groups + k);
        if (c->in[0].g)
            backward_group(x, norm_part(&c->w[0], k, n), dy, c->p.norm.plus1, memo, n,
                           c->in[0].g + at);
        if (dw)
            backward_weight(x, dy, memo, n, dw + (c->w[0].rows == n ? 0 : k * n));
        if (db)
            backward_bias(dy, n, db + (c->w[1].rows == n ? 0 : k * n));
    }
}

static void layernorm_bwd(const struct op_args *c)
{
    int64_t nw = c->w[0].v && c->w[0].g ? c->w[0].rows : 0,
            nb = c->w[1].v && c->w[1].g ? c->w[1].rows : 0;
    int used = 1;
#pragma omp parallel num_threads(c->x->threads) if (c->rows * c->in[0].cols > NORM_SERIAL)
    {
        double *sums = nw + nb ? norm_sums(c, nw + nb, &used) : NULL;
        double *db = nb ? sums + nw : NULL;
#pragma omp for schedule(static)
        for (int64_t t = 0; t < c->rows; t++)
            backward_row(c, t, nw ? sums : NULL, db);
    }
    norm_reduce(c->scratch, used, nw + nb, 0, nw, c->w[0].g);
    norm_reduce(c->scratch, used, nw + nb, nw, nb, c->w[1].g);
}

const struct kernel layernorm_cpu = {
    .forward = layernorm_fwd, .backward = layernorm_bwd, .scratch = norm_scratch};
