/* linear on CUDA: see kernels/cpu/linear.c; the products are cuBLASLt's. Weights are of the
 * activations' type; with f32 activations they may also be bf16 or f16 (frozen) and are widened a
 * panel of rows at a time into scratch. Refuses other pairs. */
#include "add.h"
#include "weights.h"

/* y = bias + x, or without x where it is NULL */
template <class T> struct fill_bias {
    const float *bias;
    const T *x;
    T *y;
    int64_t M;
    template <int N> __device__ void at(int64_t i) const
    {
        float v[N], more[N] = {0};
        load(bias + entry_of(i, M).column, v);
        if (x)
            load(x + i, more);
#pragma unroll
        for (int k = 0; k < N; k++)
            v[k] += more[k];
        store(y + i, v);
    }
};

/* floats of weights that are widened at a time: 16 MB */
enum { PANEL = 1 << 22, PANEL_ROWS_LEAST = 16 };

/* Rows of weights per product: all, or as many as fit a widened panel. */
static int64_t panel_rows(const struct op_args *c)
{
    const struct operand *w = &c->w[0];
    if (w->dtype == c->in[0].dtype || !w->cols)
        return w->rows;
    return min(max((int64_t)PANEL / w->cols, (int64_t)PANEL_ROWS_LEAST), w->rows);
}

/* A widened panel, or afterwards the sums of the bias's gradient. */
static size_t linear_scratch(const struct op_args *c)
{
    const struct operand *w = &c->w[0];
    size_t panel = w->dtype == c->in[0].dtype ? 0 : (size_t)(panel_rows(c) * w->cols) * 4;
    size_t sums = (size_t)(row_parts(c->rows) * c->w[1].rows) * sizeof(double);
    return panel > sums ? panel : sums;
}

static const void *panel(const struct op_args *c, int64_t first, int64_t n)
{
    return weight_panel(c, &c->w[0], c->in[0].dtype, (float *)c->scratch, first, n);
}

static int refused(const struct op_args *c)
{
    return weights_refused(c, "linear", &c->w[0], c->in[0].dtype);
}

static void linear_fwd(const struct op_args *c)
{
    int64_t M = c->w[0].rows, N = c->w[0].cols, step = panel_rows(c), n;
    enum dtype d = c->in[0].dtype;
    const float *bias = (const float *)c->w[1].v;
    if (refused(c))
        return;
    const char *plus = (const char *)(bias ? c->out.v : c->in[1].v);
    if (bias)
        BY_DTYPE(d, T,
                 map<T>(c, c->rows * M,
                        aligned16(bias) && aligned16(c->in[1].v) && aligned16(c->out.v) &&
                            M % VECTOR<T> == 0,
                        fill_bias<T>{bias, (const T *)c->in[1].v, (T *)c->out.v, M}));
    for (int64_t first = 0; first < M; first += n) {
        n = min(M - first, step);
        int64_t at = first * (d == DT_F32 ? 4 : 2);
        char *y = (char *)c->out.v + at;
        const char *summand = plus ? plus + at : y;
        cuda_mm_plus(c, 'N', 'T', c->rows, n, N, 1, c->in[0].v, d, N, panel(c, first, n), d, N,
                     plus != NULL, summand, y, d, M);
    }
    launched(c, "linear forward");
}

/* of in1, that of the output */
template <class T> static void add_gradient(const struct op_args *c)
{
    const T *dy = (const T *)(void *)c->out.g;
    T *g = (T *)(void *)c->in[1].g;
    map<T>(c, c->rows * c->in[1].cols, aligned16(dy) && aligned16(g),
           add_scaled<T>{c->in[1].overwrite ? NULL : g, dy, g, 1});
}

static void linear_bwd(const struct op_args *c)
{
    int64_t M = c->w[0].rows, N = c->w[0].cols, step = panel_rows(c), n;
    enum dtype d = c->in[0].dtype;
    if (refused(c) || c->rows <= 0)
        return;
    for (int64_t first = 0; c->in[0].g && first < M; first += n) {
        n = min(M - first, step);
        const void *dy = (const char *)c->out.g + first * (d == DT_F32 ? 4 : 2);
        cuda_mm(c, 'N', 'N', c->rows, N, n, 1, dy, d, M, panel(c, first, n), d, N,
                first > 0 || !c->in[0].overwrite, c->in[0].g, d, N);
    }
    if (c->w[0].g)
        cuda_mm(c, 'T', 'N', M, N, c->rows, 1, c->out.g, d, M, c->in[0].v, d, N, !c->w[0].overwrite,
                c->w[0].g, DT_F32, N);
    if (c->in[1].g)
        BY_DTYPE(d, T, add_gradient<T>(c));
    if (c->w[1].v && c->w[1].g)
        BY_DTYPE(d, T,
                 add_many_row_sums(c, (const T *)(void *)c->out.g, c->rows, M, (double *)c->scratch,
                                   c->w[1].g));
    launched(c, "linear backward");
}

const struct kernel linear_cuda = {
    .forward = linear_fwd, .backward = linear_bwd, .scratch = linear_scratch, .sets = 1};
