/* D[M,N] = alpha * op(A)[M,K] op(B)[K,N] + beta * C as cuda_mm_plus has it, for products that
 * cuBLASLt has no algorithm for: tiles of SIDE x SIDE in shared memory, sums f32, no tensor cores.
 * Factors f32 or both bf16, C and D f32, or bf16 with bf16 factors. */
#include "cuda.h"

enum { SIDE = 32, WALKERS = 8, EACH = SIDE / WALKERS };

/* Strides of op(X): entry (i, j) at i * row + j * column. */
template <class T> struct factor {
    const T *p;
    int64_t row, column;
};
template <class T> static factor<T> factor_of(const void *p, char transposed, int64_t ld)
{
    if (transposed == 'N')
        return {(const T *)p, ld, 1};
    return {(const T *)p, 1, ld};
}

/* The tile of X that begins at (i, j), zeros beyond `rows` and `columns`; adjacent threads read
 * adjacent values. */
template <class T>
static __device__ __forceinline__ void fetch(float (&tile)[SIDE][SIDE + 1], factor<T> x, int64_t i,
                                             int64_t j, int64_t rows, int64_t columns)
{
    bool along = x.column == 1;
    for (int k = (int)threadIdx.y; k < SIDE; k += WALKERS) {
        int r = along ? k : (int)threadIdx.x;
        int c = along ? (int)threadIdx.x : k;
        tile[r][c] = i + r < rows && j + c < columns
                         ? widen(x.p[(i + r) * x.row + (j + c) * x.column])
                         : 0;
    }
}

template <class T, class V>
static __global__ void __launch_bounds__(SIDE *WALKERS)
    product(factor<T> a, factor<T> b, int64_t M, int64_t N, int64_t K, float alpha, float beta,
            const V *C, V *D, int64_t ldc)
{
    SHARED(float, left, [SIDE][SIDE + 1]);
    SHARED(float, right, [SIDE][SIDE + 1]);
    int64_t across = (N + SIDE - 1) / SIDE, i = (int64_t)blockIdx.x / across * SIDE,
            j = (int64_t)blockIdx.x % across * SIDE + threadIdx.x;
    float sum[EACH] = {};
    for (int64_t k = 0; k < K; k += SIDE) {
        __syncthreads();
        fetch(left, a, i, k, M, K);
        fetch(right, b, k, j - threadIdx.x, K, N);
        __syncthreads();
        for (int l = 0; l < SIDE; l++)
#pragma unroll
            for (int e = 0; e < EACH; e++)
                sum[e] += left[threadIdx.y + e * WALKERS][l] * right[l][threadIdx.x];
    }
    for (int e = 0; e < EACH; e++) {
        int64_t row = i + threadIdx.y + e * WALKERS, at = row * ldc + j;
        if (row < M && j < N)
            D[at] = narrow<V>(alpha * sum[e] + (beta != 0 ? beta * widen(C[at]) : 0));
    }
}

void plain_product(const struct op_args *c, char ta, char tb, int64_t M, int64_t N, int64_t K,
                   float alpha, const void *A, enum dtype ab, int64_t lda, const void *B,
                   int64_t ldb, float beta, const void *C, void *D, enum dtype ct, int64_t ldc)
{
    unsigned blocks = (unsigned)(((M + SIDE - 1) / SIDE) * ((N + SIDE - 1) / SIDE));
    BY_DTYPE(ab, T,
             BY_DTYPE(ct, V,
                      LAUNCH(c, (product<T, V>), blocks, dim3(SIDE, WALKERS), 0,
                             factor_of<T>(A, ta, lda), factor_of<T>(B, tb, ldb), M, N, K, alpha,
                             beta, (const V *)C, (V *)D, ldc)));
    launched(c, "a product");
}
