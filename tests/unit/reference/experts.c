/* References of the ops of mixtures of experts. */
#include "reference.h"

#include <math.h>
#include <stdlib.h>

/* Is expert e among those of token t by its weights, input `in`? Of equal ones, the lower are. The
 * choice is that of the trial's values, whatever is added to them for a difference. */
static int is_chosen(const struct trial *t, int in, int64_t token, int64_t e)
{
    int64_t X = t->call.in[in].cols, before = 0;
    const float *weight = (const float *)t->call.in[in].v + token * X;
    for (int64_t i = 0; i < X; i++)
        before += weight[i] > weight[e] || (weight[i] == weight[e] && i < e);
    return before < t->call.p.route.top;
}

static void route_shape(struct trial *t)
{
    int64_t X = t->large ? 128 : test_size(t, 1, 12);
    test_rows(t, test_size(t, 1, 3), t->large ? 300 : test_size(t, 1, 20), 0);
    t->call.in[0] = t->call.out = test_operand(t->call.rows, X);
    int64_t most = X < 8 ? X : 8;
    t->call.p.route.top = t->number % 5 == 4 ? X : test_size(t, 1, most);
    t->call.p.route.renormalise = t->number % 2;
    t->spread = t->number % 3 == 2 ? 8 : 1;
}

static void route_reference(const struct trial *t, double *out)
{
    int64_t X = t->call.out.cols;
    for (int64_t i = 0; i < t->call.rows; i++) {
        const double *x = t->v[IN0] + i * X;
        double all = 0, chosen = 0;
        for (int64_t e = 0; e < X; e++) {
            all += exp(x[e]);
            chosen += is_chosen(t, 0, i, e) ? exp(x[e]) : 0;
        }
        double sum = t->call.p.route.renormalise ? chosen : all;
        for (int64_t e = 0; e < X; e++)
            out[i * X + e] = is_chosen(t, 0, i, e) ? exp(x[e]) / sum : 0;
    }
}

const struct op_test route_test = {route_shape, route_reference, .tolerance = 1e-6, .roundings = 2};

/* E, N, X, and weights as a device may hold them. */
static void experts_sizes(struct trial *t, int64_t *E, int64_t *N, int64_t *X)
{
    static const enum dtype dtypes[] = {DT_F32, DT_BF16, DT_F16, DT_Q8_0};
    enum dtype d = dtypes[(t->number + t->number / 4) % 4];
    *E = t->large ? 130 : test_size(t, 1, 70);
    *N = t->large ? 67 : test_size(t, 1, 40);
    *X = t->large ? 9 : test_size(t, 1, 6);
    if (d == DT_Q8_0)
        *E = (*E + Q8_BLOCK - 1) / Q8_BLOCK * Q8_BLOCK;
    test_rows(t, test_size(t, 1, 2), t->large ? 150 : test_size(t, 1, 12), 0);
    t->call.p.route.top = test_size(t, 1, *X < 3 ? *X : 3);
    t->call.in[1] = test_operand(t->call.rows, *X);
    t->call.w[0] = test_operand(*X * *N, *E);
    t->call.w[0].dtype = d;
}

static void experts_shape(struct trial *t)
{
    int64_t E, N, X;
    experts_sizes(t, &E, &N, &X);
    t->call.in[0] = test_operand(t->call.rows, E);
    t->call.out = test_operand(t->call.rows, t->call.p.route.top * N);
}

static void experts_reference(const struct trial *t, double *out)
{
    int64_t E = t->call.w[0].cols, X = t->call.in[1].cols, N = t->call.w[0].rows / X;
    for (int64_t i = 0; i < t->call.rows; i++)
        for (int64_t e = 0; e < X; e++) {
            if (!is_chosen(t, 1, i, e))
                continue;
            for (int64_t n = 0; n < N; n++, out++) {
                *out = 0;
                for (int64_t k = 0; k < E; k++)
                    *out += t->v[W0][(e * N + n) * E + k] * t->v[IN0][i * E + k];
            }
        }
}

const struct op_test experts_test = {experts_shape, experts_reference, .tolerance = 1e-6,
                                     .roundings = 3, .matrix = 1};

static void mixture_shape(struct trial *t)
{
    int64_t E, N, X;
    experts_sizes(t, &E, &N, &X);
    t->call.in[0] = test_operand(t->call.rows, t->call.p.route.top * N);
    t->call.out = test_operand(t->call.rows, E);
}

static void mixture_reference(const struct trial *t, double *out)
{
    int64_t E = t->call.w[0].cols, X = t->call.in[1].cols, N = t->call.w[0].rows / X;
    const double *h = t->v[IN0];
    for (int64_t i = 0; i < t->call.rows * E; i++)
        out[i] = 0;
    for (int64_t i = 0; i < t->call.rows; i++)
        for (int64_t e = 0; e < X; e++) {
            if (!is_chosen(t, 1, i, e))
                continue;
            for (int64_t n = 0; n < N; n++, h++)
                for (int64_t k = 0; k < E; k++)
                    out[i * E + k] += t->v[IN1][i * X + e] * *h * t->v[W0][(e * N + n) * E + k];
        }
}

