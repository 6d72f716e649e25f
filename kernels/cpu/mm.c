/* All matrix products on the CPU: mm() of op.h, over oneDNN's C interface, a CBLAS, or plain loops,
 * chosen at build time (BLAS=...). Row-major. A library only ever sees one thread's share of a
 * product; mm_share splits it. Small products use the plain loops in every build: they are as fast,
 * and a small model is finished before oneDNN has generated its kernels, which takes 50 ms in its
 * first product. */
#include "../../lib/base/minmax.h"
#include "../op.h"
#include "lanes.h"

#include <assert.h>
#include <omp.h>
#include <stdio.h>
#include <string.h>

/* shares are whole inner tiles of the libraries; cost of packing a row, in multiplications */
enum { ROW_UNIT = 8, COLUMN_UNIT = 48, PACKING = 16 };
enum { SMALL = 1 << 17 }; /* multiplications M N K */

/* The plain loops copy a panel of B, transposed if need be, so that it is read in order, and keep
 * the sums of TALL rows in registers. */
enum { TALL = LANES == 16 ? 8 : 6, WIDE = 2 * LANES, DEPTH = 256 };

/* panel[k][j] = B[j][k] for j < n, k < depth, a square of vectors at a time. */
static void panel_transpose(const float *B, int64_t ldb, int64_t depth, int64_t n,
                            float panel[DEPTH][WIDE])
{
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES) {
        int64_t k = 0;
        for (; k + LANES <= depth; k += LANES) {
            lanes square[LANES];
            for (int i = 0; i < LANES; i++)
                square[i] = *(const lanes *)(B + (j + i) * ldb + k);
            lanes_transpose(square);
            for (int i = 0; i < LANES; i++)
                *(lanes *)&panel[k + i][j] = square[i];
        }
        for (; k < depth; k++)
            for (int64_t i = j; i < j + LANES; i++)
                panel[k][i] = B[i * ldb + k];
    }
    for (; j < n; j++)
        for (int64_t k = 0; k < depth; k++)
            panel[k][j] = B[j * ldb + k];
}

/* panel[k][j] = op(B)[k][j] for k < depth, j < n; zeros for n <= j < WIDE. */
static void panel_copy(char tb, const float *B, int64_t ldb, int64_t depth, int64_t n,
                       float panel[DEPTH][WIDE])
{
    if (n < WIDE)
        memset(panel, 0, (size_t)depth * sizeof *panel);
    if (tb == 'T')
        panel_transpose(B, ldb, depth, n, panel);
    else if (n == WIDE) /* a copy of constant size is a few instructions */
        for (int64_t k = 0; k < depth; k++)
            memcpy(panel[k], B + k * ldb, sizeof *panel);
    else
        for (int64_t k = 0; k < depth; k++)
            memcpy(panel[k], B + k * ldb, (size_t)n * sizeof(float));
}

static inline __attribute__((always_inline)) void sum_put(float *C, const lanes *sum, int add,
                                                          int64_t n)
{
    if (n >= LANES)
        *(lanes *)C = add ? *(const lanes *)C + *sum : *sum;
    else
        for (int64_t j = 0; j < n; j++)
            C[j] = (*sum)[j] + (add ? C[j] : 0);
}

/* The product of rows of A and a panel: row r begins at a + r * row, its values `step` apart. */
struct panel_product {
    const float *a, (*panel)[WIDE];
    int64_t row, step, depth, ldc, n;
    int add;
};

/* C[r][0..n-1] (+)= a[r] panel for rows i .. i + rows - 1. rows, and vectors of a row (1 or 2), are
 * constants at every call. */
static inline __attribute__((always_inline)) void rows_times(const struct panel_product *p,
                                                             int64_t i, int64_t rows, int vectors,
                                                             float *C)
{
    const float *a = p->a + i * p->row;
    lanes sum[TALL][2] = {0};
    for (int64_t k = 0; k < p->depth; k++)
        for (int64_t r = 0; r < rows; r++)
            for (int j = 0; j < vectors; j++)
                sum[r][j] += a[r * p->row + k * p->step] * *(const lanes *)&p->panel[k][j * LANES];
    for (int64_t r = 0; r < rows; r++)
        for (int j = 0; j < vectors; j++)
            sum_put(C + (i + r) * p->ldc + j * LANES, &sum[r][j], p->add, p->n - j * LANES);
}

