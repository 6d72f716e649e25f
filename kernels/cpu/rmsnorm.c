/* rmsnorm: per row and group of n channels, y = x r (w + plus1) with r = 1 / sqrt(mean(x^2) + eps)
 * (Zhang and Sennrich 2019, eq. 4). x[T, groups*n]; w[n] shared by the groups, or w[groups*n], or
 * absent (1); memo[T, groups] = r. Row sums and weight gradients in f64. Backward, with h = x r and
 * u = dy (w + plus1): dx += r (u - h mean(u h)), dw += sum over rows of dy h. */
#include "norm.h"

#include <math.h>

static void forward_group(const float *restrict x, const float *restrict w, float plus1, float eps,
                          int64_t n, float *restrict y, float *r)
{
    double square = 0;
#pragma omp simd reduction(+ : square)
    for (int64_t i = 0; i < n; i++)
        square += (double)x[i] * x[i];
    float f = *r = (float)(1 / sqrt(square / (double)n + (double)eps));
    if (w)
        for (int64_t i = 0; i < n; i++)
            y[i] = x[i] * f * (w[i] + plus1);
    else
        for (int64_t i = 0; i < n; i++)
            y[i] = x[i] * f;
}

static void rmsnorm_fwd(const struct op_args *c)
{
    int64_t groups = c->p.norm.groups, n = c->in[0].cols / groups, cols = c->in[0].cols;
    const float *x = c->in[0].v;
    float *y = c->out.v;
#pragma omp parallel for schedule(static) \
    num_threads(c->x->threads) if (c->rows * cols > NORM_SERIAL)
    for (int64_t t = 0; t < c->rows; t++)
        for (int64_t k = 0; k < groups; k++)
            forward_group(x + t * cols + k * n, norm_part(&c->w[0], k, n), c->p.norm.plus1,
                          c->p.norm.eps, n, y + t * cols + k * n, c->memo + t * groups + k);
}

static void backward_group(const float *restrict x, const float *restrict w,
                           const float *restrict dy, float plus1, float r, int64_t n,
                           float *restrict dx)
{
    double uh = 0;
#pragma omp simd reduction(+ : uh)
    for (int64_t i = 0; i < n; i++)
        uh += (double)(dy[i] * (w ? w[i] + plus1 : 1)) * x[i];
    float back = (float)(uh * r * r / (double)n);
    for (int64_t i = 0; i < n; i++)
        dx[i] += r * (dy[i] * (w ? w[i] + plus1 : 1) - x[i] * back);
}

static void backward_weight(const float *restrict x, const float *restrict dy, float r, int64_t n,
                            double *restrict dw)
{
    for (int64_t i = 0; i < n; i++)
        dw[i] += (double)(dy[i] * (x[i] * r));
}

static void backward_row(const struct op_args *c, int64_t t, double *dw)
{
    int64_t groups = c->p.norm.groups, cols = c->in[0].cols, n = cols / groups;
    for (int64_t k = 0; k < groups; k++) {
        int64_t at = t * cols + k * n;
        const float *x = (const float *)c->in[0].v + at, *dy = c->out.g + at;
        float r = c->memo[t * groups + k];
        if (c->in[0].g)
            backward_group(x, norm_part(&c->w[0], k, n), dy, c->p.norm.plus1, r, n,
                           c->in[0].g + at);
        if (dw)
            backward_weight(x, dy, r, n, dw + (c->w[0].rows == n ? 0 : k * n));
    }
}

static void rmsnorm_bwd(const struct op_args *c)
{
    int64_t n = c->w[0].v && c->w[0].g ? c->w[0].rows : 0;
    int used = 1;
#pragma omp parallel num_threads(c->x->threads) if (c->rows * c->in[0].cols > NORM_SERIAL)
    {
        double *dw = n ? norm_sums(c, n, &used) : NULL;
#pragma omp for schedule(static)
        for (int64_t t = 0; t < c->rows; t++)
            backward_row(c, t, dw);
    }
    norm_reduce(c->scratch, used, n, 0, n, c->w[0].g);
}

const struct kernel rmsnorm_cpu = {
    .forward = rmsnorm_fwd, .backward = rmsnorm_bwd, .scratch = norm_scratch};
