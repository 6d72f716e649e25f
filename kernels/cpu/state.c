/* state: how far the student's hidden states in0[T,N] are from the teacher's in1[T,N]. out f64 [T],
 * for a row a of in0 and b of in1
 *
 *   cosine   1 - a b / (|a| |b|), 1 where a norm is 0
 *   mse      mean (a - b)^2
 *
 * and 0 for padding. Backward: in0.g += f * gradient, f the product of the params' weight and the
 * step values. Sums of a row in f64; backward takes them again. */
#include <math.h>

#include "../op.h"

enum { SERIAL = 32768 }; /* values below which one thread is faster */

struct products {
    double aa, ab, bb;
};

static struct products row_products(const float *restrict a, const float *restrict b, int64_t n)
{
    double aa = 0, ab = 0, bb = 0;
#pragma omp simd reduction(+ : aa, ab, bb)
    for (int64_t i = 0; i < n; i++) {
        aa += (double)a[i] * a[i];
        ab += (double)a[i] * b[i];
        bb += (double)b[i] * b[i];
    }
    return (struct products){aa, ab, bb};
}

/* Rounding must not make it negative. */
static double row_cosine_loss(const float *a, const float *b, int64_t n)
{
    struct products p = row_products(a, b, n);
    double norms = sqrt(p.aa) * sqrt(p.bb), loss = norms == 0 ? 1 : 1 - p.ab / norms;
    return loss < 0 ? 0 : loss;
}

static double row_square_loss(const float *restrict a, const float *restrict b, int64_t n)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++)
        sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return sum / (double)n;
}

static void state_fwd(const struct op_args *c)
{
    int64_t n = c->in[0].cols;
    const float *a = c->in[0].v, *b = c->in[1].v;
    double *out = c->out.v;
    int is_cosine = c->p.state.loss == STATE_cosine;
#pragma omp parallel for schedule(static) num_threads(c->x->threads) if (c->rows * n > SERIAL)
    for (int64_t t = 0; t < c->rows; t++)
        if (c->batch->labels[t] == LABEL_PADDING)
            out[t] = 0;
        else
            out[t] = (is_cosine ? row_cosine_loss : row_square_loss)(a + t * n, b + t * n, n);
}

/* The gradient of a row is of_a * a + of_b * b. */
static void row_factors(const struct op_args *c, int64_t t, float f, float *of_a, float *of_b)
{
    int64_t n = c->in[0].cols;
    *of_a = *of_b = 0;
    if (c->batch->labels[t] == LABEL_PADDING)
        return;
    if (c->p.state.loss == STATE_mse) {
        *of_a = 2 * f / (float)n;
        *of_b = -*of_a;
        return;
    }
    struct products p = row_products((const float *)c->in[0].v + t * n,
                                     (const float *)c->in[1].v + t * n, n);
    double norms = sqrt(p.aa) * sqrt(p.bb);
    if (norms == 0)
        return;
    *of_a = (float)(f * p.ab / (norms * p.aa));
    *of_b = (float)(-f / norms);
}

static void state_bwd(const struct op_args *c)
{
    int64_t n = c->in[0].cols;
    int set = c->in[0].overwrite;
    float f = c->p.state.weight * c->step[STATE_SCALE] * c->step[STATE_WEIGHT];
    if (!c->in[0].g)
        return;
#pragma omp parallel for schedule(static) num_threads(c->x->threads) if (c->rows * n > SERIAL)
    for (int64_t t = 0; t < c->rows; t++) {
        const float *restrict a = (const float *)c->in[0].v + t * n;
        const float *restrict b = (const float *)c->in[1].v + t * n;
        float *restrict g = c->in[0].g + t * n, of_a, of_b;
        row_factors(c, t, f, &of_a, &of_b);
        for (int64_t i = 0; i < n; i++)
            g[i] = of_a * a[i] + of_b * b[i] + (set ? 0 : g[i]);
    }
}

const struct kernel state_cpu = {.forward = state_fwd, .backward = state_bwd, .sets = 1};
