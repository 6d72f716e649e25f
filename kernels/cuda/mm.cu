/* Matrix products on the device, all through cuBLASLt, with the descriptors and the algorithm
 * cached for each shape. Row-major, as mm() of op.h:
 *
 *   D[M,N] = alpha * op(A)[M,K] op(B)[K,N] + beta * C, op 'N' or 'T'
 *
 * A and B are both f32 or both bf16; C and D are f32, or bf16 with bf16 factors; sums are f32. Any
 * size works, but rows that are not a multiple of 16 bytes get slower algorithms: the first such
 * size is remembered for exec_slow_products. plain_product (mm_plain.cu) computes products for
 * which the library has no algorithm; these are remembered too. Factors of different types are
 * refused. */
#include "mm.h"

enum { BUCKETS = 1024 };
struct matmul_cache {
    cublasLtHandle_t library;
    struct product *buckets[BUCKETS];
};

static int check(struct err *e, cublasStatus_t status, const char *what)
{
    return status == CUBLAS_STATUS_SUCCESS
               ? 0
               : err_set(e, "cuBLASLt cannot %s: status %d", what, (int)status);
}

cublasLtHandle_t products_library(const struct gpu *g) { return g->products->library; }

int matmul_open(struct gpu *g, const char *card)
{
    snprintf(g->algorithms_for, sizeof g->algorithms_for, "cuBLASLt %zu on %s",
             cublasLtGetVersion(), card);
    g->workspace_bytes = (size_t)(g->major >= 9 ? 32 : 4) << 20;
    g->products = (struct matmul_cache *)calloc(1, sizeof *g->products);
    if (!g->products)
        return err_set(g->err, "no memory for the shapes of matrix products");
    if (cuda_check(g->err, cudaMalloc(&g->workspace, g->workspace_bytes),
                   "allocate the workspace of matrix products"))
        return -1;
    return check(g->err, cublasLtCreate(&g->products->library), "start");
}

static void product_free(struct product *p)
{
    if (p->desc)
        cublasLtMatmulDescDestroy(p->desc);
    cublasLtMatrixLayout_t layouts[] = {p->a, p->b, p->c};
    for (cublasLtMatrixLayout_t l : layouts)
        if (l)
            cublasLtMatrixLayoutDestroy(l);
    free(p);
}

void matmul_close(struct gpu *g)
{
    struct matmul_cache *m = g->products;
    for (int i = 0; m && i < BUCKETS; i++)
        for (struct product *p = m->buckets[i], *next; p; p = next) {
            next = p->next;
            product_free(p);
        }
    if (m && m->library)
        cublasLtDestroy(m->library);
    cudaFree(g->workspace);
    free(m);
}

static cudaDataType_t type_of(int32_t d) { return d == DT_BF16 ? CUDA_R_16BF : CUDA_R_32F; }

/* The library's matrices are column-major: C^T = op(B)^T op(A)^T, so its first factor is B. */
static int layouts_create(struct product *p)
{
    const struct shape *s = &p->shape;
    int64_t a_rows = s->ta == 'N' ? s->M : s->K;
    int64_t a_cols = s->ta == 'N' ? s->K : s->M;
    int64_t b_rows = s->tb == 'N' ? s->K : s->N;
    int64_t b_cols = s->tb == 'N' ? s->N : s->K;
    return cublasLtMatrixLayoutCreate(&p->b, type_of(s->in), (uint64_t)b_cols, (uint64_t)b_rows,
                                      s->ldb) ||
           cublasLtMatrixLayoutCreate(&p->a, type_of(s->in), (uint64_t)a_cols, (uint64_t)a_rows,
                                      s->lda) ||
           cublasLtMatrixLayoutCreate(&p->c, type_of(s->out), (uint64_t)s->N, (uint64_t)s->M,
                                      s->ldc);
}

void product_refuse(const struct op_args *c, struct product *p)
{
    const struct shape *s = &p->shape;
    char what[160];
    p->plain = 1;
    if (c->x->gpu->slow.refused++ || !c->x->tell)
        return;
    snprintf(what, sizeof what,
             "cuBLASLt has no algorithm for a product of %lld x %lld x %lld in %s: a plain kernel "
             "computes it, far more slowly",
             (long long)s->M, (long long)s->N, (long long)s->K, dtype_name((enum dtype)s->in));
    c->x->tell(c->x->tell_user, what);
}