/* the gradient of a weight is one sum of E N terms, which may cancel */
const struct op_test mixture_test = {mixture_shape, mixture_reference, .tolerance = 1e-5,
                                     .roundings = 4, .matrix = 1};

static void rowgate_shape(struct trial *t)
{
    test_rows(t, test_size(t, 1, 3), t->large ? 300 : test_size(t, 1, 20), 0);
    t->call.in[0] = t->call.out = test_operand(t->call.rows, t->large ? 257 : test_size(t, 1, 99));
    t->call.in[1] = test_operand(t->call.rows, 1);
}

static void rowgate_reference(const struct trial *t, double *out)
{
    int64_t cols = t->call.out.cols;
    for (int64_t i = 0; i < t->call.rows * cols; i++)
        out[i] = t->v[IN0][i] / (1 + exp(-t->v[IN1][i / cols]));
}

const struct op_test rowgate_test = {rowgate_shape, rowgate_reference, .tolerance = 1e-6,
                                     .roundings = 2};

static void expert_use_shape(struct trial *t)
{
    int64_t E, N, X;
    experts_sizes(t, &E, &N, &X);
    t->call.in[0] = test_operand(t->call.rows, t->call.p.route.top * N);
    t->call.out = test_operand(t->call.rows, 2 * X);
}

static void expert_use_reference(const struct trial *t, double *out)
{
    int64_t E = t->call.w[0].cols, X = t->call.in[1].cols, N = t->call.w[0].rows / X;
    const double *h = t->v[IN0];
    for (int64_t i = 0; i < t->call.rows * X; i++) {
        double squares = 0;
        int64_t e = i % X, at = i / X * 2 * X + e;
        out[at] = out[at + X] = 0;
        if (!is_chosen(t, 1, i / X, e))
            continue;
        for (int64_t k = 0; k < E; k++) {
            double z = 0;
            for (int64_t n = 0; n < N; n++)
                z += h[n] * t->v[W0][(e * N + n) * E + k];
            squares += z * z;
        }
        h += N;
        out[at] = t->v[IN1][i] * sqrt(squares);
        out[at + X] = 1;
    }
}

const struct op_test expert_use_test = {expert_use_shape, expert_use_reference, .tolerance = 1e-6,
                                        .roundings = 4, .matrix = 1};

/* ---- expert_stats */

static const char *expert_stats_compare(const struct trial *t, const float *h)
{
    const struct route_params *p = &t->call.p.route;
    int64_t X = t->call.in[1].cols, N = t->call.w[0].rows / X, len = t->batch.seq_len;
    double *sums = calloc((size_t)(3 * t->batch.n_seq * X * N), sizeof *sums), worst = 0;
    for (int64_t i = 0; i < t->call.rows * X; i++)
        for (int64_t n = 0; is_chosen(t, 1, i / X, i % X) && n < N; n++, h++) {
            double *sum = sums + 3 * ((i / X / len * X + i % X) * N + n);
            sum[0] += fabs((double)*h);
            sum[1] += (double)*h;
            sum[2] += (double)*h * *h;
        }
    for (int64_t at = 0; at < t->batch.n_seq * X * N; at++) {
        double T = (double)len, mean = sums[3 * at + 1] / T, square = sums[3 * at + 2] / T;
        worst = fmax(worst, fabs(p->out_mean[at] - sums[3 * at] / T));
        worst = fmax(worst, fabs(p->out_l2[at] - sqrt(sums[3 * at + 2])));
        worst = fmax(worst, fabs(p->out_var[at] - (square - mean * mean)));
    }
    free(sums);
    return worst < 1e-12 ? NULL : "a mean, norm or variance differs";
}

static void *as_activations(struct trial *t, struct operand *o, float *values)
{
    o->dtype = t->call.x->compute;
    return o->dtype == DT_BF16 ? test_narrow(t, values, o->rows * o->cols) : values;
}

static const char *expert_stats_whole(struct trial *t)
{
    int64_t E, N, X;
    experts_sizes(t, &E, &N, &X);
    t->call.in[0] = test_operand(t->call.rows, t->call.p.route.top * N);
    float *h = test_buffer(t, (size_t)(t->call.rows * t->call.in[0].cols) * 4),
          *weights = test_buffer(t, (size_t)(t->call.rows * X) * 4);
    test_fill(t, h, t->call.rows * t->call.in[0].cols, 1);
    test_fill(t, weights, t->call.rows * X, 1);
    for (int64_t i = 0; i < t->call.rows * X; i++) /* some are equal */
        weights[i] = rintf(weights[i]);
    t->call.in[0].v = as_activations(t, &t->call.in[0], h);
    t->call.in[1].v = as_activations(t, &t->call.in[1], weights);
    double **out[] = {&t->call.p.route.out_mean, &t->call.p.route.out_l2, &t->call.p.route.out_var};
    for (int i = 0; i < 3; i++)
        *out[i] = test_buffer(t, (size_t)(t->batch.n_seq * X * N) * 8);
    test_call(t, &t->call, 0);
    t->call.in[1].v = weights; /* as f32, for the comparison */
    return expert_stats_compare(t, h);
}

const struct op_test expert_stats_test = {.whole = expert_stats_whole};
