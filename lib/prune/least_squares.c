/* Sums, Cholesky factorisation and solution: see least_squares.h. All long loops are one product,
 * of panels of LANES columns: sums over rows, and the update of the factorisation. */
#include "least_squares.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../base/minmax.h"
#include "dot.h"

/* columns of a panel; rows of a tile; columns that the factorisation eliminates at a time; targets
 * that are solved together */
enum { LANES = 8, TILE = 128, STEP = 64, TOGETHER = 16 };

static int64_t panels(int64_t n) { return (n + LANES - 1) / LANES; }

static int64_t packed_count(int64_t inputs, int64_t outputs)
{
    return (panels(inputs) + panels(outputs)) * TILE * LANES;
}

int64_t least_squares_bytes(int64_t inputs, int64_t outputs)
{
    size_t parts[] = {(size_t)(inputs * inputs), (size_t)(outputs * inputs), (size_t)outputs,
                      (size_t)inputs, (size_t)packed_count(inputs, outputs)},
           bytes = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        bytes += arena_round(parts[i] * sizeof(double));
    return (int64_t)bytes;
}

static double *take(struct least_squares *s, int64_t n)
{
    return arena_take(&s->memory, (size_t)n * sizeof(double));
}

int least_squares_open(struct least_squares *s, int64_t inputs, int64_t outputs, int has_offset,
                       struct err *e)
{
    *s = (struct least_squares){.inputs = inputs, .outputs = outputs, .has_offset = has_offset};
    if (arena_open(&s->memory, (size_t)least_squares_bytes(inputs, outputs), e))
        return -1;
    s->gram = take(s, inputs * inputs);
    s->cross = take(s, outputs * inputs);
    s->offset = take(s, outputs);
    s->inputs_sum = take(s, inputs);
    s->packed = take(s, packed_count(inputs, outputs));
    return 0;
}

void least_squares_close(struct least_squares *s)
{
    arena_close(&s->memory);
    *s = (struct least_squares){0};
}

/* ---- products of panels */

/* a row of a panel */
typedef double lanes __attribute__((vector_size(LANES * sizeof(double))));

/* to[i, j] += sign * sum over rows of a[row][i] b[row][j], for the first m and n of LANES columns;
 * stride: of the rows of `to`. */
static void panel_product(const double *restrict a, const double *restrict b, int64_t rows,
                          double sign, double *to, int64_t stride, int64_t m, int64_t n)
{
    lanes sum[LANES] = {0};
    for (int64_t t = 0; t < rows; t++) {
        lanes row = *(const lanes *)(b + t * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < LANES; i++)
            sum[i] += a[t * LANES + i] * row;
    }
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++)
            to[i * stride + j] += sign * sum[i][j];
}

/* to += sign * a^T b, of panels `rows` rows high; m, n: columns of a and b; lower: only where i >=
 * j, to panels. */
static void product(const double *a, const double *b, int64_t rows, double sign, double *to,
                    int64_t stride, int64_t m, int64_t n, int lower)
{
#pragma omp parallel for schedule(dynamic)
    for (int64_t i = 0; i < panels(m); i++)
        for (int64_t j = 0; j < panels(n) && !(lower && j > i); j++)
            panel_product(a + i * rows * LANES, b + j * rows * LANES, rows, sign,
                          to + i * LANES * stride + j * LANES, stride, min64(LANES, m - i * LANES),
                          min64(LANES, n - j * LANES));
}

/* ---- sums */

/* x [rows, n] into panels; what lies beyond n is zero */
static void pack(const float *x, int64_t rows, int64_t n, double *to)
{
    memset(to, 0, (size_t)(panels(n) * rows * LANES) * sizeof *to);
    for (int64_t t = 0; t < rows; t++)
        for (int64_t i = 0; i < n; i++)
            to[(i / LANES * rows + t) * LANES + i % LANES] = x[t * n + i];
}

static void add_columns(double *sums, const float *x, int64_t rows, int64_t n)
{
    for (int64_t t = 0; t < rows; t++)
        for (int64_t i = 0; i < n; i++)
            sums[i] += x[t * n + i];
}

static void add_tile(struct least_squares *s, const float *z, const float *r, int64_t rows)
{
    int64_t n = s->inputs, m = s->outputs;
    double *in = s->packed, *out = in + panels(n) * rows * LANES;
    pack(z, rows, n, in);
    pack(r, rows, m, out);
    product(in, in, rows, 1, s->gram, n, n, n, 1);
    product(out, in, rows, 1, s->cross, n, m, n, 0);
    add_columns(s->inputs_sum, z, rows, n);
    add_columns(s->offset, r, rows, m);
    for (int64_t i = 0; i < rows * m; i++)
        s->squares += (double)r[i] * r[i];
    s->rows += rows;
}

void least_squares_add(struct least_squares *s, const float *z, const float *r, int64_t rows)
{
    for (int64_t at = 0; at < rows; at += TILE)
        add_tile(s, z + at * s->inputs, r + at * s->outputs, min64(TILE, rows - at));
}

/* ---- solution */

/* Sums of products become those of differences from the means. */
static void centre(struct least_squares *s)
{
    int64_t n = s->inputs;
    double rows = (double)s->rows;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i; j++)
            s->gram[i * n + j] -= s->inputs_sum[i] * s->inputs_sum[j] / rows;
    for (int64_t i = 0; i < s->outputs; i++) {
        for (int64_t j = 0; j < n; j++)
            s->cross[i * n + j] -= s->offset[i] * s->inputs_sum[j] / rows;
        s->squares -= s->offset[i] * s->offset[i] / rows;
    }
}

