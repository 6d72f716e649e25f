/* Shared by mm.cu, which computes matrix products through cuBLASLt, and mm_algorithm.cu, which
 * chooses how. */
#ifndef PARE_CUDA_MM_H
#define PARE_CUDA_MM_H

#include <cublasLt.h>

#include "cuda.h"

struct shape {
    int64_t M, N, K, lda, ldb, ldc;
    /* in, out: enum dtype; alignment of A, B, C and D in bytes, at most 16 */
    int32_t ta, tb, in, out, alignment[3];
    int32_t has_beta;
};
struct product {
    struct shape shape;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, c;
    cublasLtMatmulAlgo_t algo;
    int plain; /* the library has no algorithm */
    struct product *next;
};
/* What a product is computed from. */
struct factors {
    const void *A, *B, *C;
    float alpha, beta;
};

cublasLtHandle_t products_library(const struct gpu *g);
/* D by this algorithm; a status of the library. */
cublasStatus_t product_run(const struct gpu *g, const struct product *p,
                           const cublasLtMatmulAlgo_t *algo, const struct factors *f, void *D);
/* From now on the product is computed by the plain kernel, which is told once. */
void product_refuse(const struct op_args *c, struct product *p);

/* Sets p->algo: the one that is known by exec.algorithms, else the fastest, which is made known, or
 * without them the library's first suggestion. Without any, refuses the product. f is read, not
 * changed. -1: the library fails, or an algorithm that is known does not work, which sticks. */
int algorithm_choose(const struct op_args *c, struct product *p, const struct factors *f);

#endif