static inline __attribute__((always_inline)) void all_rows_times(const struct panel_product *p,
                                                                 int64_t M, int vectors, float *C)
{
    int64_t i = 0, rest = M % TALL;
    for (; i + TALL <= M; i += TALL)
        rows_times(p, i, TALL, vectors, C);
    if (rest & 4)
        rows_times(p, i, 4, vectors, C);
    if (rest & 2)
        rows_times(p, i + (rest & 4), 2, vectors, C);
    if (rest & 1)
        rows_times(p, M - 1, 1, vectors, C);
}

static void product_plain(char ta, char tb, int64_t M, int64_t N, int64_t K, const float *A,
                          int64_t lda, const float *B, int64_t ldb, int add, float *C, int64_t ldc)
{
    _Alignas(4 * LANES) float panel[DEPTH][WIDE];
    struct panel_product p = {.panel = (const float(*)[WIDE])panel,
                              .row = ta == 'N' ? lda : 1,
                              .step = ta == 'N' ? 1 : lda,
                              .ldc = ldc};
    for (int64_t j = 0; j < N; j += WIDE)
        for (int64_t k = 0; k == 0 || k < K; k += DEPTH) {
            p.n = min64(WIDE, N - j);
            p.depth = min64(DEPTH, K - k);
            p.a = A + k * p.step;
            p.add = add || k;
            panel_copy(tb, B + (tb == 'N' ? k * ldb + j : j * ldb + k), ldb, p.depth, p.n, panel);
            if (p.n > LANES)
                all_rows_times(&p, M, 2, C + j);
            else
                all_rows_times(&p, M, 1, C + j);
        }
}

#if defined BLAS_onednn
#include <oneapi/dnnl/dnnl.h>

/* oneDNN 2.6 walks down the columns of a transposed A, 384 rows at a time. Rows FAR floats or more
 * apart map to few sets of the second-level cache, which then holds little more than FAR_DEPTH of
 * them: gradients of wide matrices are 5 to 40 % faster with products no deeper than that. */
enum { FAR = 1024, FAR_DEPTH = 128 };
/* packed panels and generated code of a thread, measured with 2.6 */
enum { LIBRARY_BYTES = 3700000 };

