/* The one door to matrix products on the CPU: mm() of op.h, over oneDNN's C interface, a CBLAS, or plain loops, chosen at build (BLAS=...).
 * Row-major. The libraries only ever see one thread's part of a product: the split among threads is mm_share's. Also names the library. */
#include "../op.h"

#include <assert.h>
#include <omp.h>
#include <stdio.h>

enum { ROW_UNIT = 8, COLUMN_UNIT = 48, PACKING = 16 };      /* shares end where the libraries' inner tiles do; what packing a row costs, in products */

#if defined BLAS_onednn
#include <oneapi/dnnl/dnnl.h>

const char *exec_math_library(void)
{
    static char name[40];
    const dnnl_version_t *v = dnnl_version();
    snprintf(name, sizeof name, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
    return name;
}

static void product(char ta, char tb, int64_t M, int64_t N, int64_t K, const float *A, int64_t lda, const float *B, int64_t ldb,
                    int add, float *C, int64_t ldc)
{
    dnnl_status_t status = dnnl_sgemm(ta, tb, M, N, K, 1, A, lda, B, ldb, add ? 1 : 0, C, ldc);
    assert(status == dnnl_success);
    (void)status;
}

#elif defined BLAS_none

const char *exec_math_library(void) { return "plain loops"; }

/* Long products are summed in pieces, the pieces in f64. */
static float dot(const float *restrict a, int64_t stride, const float *restrict b, int64_t n)
{
    enum { PIECE = 256 };
    double sum = 0;
    for (int64_t first = 0; first < n; first += PIECE) {
        int64_t end = n - first < PIECE ? n : first + PIECE;
        float s = 0;
        if (stride == 1)
#pragma omp simd reduction(+ : s)
            for (int64_t i = first; i < end; i++)
                s += a[i] * b[i];
        else
            for (int64_t i = first; i < end; i++)
                s += a[i * stride] * b[i];
        sum += (double)s;
    }
    return (float)sum;
}

/* B is walked along its rows in both layouts. */
static void product(char ta, char tb, int64_t M, int64_t N, int64_t K, const float *A, int64_t lda, const float *B, int64_t ldb,
                    int add, float *C, int64_t ldc)
{
    int64_t row = ta == 'N' ? lda : 1, step = ta == 'N' ? 1 : lda;
    for (int64_t i = 0; i < M; i++) {
        const float *a = A + i * row;
        float *restrict c = C + i * ldc;
        for (int64_t j = 0; j < N; j++)
            c[j] = (add ? c[j] : 0) + (tb == 'T' ? dot(a, step, B + j * ldb, K) : 0);
        for (int64_t k = 0; tb == 'N' && k < K; k++) {
            const float *restrict b = B + k * ldb;
            float f = a[k * step];
            for (int64_t j = 0; j < N; j++)
                c[j] += f * b[j];
        }
    }
}

#else
#if defined BLAS_mkl
#include <mkl_cblas.h>
#else
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"      /* BLIS's header carries its inline functions */
#include <cblas.h>
#pragma GCC diagnostic pop
#endif

#if defined BLAS_openblas
const char *exec_math_library(void)
{
    static char name[160];
    snprintf(name, sizeof name, "%.150s", openblas_get_config());
    return name;
}
#elif defined BLAS_mkl
const char *exec_math_library(void) { return "MKL"; }
#else
char *bli_info_get_version_str(void);       /* cblas.h of BLIS does not declare it */

const char *exec_math_library(void)
{
    static char name[40];
    snprintf(name, sizeof name, "BLIS %.30s", bli_info_get_version_str());
    return name;
}
#endif

static void product(char ta, char tb, int64_t M, int64_t N, int64_t K, const float *A, int64_t lda, const float *B, int64_t ldb,
                    int add, float *C, int64_t ldc)
{
    cblas_sgemm(CblasRowMajor, ta == 'T' ? CblasTrans : CblasNoTrans, tb == 'T' ? CblasTrans : CblasNoTrans, (int)M, (int)N, (int)K, 1, A,
                (int)lda, B, (int)ldb, add ? 1 : 0, C, (int)ldc);
}
#endif

/* How many of n threads share the columns of C, the others its rows: so that the largest share is small and compact. */
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
    return start < n ? start : n;
}

void mm_share(char ta, char tb, int64_t M, int64_t N, int64_t K, const float *A, int64_t lda, const float *B, int64_t ldb, int add, float *C, int64_t ldc)
{
    int64_t threads = omp_get_num_threads(), i = omp_get_thread_num(), columns = column_shares(M, N, threads), rows = threads / columns;
    int64_t m = mm_share_start(M, ROW_UNIT, rows, i / columns), n = mm_share_start(N, COLUMN_UNIT, columns, i % columns);
    mm(ta, tb, mm_share_start(M, ROW_UNIT, rows, i / columns + 1) - m, mm_share_start(N, COLUMN_UNIT, columns, i % columns + 1) - n, K,
       A + m * (ta == 'N' ? lda : 1), lda, B + n * (tb == 'N' ? 1 : ldb), ldb, add, C + m * ldc + n, ldc);
}

void mm(char ta, char tb, int64_t M, int64_t N, int64_t K, const float *A, int64_t lda, const float *B, int64_t ldb, int add, float *C, int64_t ldc)
{
    if (M > 0 && N > 0)
        product(ta, tb, M, N, K, A, lda, B, ldb, add, C, ldc);
}
