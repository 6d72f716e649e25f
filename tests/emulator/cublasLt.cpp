/* The emulated cuBLASLt: see cublasLt.h. Matrices are column-major, as in the library. */
#include "cublasLt.h"

#include <vector>

/* Of any product: one that sums in double, one in float, which is the fastest, and one that does
 * not run. */
enum { IN_DOUBLE, IN_FLOAT, BROKEN, ALGORITHMS };
static const double milliseconds[ALGORITHMS] = {2, 1, 0};

static double rounded(double sum, uint32_t number)
{
    return number == IN_FLOAT ? (double)(float)sum : sum;
}

struct emulated_library {
    int unused;
};

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    return *handle = new emulated_library(), CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    return delete handle, CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *d, cublasComputeType_t compute,
                                        cudaDataType_t scale)
{
    *d = new emulated_product{compute, {CUBLAS_OP_N, CUBLAS_OP_N}};
    return scale == CUDA_R_32F ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t bytes)
{
    if (bytes != sizeof(int32_t))
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(&d->transposed[attribute == CUBLASLT_MATMUL_DESC_TRANSB], value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d)
{
    return delete d, CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *l, cudaDataType_t type,
                                          uint64_t rows, uint64_t cols, int64_t ld)
{
    *l = new emulated_layout{type, rows, cols, ld};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l)
{
    return delete l, CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *p)
{
    *p = new emulated_preference{0, {256, 256, 256, 256}};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void *value, size_t bytes)
{
    int is_workspace = attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
    if (attribute == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK)
        return bytes == sizeof(uint32_t) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
    if (bytes != (is_workspace ? sizeof p->workspace : sizeof *p->alignment))
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(is_workspace ? (void *)&p->workspace
                        : &p->alignment[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES],
           value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p)
{
    return delete p, CUBLAS_STATUS_SUCCESS;
}

static int64_t size_of(cudaDataType_t type) { return type == CUDA_R_32F ? 4 : 2; }

static int has_types(const emulated_product *d, const emulated_layout *a, const emulated_layout *b,
                     const emulated_layout *c)
{
    if (a->type != b->type)
        return 0;
    if (a->type == CUDA_R_32F)
        return c->type == CUDA_R_32F;
    return d->compute == CUBLAS_COMPUTE_32F && (c->type == a->type || c->type == CUDA_R_32F);
}

static int shapes_fit(const emulated_product *d, const emulated_layout *a, const emulated_layout *b,
                      const emulated_layout *c)
{
    uint64_t m = a->rows, k = a->cols, k2 = b->rows, n = b->cols;
    if (d->transposed[0])
        std::swap(m, k);
    if (d->transposed[1])
        std::swap(k2, n);
    int wide = a->ld >= (int64_t)a->rows && b->ld >= (int64_t)b->rows && c->ld >= (int64_t)c->rows;
    return wide && k == k2 && m == c->rows && n == c->cols && m && n && k;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t d,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t out,
                                              cublasLtMatmulPreference_t p, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int *found)
{
    *found = 0;
    if (wanted < 1 || c->type != out->type || !shapes_fit(d, a, b, out))
        return CUBLAS_STATUS_INVALID_VALUE;
    /* the second to see what is done then */
    if (!has_types(d, a, b, out) ||
        (d->compute == CUBLAS_COMPUTE_32F && (a->ld % 2 || b->ld % 2 || out->ld % 2)))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    for (; *found < wanted && *found < ALGORITHMS; ++*found) {
        cublasLtMatmulHeuristicResult_t *r = &results[*found];
        *r = cublasLtMatmulHeuristicResult_t{};
        memcpy(r->algo.alignment, p->alignment, sizeof p->alignment);
        r->algo.number = (uint32_t)*found;
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t d,
                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t out,
                                       const cublasLtMatmulAlgo_t *algo,
                                       cublasLtMatmulHeuristicResult_t *result)
{
    *result = cublasLtMatmulHeuristicResult_t{};
    return algo->number < ALGORITHMS && shapes_fit(d, a, b, out) && has_types(d, a, b, c)
               ? CUBLAS_STATUS_SUCCESS
               : CUBLAS_STATUS_NOT_SUPPORTED;
}

size_t cublasLtGetVersion(void) { return 1; }

static double value_at(const void *p, cudaDataType_t type, int64_t i)
{
    if (type == CUDA_R_32F)
        return (double)((const float *)p)[i];
    return type == CUDA_R_16BF ? (double)(float)((const __nv_bfloat16 *)p)[i]
                               : (double)(float)((const __half *)p)[i];
}

static void value_set(void *p, cudaDataType_t type, int64_t i, double v)
{
    if (type == CUDA_R_32F)
        ((float *)p)[i] = (float)v;
    else if (type == CUDA_R_16BF)
        ((__nv_bfloat16 *)p)[i] = (float)v;
    else
        ((__half *)p)[i] = (float)v;
}

/* op(X) as rows of k values: [n][k]. `turned`: the stored columns are those rows. */
static std::vector<double> rows_of(const void *p, const emulated_layout &l, int turned)
{
    uint64_t n = l.rows, k = l.cols;
    if (turned)
        std::swap(n, k);
    std::vector<double> v(n * k);
    for (uint64_t i = 0; i < n; i++)
        for (uint64_t j = 0; j < k; j++)
            v[i * k + j] = value_at(p, l.type,
                                    turned ? (int64_t)(i * (uint64_t)l.ld + j)
                                           : (int64_t)(j * (uint64_t)l.ld + i));
    return v;
}

static void multiply(emulated_product d, uint32_t number, float alpha, const void *A,
                     emulated_layout a, const void *B, emulated_layout b, float beta, const void *C,
                     emulated_layout c, void *D)
{
    std::vector<double> x = rows_of(A, a, d.transposed[0]), y = rows_of(B, b, !d.transposed[1]);
    uint64_t k = d.transposed[0] ? a.rows : a.cols;
    for (uint64_t j = 0; j < c.cols; j++)
        for (uint64_t i = 0; i < c.rows; i++) {
            double s = 0;
            for (uint64_t l = 0; l < k; l++)
                s = rounded(s + x[i * k + l] * y[j * k + l], number);
            int64_t at = (int64_t)(j * (uint64_t)c.ld + i);
            value_set(D, c.type, at,
                      (double)alpha * s + (beta != 0 ? (double)beta * value_at(C, c.type, at) : 0));
        }
}

static int is_within(const void *p, const emulated_layout *l, uint32_t alignment)
{
    int64_t entries = (int64_t)(l->cols - 1) * l->ld + (int64_t)l->rows;
    return (uintptr_t)p % alignment == 0 &&
           emulated_is_device(p, (size_t)(entries * size_of(l->type)));
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t d, const void *alpha,
                              const void *A, cublasLtMatrixLayout_t a, const void *B,
                              cublasLtMatrixLayout_t b, const void *beta, const void *C,
                              cublasLtMatrixLayout_t c, void *D, cublasLtMatrixLayout_t,
                              const cublasLtMatmulAlgo_t *algo, void *workspace,
                              size_t workspace_bytes, cudaStream_t)
{
    const uint32_t *aligned = algo->alignment;
    if (!is_within(A, a, aligned[0]) || !is_within(B, b, aligned[1]) ||
        !is_within(C, c, aligned[2]) || !is_within(D, c, aligned[3]) ||
        !emulated_is_device(workspace, workspace_bytes))
        return CUBLAS_STATUS_EXECUTION_FAILED;
    if (algo->number >= BROKEN)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    uint32_t number = algo->number;
    emulated_product product = *d;
    emulated_layout la = *a, lb = *b, lc = *c;
    float by = *(const float *)alpha, keep = *(const float *)beta;
    emulated_enqueue([=] {
        emulated_milliseconds += milliseconds[number];
        multiply(product, number, by, A, la, B, lb, keep, C, lc, D);
    });
    return CUBLAS_STATUS_SUCCESS;
}
