/* linear: y[T,M] = x[T,N] w0[M,N]^T + w1[M] + in1[T,M]; w0 f32, or bf16 / f16 / q8_0 (frozen); w1
 * f32; either of w1 and in1 may be absent. Backward: dx += dy w0, dw0 += dy^T x, dw1 += column sums
 * of dy (f64), din1 += dy. Weights that are not f32 are never widened as a whole, but a panel of
 * rows at a time, by the thread that needs it. For at most ROWS_FEW rows of x (generation) weights
 * are read once, straight from memory, without a matrix product. Refuses nothing. */
#include "../../lib/base/minmax.h"
#include "lanes.h"
#include "weights.h"

#include <omp.h>

enum {
    ROWS_FEW = 4,
    PANEL_BYTES = 1 << 20,
    PANEL_MIN = 64,
    PIECE = 2048,
    COLUMNS = 64,
    SERIAL = 32768,
    TOGETHER = 64, /* rows that a thread takes at a time */
    /* bytes to prefetch ahead: the loops are too short for the hardware's own prefetching */
    AHEAD = 4096,
    LINE = 64
};

static int64_t panel_rows(const struct operand *w)
{
    int64_t n = PANEL_BYTES / 4 / (w->cols > 0 ? w->cols : 1);
    n = n < PANEL_MIN ? PANEL_MIN : n / PANEL_MIN * PANEL_MIN;
    return min64(n, w->rows);
}

static size_t linear_scratch(const struct op_args *c)
{
    const struct operand *w = &c->w[0];
    return w->dtype == DT_F32 ? 0 : (size_t)(c->x->threads * panel_rows(w) * w->cols) * 4;
}

static inline __attribute__((always_inline)) float weight_at(const void *w, enum dtype d, int64_t i)
{
    if (d == DT_F32)
        return ((const float *)w)[i];
    return d == DT_BF16 ? vec_from_bits((uint32_t)((const uint16_t *)w)[i] << 16)
                        : vec_from_f16(((const uint16_t *)w)[i]);
}

static inline __attribute__((always_inline)) void lanes_of_weights(lanes *to, const void *w,
                                                                   enum dtype d, int64_t i)
{
    if (d == DT_F32)
        *to = *(const lanes *)((const float *)w + i);
    else if (d == DT_BF16)
        lanes_from_bf16(to, (const uint16_t *)w + i);
    else
        lanes_from_f16(to, (const uint16_t *)w + i);
}

/* Dot products of weights w[0..n-1] with one or four rows of x. There are four sums even for one
 * row, so that no product waits for the previous one. */
static inline __attribute__((always_inline)) void times(const void *w, enum dtype d,
                                                        const float *const x[ROWS_FEW],
                                                        int64_t rows, int64_t j, int64_t n,
                                                        double sum[ROWS_FEW])
{
    lanes s[ROWS_FEW] = {0}, v;
    int64_t i = 0, apart = 0, step = LANES;
    if (rows == 1) {
        apart = LANES;
        step = ROWS_FEW * LANES;
    }
    for (; i + step <= n; i += step) {
        for (int64_t at = 0; at < weight_bytes(d, step); at += LINE)
            /* past the end is allowed */
            __builtin_prefetch((const char *)w + weight_bytes(d, i) + AHEAD + at);
        for (int k = 0; k < ROWS_FEW; k++) {
            lanes_of_weights(&v, w, d, i + k * apart);
            s[k] += v * *(const lanes *)(x[rows == 1 ? 0 : k] + j + i + k * apart);
        }
    }
    if (rows == 1)
        s[0] += s[1] + s[2] + s[3];
    for (int64_t t = 0; t < rows; t++)
        sum[t] += (double)lanes_sum(&s[t]);
    for (; i < n; i++)
        for (int64_t t = 0; t < rows; t++)
            sum[t] += (double)(weight_at(w, d, i) * x[t][j + i]);
}

/* Dot products of n weights in q8_0 blocks with one or four rows of x: of the integers first, then
 * a block's sum times its scale. Scales are widened together: one alone takes as long as its
 * block's products. */
