/* The one door to matrix products on the CPU: mm() of op.h, over oneDNN's C interface, a CBLAS, or plain loops, chosen at build (BLAS=...).
 * Row-major. All of them run on OpenMP's threads, and on the calling thread alone inside a parallel region. Also names the library. */
#include "../op.h"

#include <assert.h>
#include <omp.h>
#include <stdio.h>

#if defined BLAS_onednn
#include <oneapi/dnnl/dnnl.h>

const char *exec_math_library(void)
{
    static char name[40];
    const dnnl_version_t *v = dnnl_version();
    snprintf(name, sizeof name, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
    return name;
}

static void product(char ta, char tb, int64_t M, int64_t N, int64_t K, float alpha, const float *A, int64_t lda, const float *B, int64_t ldb,
                    float beta, float *C, int64_t ldc)
{
    dnnl_status_t status = dnnl_sgemm(ta, tb, M, N, K, alpha, A, lda, B, ldb, beta, C, ldc);
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

/* Rows of C are dealt to the threads; B is walked along its rows in both layouts. */
static void product(char ta, char tb, int64_t M, int64_t N, int64_t K, float alpha, const float *A, int64_t lda, const float *B, int64_t ldb,
                    float beta, float *C, int64_t ldc)
{
    int64_t row = ta == 'N' ? lda : 1, step = ta == 'N' ? 1 : lda;
#pragma omp parallel for schedule(static) if (!omp_in_parallel() && M * N * K > 32768)
    for (int64_t i = 0; i < M; i++) {
        const float *a = A + i * row;
        float *restrict c = C + i * ldc;
        for (int64_t j = 0; j < N; j++)
            c[j] = (beta == 0 ? 0 : beta * c[j]) + (tb == 'T' ? alpha * dot(a, step, B + j * ldb, K) : 0);
        for (int64_t k = 0; tb == 'N' && k < K; k++) {
            const float *restrict b = B + k * ldb;
            float f = alpha * a[k * step];
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

static void product(char ta, char tb, int64_t M, int64_t N, int64_t K, float alpha, const float *A, int64_t lda, const float *B, int64_t ldb,
                    float beta, float *C, int64_t ldc)
{
    cblas_sgemm(CblasRowMajor, ta == 'T' ? CblasTrans : CblasNoTrans, tb == 'T' ? CblasTrans : CblasNoTrans, (int)M, (int)N, (int)K, alpha, A,
                (int)lda, B, (int)ldb, beta, C, (int)ldc);
}
#endif

void mm(char ta, char tb, int64_t M, int64_t N, int64_t K, float alpha, const float *A, int64_t lda, const float *B, int64_t ldb,
        float beta, float *C, int64_t ldc)
{
    if (M > 0 && N > 0)
        product(ta, tb, M, N, K, alpha, A, lda, B, ldb, beta, C, ldc);
}
