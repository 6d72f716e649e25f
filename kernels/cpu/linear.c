/* linear: y[T,M] = x[T,N] w0[M,N]^T + w1[M]; w0 f32, or bf16 / f16 (frozen), w1 f32 or absent.
 * Backward: dx += dy w0, dw0 += dy^T x, dw1 += column sums of dy (f64).
 * Half-precision weights are widened a panel of rows at a time, never as a whole. Up to ROWS_FEW rows (generation) weights are read once,
 * straight from memory, without a matrix product. Refuses nothing. */
#include "../op.h"
#include "vecmath.h"

#include <omp.h>

enum { ROWS_FEW = 4, PANEL_BYTES = 4 << 20, PANEL_MIN = 64, PIECE = 512, COLUMNS = 64 };

static int64_t panel_rows(const struct operand *w)
{
    int64_t n = PANEL_BYTES / 4 / (w->cols > 0 ? w->cols : 1);
    n = n < PANEL_MIN ? PANEL_MIN : n / PANEL_MIN * PANEL_MIN;
    return n < w->rows ? n : w->rows;
}

size_t linear_scratch(const struct call *c)
{
    const struct operand *w = &c->w[0];
    return w->dtype == DT_F32 ? 0 : (size_t)(panel_rows(w) * w->cols) * 4;
}

static const char *row_of(const struct operand *w, int64_t i)
{
    return (const char *)w->v + i * w->cols * (w->dtype == DT_F32 ? 4 : 2);
}

static float dot(const float *restrict a, const float *restrict b, int64_t n)
{
    float s = 0;
#pragma omp simd reduction(+ : s)
    for (int64_t i = 0; i < n; i++)
        s = FMA(a[i], b[i], s);
    return s;
}

/* y[t][i] for all t of row i of the weights, a piece of the row at a time so that it is widened into the nearest cache. */
static void row_times(const struct call *c, int64_t i)
{
    const struct operand *w = &c->w[0];
    int64_t M = w->rows, N = w->cols, size = w->dtype == DT_F32 ? 4 : 2;
    const float *x = c->in[0].v, *bias = c->w[1].v;
    float *y = c->out.v, piece[PIECE];
    double sum[ROWS_FEW] = {0};
    for (int64_t j = 0; j < N; j += PIECE) {
        int64_t n = N - j < PIECE ? N - j : PIECE;
        const void *p = row_of(w, i) + j * size;
        if (w->dtype != DT_F32)
            vec_widen(piece, p, w->dtype, n);
        for (int64_t t = 0; t < c->rows; t++)
            sum[t] += dot(w->dtype == DT_F32 ? p : piece, x + t * N + j, n);
    }
    for (int64_t t = 0; t < c->rows; t++)
        y[t * M + i] = (float)(sum[t] + (bias ? bias[i] : 0));
}

static void forward_few(const struct call *c)
{
    int64_t M = c->w[0].rows;
#pragma omp parallel for schedule(static) num_threads(c->x->threads) if (M * c->w[0].cols > 65536)
    for (int64_t i = 0; i < M; i++)
        row_times(c, i);
}

/* Rows first..first+n-1 of the weights as f32: in place if they are, else in scratch. */
static const float *panel(const struct call *c, int64_t first, int64_t n)
{
    const struct operand *w = &c->w[0];
    if (w->dtype == DT_F32)
        return (const float *)row_of(w, first);
    float *to = c->scratch;
#pragma omp parallel for schedule(static) num_threads(c->x->threads) if (n * w->cols > 65536)
    for (int64_t i = 0; i < n; i++)
        vec_widen(to + i * w->cols, row_of(w, first + i), w->dtype, w->cols);
    return to;
}

void linear_fwd_cpu(const struct call *c)
{
    const struct operand *w = &c->w[0];
    int64_t M = w->rows, N = w->cols, step = w->dtype == DT_F32 ? M : panel_rows(w);
    const float *bias = c->w[1].v;
    float *y = c->out.v;
    if (c->rows <= ROWS_FEW) {
        forward_few(c);
        return;
    }
    if (bias)
#pragma omp parallel for schedule(static) num_threads(c->x->threads) if (c->rows * M > 65536)
        for (int64_t t = 0; t < c->rows; t++)
            memcpy(y + t * M, bias, (size_t)M * 4);
    for (int64_t first = 0; first < M; first += step) {
        int64_t n = M - first < step ? M - first : step;
        mm('N', 'T', c->rows, n, N, 1, c->in[0].v, N, panel(c, first, n), N, bias ? 1 : 0, y + first, M);
    }
}

/* db += column sums of dy, a block of columns at a time: the order of the sum depends on nothing but T. */
static void backward_bias(const struct call *c, const float *dy, float *db)
{
    int64_t M = c->w[0].rows;
#pragma omp parallel for schedule(static) num_threads(c->x->threads) if (c->rows * M > 65536)
    for (int64_t first = 0; first < M; first += COLUMNS) {
        int64_t n = M - first < COLUMNS ? M - first : COLUMNS;
        double sum[COLUMNS] = {0};
        for (int64_t t = 0; t < c->rows; t++)
            for (int64_t j = 0; j < n; j++)
                sum[j] += dy[t * M + first + j];
        for (int64_t j = 0; j < n; j++)
            db[first + j] += (float)sum[j];
    }
}

void linear_bwd_cpu(const struct call *c)
{
    const struct operand *w = &c->w[0];
    int64_t M = w->rows, N = w->cols, step = w->dtype == DT_F32 ? M : panel_rows(w);
    const float *dy = c->out.g;
    for (int64_t first = 0; c->in[0].g && first < M; first += step) {
        int64_t n = M - first < step ? M - first : step;
        mm('N', 'N', c->rows, N, n, 1, dy + first, M, panel(c, first, n), N, 1, c->in[0].g, N);
    }
    if (w->g)
        mm('T', 'N', M, N, c->rows, 1, dy, M, c->in[0].v, N, 1, w->g, N);
    if (c->w[1].v && c->w[1].g)
        backward_bias(c, dy, c->w[1].g);
}