static inline __attribute__((always_inline)) void times_blocks(const char *block,
                                                               const float *const x[ROWS_FEW],
                                                               int64_t rows, int64_t j, int64_t n,
                                                               double sum[ROWS_FEW])
{
    uint16_t half[PIECE / Q8_BLOCK] = {0};
    float scale[PIECE / Q8_BLOCK];
    lanes s[ROWS_FEW] = {0};
    for (int64_t i = 0; i < n / Q8_BLOCK; i++)
        half[i] = *(const uint16_t *)(block + i * Q8_BYTES);
    for (int64_t i = 0; i < n / Q8_BLOCK; i += LANES)
        lanes_from_f16((lanes *)(scale + i), half + i);
    for (int64_t i = 0; i < n / Q8_BLOCK; i++, block += Q8_BYTES) {
        lanes part[ROWS_FEW] = {0};
        __builtin_prefetch(block + AHEAD);
        for (int k = 0; k < Q8_BLOCK; k += LANES, j += LANES) {
            lanes q;
            lanes_from_i8(&q, block + 2 + k);
            for (int64_t t = 0; t < rows; t++)
                part[t] += q * *(const lanes *)(x[t] + j);
        }
        for (int64_t t = 0; t < rows; t++)
            s[t] += scale[i] * part[t];
    }
    for (int64_t t = 0; t < rows; t++)
        sum[t] += (double)lanes_sum(&s[t]);
}

/* y[t][i] for all t of row i of the weights, which are read once. The sum of a piece is f32, the
 * rest f64. */
static inline __attribute__((always_inline)) void row_times(const struct op_args *c, enum dtype d,
                                                            int64_t i)
{
    int64_t M = c->w[0].rows, N = c->w[0].cols, last = c->rows - 1;
    const char *w = weight_row(&c->w[0], i);
    const float *x[ROWS_FEW], *bias = c->w[1].v, *plus = c->in[1].v;
    float *y = c->out.v;
    double sum[ROWS_FEW] = {0};
    for (int64_t t = 0; t < ROWS_FEW; t++) /* absent rows repeat the last one */
        x[t] = (const float *)c->in[0].v + min64(t, last) * N;
    for (int64_t j = 0; j < N; j += PIECE) {
        int64_t n = min64(PIECE, N - j);
        const void *p = w + weight_bytes(d, j);
        if (d == DT_Q8_0) {
            last == 0 ? times_blocks(p, x, 1, j, n, sum) : times_blocks(p, x, ROWS_FEW, j, n, sum);
            continue;
        }
        last == 0 ? times(p, d, x, 1, j, n, sum) : times(p, d, x, ROWS_FEW, j, n, sum);
    }
    for (int64_t t = 0; t <= last; t++)
        y[t * M + i] = (float)(sum[t] + (bias ? (double)bias[i] : 0) +
                               (plus ? (double)plus[t * M + i] : 0));
}

static void forward_few(const struct op_args *c)
{
    int64_t M = c->rows > 0 ? c->w[0].rows : 0;
#pragma omp parallel for schedule(dynamic, TOGETHER) \
    num_threads(c->x->threads) if (M * c->w[0].cols > SERIAL)
    for (int64_t i = 0; i < M; i++)
        switch (c->w[0].dtype) {
        case DT_F32: row_times(c, DT_F32, i); break;
        case DT_BF16: row_times(c, DT_BF16, i); break;
        case DT_Q8_0: row_times(c, DT_Q8_0, i); break;
        default: row_times(c, DT_F16, i); break;
        }
}

/* Rows first..first+n-1 of the weights as f32: in place if they are, else in the calling thread's
 * scratch. */
static const float *panel(const struct op_args *c, int64_t first, int64_t n)
{
    const struct operand *w = &c->w[0];
    return weight_rows(w, first, n,
                       (float *)c->scratch + omp_get_thread_num() * panel_rows(w) * w->cols);
}

/* Half-precision weights: each thread takes columns of y, that is rows of w, and widens those. */
static void forward_narrow(const struct op_args *c, float *y, int add)
{
    const struct operand *w = &c->w[0];
    int64_t M = w->rows, N = w->cols, threads = omp_get_num_threads(), i = omp_get_thread_num();
    int64_t end = mm_share_start(M, 1, threads, i + 1), n;
    for (int64_t first = mm_share_start(M, 1, threads, i); first < end; first += n) {
        n = min64(panel_rows(w), end - first);
        mm('N', 'T', c->rows, n, N, c->in[0].v, N, panel(c, first, n), N, add, y + first, M);
    }
}