static struct product *product_new(const struct op_args *c, const struct shape *s,
                                   const struct factors *f)
{
    struct product *p = (struct product *)calloc(1, sizeof *p);
    cublasComputeType_t compute = s->in == DT_F32 && c->x->tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32
                                                                : CUBLAS_COMPUTE_32F;
    int32_t first = s->tb == 'N' ? CUBLAS_OP_N : CUBLAS_OP_T,
            second = s->ta == 'N' ? CUBLAS_OP_N : CUBLAS_OP_T;
    if (!p)
        return NULL;
    p->shape = *s;
    if (cublasLtMatmulDescCreate(&p->desc, compute, CUDA_R_32F) ||
        cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_TRANSA, &first,
                                       sizeof first) ||
        cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_TRANSB, &second,
                                       sizeof second) ||
        layouts_create(p) || algorithm_choose(c, p, f)) {
        product_free(p);
        return NULL;
    }
    return p;
}

static struct product *product_get(const struct op_args *c, const struct shape *s,
                                   const struct factors *f)
{
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < sizeof *s; i++)
        hash = (hash ^ ((const unsigned char *)s)[i]) * 1099511628211u;
    struct product **bucket = &c->x->gpu->products->buckets[hash % BUCKETS];
    for (struct product *p = *bucket; p; p = p->next)
        if (!memcmp(&p->shape, s, sizeof *s))
            return p;
    struct product *p = product_new(c, s, f);
    if (p) {
        p->next = *bucket;
        *bucket = p;
    }
    return p;
}

static int32_t alignment_of(const void *p)
{
    int32_t n = 16;
    while ((uintptr_t)p % (uintptr_t)n)
        n /= 2;
    return n;
}

/* Rows that do not begin at multiples of 16 bytes are loaded in smaller pieces, which is slow. */
static void remember_odd(struct gpu *g, const struct shape *s)
{
    const int64_t each = s->in == DT_BF16 ? 8 : 4, sizes[] = {s->lda, s->ldb, s->ldc};
    for (int64_t size : sizes)
        if (size % each && !g->slow.size && s->M > 1 && s->N > 1) {
            g->slow.size = size;
            g->slow.multiple = each;
        }
}

cublasStatus_t product_run(const struct gpu *g, const struct product *p,
                           const cublasLtMatmulAlgo_t *algo, const struct factors *f, void *D)
{
    return cublasLtMatmul(g->products->library, p->desc, &f->alpha, f->B, p->b, f->A, p->a,
                          &f->beta, f->C, p->c, D, p->c, algo, g->workspace, g->workspace_bytes,
                          g->stream);
}

int cuda_mm_plus(const struct op_args *c, char ta, char tb, int64_t M, int64_t N, int64_t K,
                 float alpha, const void *A, enum dtype a, int64_t lda, const void *B, enum dtype b,
                 int64_t ldb, float beta, const void *C, void *D, enum dtype ct, int64_t ldc)
{
    struct gpu *g = c->x->gpu;
    if (M <= 0 || N <= 0 || c->x->err.set)
        return c->x->err.set ? -1 : 0;
    if (a != b || (a != DT_F32 && a != DT_BF16) || (ct != DT_F32 && ct != a))
        return err_set(&c->x->err, "no CUDA kernel for a product of %s and %s into %s",
                       dtype_name(a), dtype_name(b), dtype_name(ct));
    struct shape s;
    memset(&s, 0, sizeof s); /* compared as bytes */
    s.M = M, s.N = N, s.K = K, s.lda = lda, s.ldb = ldb, s.ldc = ldc, s.ta = ta, s.tb = tb,
    s.in = a, s.out = ct, s.has_beta = beta != 0;
    s.alignment[0] = alignment_of(A), s.alignment[1] = alignment_of(B),
    s.alignment[2] = min(alignment_of(C), alignment_of(D));
    remember_odd(g, &s);
    struct factors f = {A, B, C, alpha, beta};
    struct product *p = product_get(c, &s, &f);
    if (!p)
        return err_set(&c->x->err, "cuBLASLt cannot describe a product of %lld x %lld x %lld (%s)",
                       (long long)M, (long long)N, (long long)K, dtype_name(a));
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    if (!p->plain)
        status = product_run(g, p, &p->algo, &f, D);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_ARCH_MISMATCH)
        product_refuse(c, p);
    if (p->plain)
        return plain_product(c, ta, tb, M, N, K, alpha, A, a, lda, B, ldb, beta, C, D, ct, ldc), 0;
    return check(&c->x->err, status, "multiply");
}