double least_squares_scale(const struct least_squares *s)
{
    double sum = 0;
    for (int64_t i = 0; i < s->inputs; i++)
        sum += s->gram[i * s->inputs + i];
    return sum / (double)s->inputs;
}

/* Columns k..k+n-1 of the factor, from what the earlier columns have left of them. least: a pivot
 * that is not larger is rounding error. -1: there is one. */
static int factor_columns(double *g, int64_t stride, int64_t k, int64_t n, double least)
{
    for (int64_t i = k; i < k + n; i++) {
        double *row = g + i * stride + k;
        for (int64_t j = 0; j < i - k; j++)
            row[j] = (row[j] - dot64(row, g + (k + j) * stride + k, j)) /
                     g[(k + j) * stride + k + j];
        double pivot = row[i - k] - dot64(row, row, i - k);
        if (!(pivot > least))
            return -1;
        row[i - k] = sqrt(pivot);
    }
#pragma omp parallel for schedule(static)
    for (int64_t i = k + n; i < stride; i++) {
        double *row = g + i * stride + k;
        for (int64_t j = 0; j < n; j++)
            row[j] = (row[j] - dot64(row, g + (k + j) * stride + k, j)) /
                     g[(k + j) * stride + k + j];
    }
    return 0;
}

/* g, lower triangle [n, n], becomes its Cholesky factor. */
static int factor(double *g, int64_t n, double *panel, double least)
{
    for (int64_t k = 0; k < n; k += STEP) {
        int64_t width = min64(STEP, n - k), next = k + width, below = n - next;
        if (factor_columns(g, n, k, width, least))
            return -1;
        memset(panel, 0, (size_t)(panels(below) * width * LANES) * sizeof *panel);
        for (int64_t i = 0; i < below; i++)
            for (int64_t t = 0; t < width; t++)
                panel[(i / LANES * width + t) * LANES + i % LANES] = g[(next + i) * n + k + t];
        product(panel, panel, width, -1, g + next * n + next, n, below, below, 1);
    }
    return 0;
}

/* Rows first..first+many-1 of `cross` times the inverse of L L^T, in x [inputs][TOGETHER]. */
static void solve_rows(const struct least_squares *s, int64_t first, int64_t many,
                       double (*restrict x)[TOGETHER])
{
    int64_t n = s->inputs;
    const double *restrict g = s->gram;
    memset(x, 0, (size_t)n * sizeof *x);
    for (int64_t r = 0; r < many; r++)
        for (int64_t i = 0; i < n; i++)
            x[i][r] = s->cross[(first + r) * n + i];
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < i; j++)
#pragma omp simd
            for (int r = 0; r < TOGETHER; r++)
                x[i][r] -= g[i * n + j] * x[j][r];
        for (int r = 0; r < TOGETHER; r++)
            x[i][r] /= g[i * n + i];
    }
    for (int64_t i = n - 1; i >= 0; i--) {
        for (int r = 0; r < TOGETHER; r++)
            x[i][r] /= g[i * n + i];
        for (int64_t j = 0; j < i; j++)
#pragma omp simd
            for (int r = 0; r < TOGETHER; r++)
                x[j][r] -= g[i * n + j] * x[i][r];
    }
}

/* What rows first.. leave of the squares: |r|^2 - 2 D C + D G D, and D (G + lambda) = C. */
static double take_rows(struct least_squares *s, int64_t first, int64_t many, double lambda,
                        double (*x)[TOGETHER])
{
    double explained = 0;
    for (int64_t r = 0; r < many; r++)
        for (int64_t i = 0; i < s->inputs; i++) {
            double *c = &s->cross[(first + r) * s->inputs + i], d = x[i][r];
            explained += d * (*c + lambda * d);
            *c = d;
        }
    return explained;
}

static void solve_all(struct least_squares *s, double lambda)
{
    double explained = 0;
#pragma omp parallel
    {
        double(*x)[TOGETHER] = mem_alloc((size_t)s->inputs * sizeof *x);
#pragma omp for ordered schedule(dynamic)
        for (int64_t r = 0; r < s->outputs; r += TOGETHER) {
            int64_t many = min64(TOGETHER, s->outputs - r);
            solve_rows(s, r, many, x);
#pragma omp ordered
            explained += take_rows(s, r, many, lambda, x);
        }
        free(x);
    }
    s->left = s->squares - explained;
}

static void find_offset(struct least_squares *s)
{
    for (int64_t i = 0; i < s->outputs; i++) {
        double of_inputs = dot64(s->cross + i * s->inputs, s->inputs_sum, s->inputs);
        s->offset[i] = s->has_offset ? (s->offset[i] - of_inputs) / (double)s->rows : 0;
    }
}

int least_squares_solve(struct least_squares *s, double ridge, struct err *e)
{
    if (s->has_offset)
        centre(s);
    double scale = least_squares_scale(s), lambda = scale > 0 ? ridge * scale : 1;
    if (!isfinite(scale) || !isfinite(s->squares))
        return err_set(e, "activations are not finite");
    for (int64_t i = 0; i < s->inputs; i++)
        s->gram[i * s->inputs + i] += lambda;
    if (factor(s->gram, s->inputs, s->packed, 1e-14 * scale))
        return err_set(e,
                       "its %lld inputs are linearly dependent on these %lld tokens: use more "
                       "tokens or a larger ridge",
                       (long long)s->inputs, (long long)s->rows);
    solve_all(s, lambda);
    find_offset(s);
    return 0;
}