/* What the product is added to: a row of in1, of the bias, or their sum. */
static void begin_row(const struct op_args *c, int64_t t)
{
    int64_t M = c->w[0].rows;
    const float *bias = c->w[1].v, *plus = c->in[1].v;
    float *y = (float *)c->out.v + t * M;
    memcpy(y, plus ? plus + t * M : bias, (size_t)M * 4);
    for (int64_t j = 0; plus && bias && j < M; j++)
        y[j] += bias[j];
}

static void linear_fwd(const struct op_args *c)
{
    const struct operand *w = &c->w[0];
    int64_t M = w->rows, N = w->cols;
    const int add = c->w[1].v || c->in[1].v;
    float *y = c->out.v;
    if (c->rows <= ROWS_FEW) {
        forward_few(c);
        return;
    }
#pragma omp parallel num_threads(c->x->threads) if (c->rows * M * N > SERIAL)
    {
        if (add)
#pragma omp for schedule(static)
            for (int64_t t = 0; t < c->rows; t++)
                begin_row(c, t);
        if (w->dtype == DT_F32)
            mm_share('N', 'T', c->rows, M, N, c->in[0].v, N, w->v, N, add, y, M);
        else
            forward_narrow(c, y, add);
    }
}

/* db += column sums of dy, a block of columns at a time. The order of summation depends on T only.
 */
static void backward_bias(const struct op_args *c, const float *dy, float *db)
{
    int64_t M = c->w[0].rows;
#pragma omp for schedule(static) nowait
    for (int64_t first = 0; first < M; first += COLUMNS) {
        int64_t n = min64(COLUMNS, M - first);
        double sum[COLUMNS] = {0};
        for (int64_t t = 0; t < c->rows; t++)
            for (int64_t j = 0; j < n; j++)
                sum[j] += dy[t * M + first + j];
        for (int64_t j = 0; j < n; j++)
            db[first + j] += (float)sum[j];
    }
}

/* Half-precision weights: each thread takes rows of dx and widens all of w for itself. */
static void backward_narrow(const struct op_args *c, const float *dy, float *dx)
{
    const struct operand *w = &c->w[0];
    int64_t M = w->rows, N = w->cols, threads = omp_get_num_threads(), i = omp_get_thread_num();
    int64_t t = mm_share_start(c->rows, 1, threads, i),
            rows = mm_share_start(c->rows, 1, threads, i + 1) - t;
    for (int64_t first = 0, n; first < M; first += n) {
        n = min64(panel_rows(w), M - first);
        mm('N', 'N', rows, N, n, dy + t * M + first, M, panel(c, first, n), N,
           first > 0 || !c->in[0].overwrite, dx + t * N, N);
    }
}

static void backward_summand(const struct op_args *c, const float *dy, float *g)
{
#pragma omp for schedule(static) nowait
    for (int64_t i = 0; i < c->rows * c->in[1].cols; i++)
        g[i] = (c->in[1].overwrite ? 0 : g[i]) + dy[i];
}

/* No barrier between the gradients: none reads what another writes. */
static void linear_bwd(const struct op_args *c)
{
    const struct operand *w = &c->w[0];
    int64_t M = w->rows, N = w->cols;
    const float *dy = c->out.g;
    float *dx = c->in[0].g;
#pragma omp parallel num_threads(c->x->threads) if (c->rows * M * N > SERIAL)
    {
        if (dx && w->dtype == DT_F32)
            mm_share('N', 'N', c->rows, N, M, dy, M, w->v, N, !c->in[0].overwrite, dx, N);
        else if (dx)
            backward_narrow(c, dy, dx);
        if (w->g)
            mm_share('T', 'N', M, N, c->rows, dy, M, c->in[0].v, N, !w->overwrite, w->g, N);
        if (c->w[1].v && c->w[1].g)
            backward_bias(c, dy, c->w[1].g);
        if (c->in[1].g)
            backward_summand(c, dy, c->in[1].g);
    }
}

const struct kernel linear_cpu = {
    .forward = linear_fwd, .backward = linear_bwd, .scratch = linear_scratch, .sets = 1};
