/* References of the two ops of Mamba-2, conv and scan: each output from all tokens that it depends
 * on, without a state. */
#include "reference.h"

#include <math.h>
#include <stdlib.h>

/* ---- conv */

static void conv_shape(struct trial *t)
{
    static const enum dtype dtypes[] = {DT_F32, DT_BF16, DT_F16};
    int64_t C = t->large ? 200 : test_size(t, 1, 90);
    int64_t W = t->number % 3 ? 4 : test_size(t, 1, 7);
    test_rows(t, test_size(t, 1, 3), t->large ? 150 : test_size(t, 1, 20), 0);
    test_documents(t);
    t->call.in[0] = t->call.out = test_operand(t->call.rows, C);
    t->call.w[0] = test_operand(C, W);
    t->call.w[0].dtype = dtypes[t->number % 3];
    if (t->number % 4)
        t->call.w[1] = test_operand(C, 1);
    t->call.p.conv = (struct conv_params){C, W};
}

static void conv_reference(const struct trial *t, double *out)
{
    int64_t C = t->call.p.conv.channels, W = t->call.p.conv.width, T = t->batch.seq_len;
    for (int64_t r = 0; r < t->call.rows; r++)
        for (int64_t c = 0; c < C; c++) {
            double z = t->v[W1] ? t->v[W1][c] : 0;
            for (int64_t back = 0; back < W && r % T - back >= test_start(t, r); back++)
                z += t->v[W0][c * W + W - 1 - back] * t->v[IN0][(r - back) * C + c];
            out[r * C + c] = z / (1 + exp(-z));
        }
}

const struct op_test conv_test = {conv_shape, conv_reference, .tolerance = 1e-6, .roundings = 4,
                                  .matrix = 1};

/* ---- scan */

static void scan_shape(struct trial *t)
{
    static const int64_t sizes[] = {7, 64, 16, 80, 1, 33};
    struct scan_params *p = &t->call.p.scan;
    p->groups = test_size(t, 1, 3);
    p->heads = p->groups * test_size(t, 1, 3);
    p->head_dim = sizes[t->number % 6];
    p->state = t->number % 4 ? test_size(t, 1, 40) : 16;
    p->dt_min = t->number % 5 == 1 ? 0.2f : 0;
    p->dt_max = t->number % 5 == 1 ? 0.9f : INFINITY;
    test_rows(t, test_size(t, 1, 3), t->large ? 150 : test_size(t, 1, 25), 0);
    test_documents(t);
    t->call.in[0] = t->call.out = test_operand(t->call.rows, p->heads * p->head_dim);
    t->call.in[1] = t->call.in[2] = test_operand(t->call.rows, p->groups * p->state);
    t->call.in[3] = test_operand(t->call.rows, p->heads);
    for (int i = 0; i < 3; i++)
        t->call.w[i] = test_operand(p->heads, 1);
}

static double step(const struct trial *t, int64_t row, int64_t m)
{
    const struct scan_params *p = &t->call.p.scan;
    double d = log1p(exp(t->v[IN3][row * p->heads + m] + t->v[W1][m]));
    return fmin(fmax(d, p->dt_min), p->dt_max);
}

/* What token r of head m gets from token s, by channel: y += weight * x. sums[i]: steps up to row
 * i.
 */
static double weight(const struct trial *t, const double *sums, int64_t r, int64_t s, int64_t m)
{
    const struct scan_params *p = &t->call.p.scan;
    int64_t group = m / (p->heads / p->groups), cols = p->groups * p->state;
    const double *B = t->v[IN1] + s * cols + group * p->state,
                 *C = t->v[IN2] + r * cols + group * p->state;
    double product = 0;
    for (int64_t n = 0; n < p->state; n++)
        product += C[n] * B[n];
    return product * step(t, s, m) * exp(-exp(t->v[W0][m]) * (sums[r] - sums[s]));
}

static void head_reference(const struct trial *t, int64_t m, double *sums, double *out)
{
    const struct scan_params *p = &t->call.p.scan;
    int64_t T = t->batch.seq_len, M = p->heads, P = p->head_dim;
    for (int64_t r = 0; r < t->call.rows; r++) {
        sums[r] = (r ? sums[r - 1] : 0) + step(t, r, m);
        double *y = out + (r * M + m) * P;
        for (int64_t k = 0; k < P; k++)
            y[k] = t->v[W2][m] * t->v[IN0][(r * M + m) * P + k];
        for (int64_t s = r - r % T + test_start(t, r); s <= r; s++) {
            double w = weight(t, sums, r, s, m);
            for (int64_t k = 0; k < P; k++)
                y[k] += w * t->v[IN0][(s * M + m) * P + k];
        }
    }
}

static void scan_reference(const struct trial *t, double *out)
{
    double *sums = calloc((size_t)t->call.rows, sizeof *sums);
    for (int64_t m = 0; m < t->call.p.scan.heads; m++)
        head_reference(t, m, sums, out);
    free(sums);
}

const struct op_test scan_test = {scan_shape, scan_reference, .tolerance = 2e-6, .roundings = 8};