const char *exec_math_library(void)
{
    static char name[40];
    const dnnl_version_t *v = dnnl_version();
    snprintf(name, sizeof name, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
    return name;
}

static void product(char ta, char tb, int64_t M, int64_t N, int64_t K, const float *A, int64_t lda,
                    const float *B, int64_t ldb, int add, float *C, int64_t ldc)
{
    int64_t step = ta == 'T' && lda >= FAR ? FAR_DEPTH : K;
    for (int64_t k = 0; k < K; k += step) {
        const float *a = A + k * (ta == 'N' ? 1 : lda);
        const float *b = B + k * (tb == 'N' ? ldb : 1);
        dnnl_status_t status = dnnl_sgemm(ta, tb, M, N, min64(step, K - k), 1, a, lda, b, ldb,
                                          add || k, C, ldc);
        assert(status == dnnl_success);
        (void)status;
    }
}

#elif defined BLAS_none

const char *exec_math_library(void) { return "plain loops"; }

#define product product_plain
enum { LIBRARY_BYTES = 0 };

#else
enum { LIBRARY_BYTES = 1500000 }; /* measured with OpenBLAS 0.3.21 */
#if defined BLAS_mkl
#include <mkl_cblas.h>
#else
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function" /* inline functions of BLIS's header */
#include <cblas.h>
#pragma GCC diagnostic pop
#endif

#if defined BLAS_openblas
/* Debian's usual build of OpenBLAS would start threads of its own under each of ours, and nearly
 * stand still. Its OpenMP build heeds the region of one thread in mm(). */
static void __attribute__((constructor)) one_thread(void)
{
    if (openblas_get_parallel() == OPENBLAS_THREAD)
        openblas_set_num_threads(1);
}

const char *exec_math_library(void)
{
    static char name[160];
    snprintf(name, sizeof name, "%.150s", openblas_get_config());
    return name;
}
#elif defined BLAS_mkl
const char *exec_math_library(void) { return "MKL"; }
#else
char *bli_info_get_version_str(void); /* cblas.h of BLIS does not declare it */

const char *exec_math_library(void)
{
    static char name[40];
    snprintf(name, sizeof name, "BLIS %.30s", bli_info_get_version_str());
    return name;
}
#endif

static void product(char ta, char tb, int64_t M, int64_t N, int64_t K, const float *A, int64_t lda,
                    const float *B, int64_t ldb, int add, float *C, int64_t ldc)
{
    cblas_sgemm(CblasRowMajor, ta == 'T' ? CblasTrans : CblasNoTrans,
                tb == 'T' ? CblasTrans : CblasNoTrans, (int)M, (int)N, (int)K, 1, A, (int)lda, B,
                (int)ldb, add ? 1 : 0, C, (int)ldc);
}
#endif

/* How many shares the columns of C are split into, n over that many for its rows: so that the
 * largest share is small and compact. */
static int64_t column_shares(int64_t M, int64_t N, int64_t n)
{
    int64_t best = 0, shares = 1;
    for (int64_t c = 1; c <= n; c++) {
        if (n % c)
            continue;
        int64_t rows = (M + n / c - 1) / (n / c), cols = (N + c - 1) / c;
        rows = (rows + ROW_UNIT - 1) / ROW_UNIT * ROW_UNIT;
        cols = (cols + COLUMN_UNIT - 1) / COLUMN_UNIT * COLUMN_UNIT;
        int64_t work = rows * cols + PACKING * (rows + cols);
        if (!best || work < best) {
            best = work;
            shares = c;
        }
    }
    return shares;
}

int64_t mm_share_start(int64_t n, int64_t unit, int64_t shares, int64_t i)
{
    int64_t start = (n + unit - 1) / unit * i / shares * unit;
    return min64(start, n);
}

void mm_share(char ta, char tb, int64_t M, int64_t N, int64_t K, const float *A, int64_t lda,
              const float *B, int64_t ldb, int add, float *C, int64_t ldc)
{
    int64_t threads = omp_get_num_threads(), i = omp_get_thread_num(),
            columns = column_shares(M, N, threads), rows = threads / columns;
    int64_t m = mm_share_start(M, ROW_UNIT, rows, i / columns),
            n = mm_share_start(N, COLUMN_UNIT, columns, i % columns);
    const float *a = A + m * (ta == 'N' ? lda : 1);
    const float *b = B + n * (tb == 'N' ? 1 : ldb);
    mm(ta, tb, mm_share_start(M, ROW_UNIT, rows, i / columns + 1) - m,
       mm_share_start(N, COLUMN_UNIT, columns, i % columns + 1) - n, K, a, lda, b, ldb, add,
       C + m * ldc + n, ldc);
}

void mm(char ta, char tb, int64_t M, int64_t N, int64_t K, const float *A, int64_t lda,
        const float *B, int64_t ldb, int add, float *C, int64_t ldc)
{
    if (M <= 0 || N <= 0)
        return;
    if (M * N * K < SMALL) {
        product_plain(ta, tb, M, N, K, A, lda, B, ldb, add, C, ldc);
        return;
    }
    /* in a region of one thread a library would start threads of its own */
    int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    product(ta, tb, M, N, K, A, lda, B, ldb, add, C, ldc);
    omp_set_num_threads(threads);
}

int64_t exec_library_bytes(const struct exec *x) { return (int64_t)x->threads * LIBRARY_BYTES; }
