/* Shared by the CUDA kernels: launches, shared arrays, errors, loads and stores by type, sums over
 * warps and blocks, elementwise passes. Kernels are templates on the type of the activations, float
 * or bf16, and compute in f32 (long sums in f64). Everything runs in the one stream of the device
 * handle. With the headers of tests/emulator found first, the same sources run on the CPU. */
#ifndef PARE_CUDA_H
#define PARE_CUDA_H

#include <assert.h>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <ptx.h>

#include "../backend.h"

typedef __nv_bfloat16 bf16;

/* Shared memory of a block: beyond 48 KB, with the arrays that a kernel declares itself, it must be
 * told; every card from sm_80 on has 99. */
enum { WARP = 32, SHARED_PLAIN = 44 << 10, SHARED_MOST = 99 << 10 };
static const unsigned ALL_LANES = 0xffffffffu;

/* ---- launches.
 * LAUNCH(c, kernel, grid, block, dynamic shared bytes, arguments...): `c` the call; a kernel that
 * is a template with commas goes in parentheses. */
#define LAUNCH(c, kernel, grid, block, shared, ...) \
    launch(c, #kernel, grid, block, shared, kernel, __VA_ARGS__)

/* ---- the device handle (exec.gpu) */
struct matmul_cache;
struct exchange;
enum { STAGES = 8, STAGE_BYTES = 1 << 20 };
/* pinned memory, and when the copy from it was done */
struct stage {
    void *bytes;
    cudaEvent_t sent;
};
struct gpu {
    struct err *err; /* of the exec handle */
    cudaStream_t stream;
    int major;                   /* compute capability */
    struct stage stages[STAGES]; /* copies to the device rotate through them */
    unsigned stage;
    size_t workspace_bytes;
    void *workspace; /* of matrix products */
    struct matmul_cache *products;
    char algorithms_for[300]; /* see exec_algorithms_for */
    struct slow_products slow;
    struct exchange *exchange; /* with the devices of other processes, or NULL */
};
int matmul_open(struct gpu *g, const char *card);
void matmul_close(struct gpu *g);

/* nccl.cu: see backend.h */
int exchange_join(struct exec *x);
void exchange_close(struct gpu *g);
void exchange_reduce(struct exec *x, float *values, int64_t n);
void exchange_spread(struct exec *x, void *values, int64_t n, size_t size);
void exchange_finish(struct exec *x);

/* loss.cu */
int64_t cuda_loss_chunk(const struct exec *x, int64_t vocabulary, int64_t teacher_vocabulary,
                        int64_t hidden);

/* mm() of op.h on the device, with types: D = alpha * op(A) op(B) + beta * C. Factors f32, or both
 * bf16; C and D, which may be the same, f32, or bf16 too, with rows of ldc. Sums are f32. An error
 * sticks in the exec handle. */
int cuda_mm_plus(const struct op_args *c, char ta, char tb, int64_t M, int64_t N, int64_t K,
                 float alpha, const void *A, enum dtype a, int64_t lda, const void *B, enum dtype b,
                 int64_t ldb, float beta, const void *C, void *D, enum dtype ct, int64_t ldc);

/* The same in place. */
static inline int cuda_mm(const struct op_args *c, char ta, char tb, int64_t M, int64_t N,
                          int64_t K, float alpha, const void *A, enum dtype a, int64_t lda,
                          const void *B, enum dtype b, int64_t ldb, float beta, void *C,
                          enum dtype ct, int64_t ldc)
{
    return cuda_mm_plus(c, ta, tb, M, N, K, alpha, A, a, lda, B, b, ldb, beta, C, C, ct, ldc);
}

template <class... P, class... A>
static inline void launch(const struct op_args *c, const char *name, dim3 grid, dim3 block,
                          size_t shared, void (*kernel)(P...), A... arguments)
{
    const struct gpu *g = c->x->gpu;
    assert(shared <= SHARED_MOST);
    if (shared > SHARED_PLAIN) {
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
        /* the driver's own choice of cache and shared memory may leave room for one block only */
        cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                             cudaSharedmemCarveoutMaxShared);
    }
    start_kernel(name, grid, block, shared, g->stream, kernel, arguments...);
}

/* The same without a library, slowly: mm_plain.cu. */
void plain_product(const struct op_args *c, char ta, char tb, int64_t M, int64_t N, int64_t K,
                   float alpha, const void *A, enum dtype ab, int64_t lda, const void *B,
                   int64_t ldb, float beta, const void *C, void *D, enum dtype ct, int64_t ldc);

static inline int cuda_check(struct err *e, cudaError_t status, const char *what)
{
    return status == cudaSuccess
               ? 0
               : err_set(e, "CUDA device: cannot %s: %s", what, cudaGetErrorString(status));
}

/* After the launches of a call: "rmsnorm forward". */
static inline void launched(const struct op_args *c, const char *what)
{
    cudaError_t status = cudaGetLastError();
    if (status != cudaSuccess)
        err_set(&c->x->err, "CUDA device: cannot run %s: %s", what, cudaGetErrorString(status));
}

/* Runs a statement with T standing for the type of activations. */
#define BY_DTYPE(dtype, T, ...) \
    do { \
        if ((dtype) == DT_BF16) { \
            typedef bf16 T; \
            __VA_ARGS__; \
        } else { \
            typedef float T; \
            __VA_ARGS__; \
        } \
    } while (0)

/* Row and column of entry i of a matrix; 64-bit division is expensive. */
struct entry {
    int64_t row, column;
};
static __device__ __forceinline__ entry entry_of(int64_t i, int64_t columns)
{
    if (((uint64_t)i | (uint64_t)columns) >> 32)
        return {i / columns, i % columns};
    return {(unsigned)i / (unsigned)columns, (unsigned)i % (unsigned)columns};
}

/* The place of a batch's first token, which may change between replays. */
struct first_place {
    int64_t here;
    const int32_t *there;
    __device__ __forceinline__ int64_t get() const { return there ? *there : here; }
};
static inline first_place first_place_of(const struct batch *b) { return {b->pos0, b->pos0_there}; }

static inline unsigned blocks_of(int64_t n, int64_t each)
{
    return (unsigned)((n + each - 1) / each);
}

/* ---- loads and stores: N values as f32, one by one (N 1) or 16 bytes at once (pointer aligned to
 * 16); of two bytes each, four at once too (aligned to 8) */
template <class T> constexpr int VECTOR = 16 / (int)sizeof(T);

template <int N> static __device__ __forceinline__ void load(const float *p, float (&v)[N])
{
    if constexpr (N == 1) {
        v[0] = *p;
    } else {
        static_assert(N % 4 == 0, "16 bytes at a time");
#pragma unroll
        for (int i = 0; i < N; i += 4) {
            float4 q = *(const float4 *)(p + i);
            v[i] = q.x, v[i + 1] = q.y, v[i + 2] = q.z, v[i + 3] = q.w;
        }
    }
}

template <int N> static __device__ __forceinline__ void store(float *p, const float (&v)[N])
{
    if constexpr (N == 1) {
        *p = v[0];
    } else {
#pragma unroll
        for (int i = 0; i < N; i += 4)
            *(float4 *)(p + i) = make_float4(v[i], v[i + 1], v[i + 2], v[i + 3]);
    }
}

static __device__ __forceinline__ unsigned pack_bf16(float low, float high)
{
    __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
    unsigned u;
    memcpy(&u, &both, sizeof u);
    return u;
}

template <int PAIRS> static __device__ __forceinline__ void load_pairs(const void *p, unsigned *u)
{
    static_assert(PAIRS == 2 || PAIRS == 4, "8 or 16 bytes at a time");
    if constexpr (PAIRS == 2) {
        uint2 q = *(const uint2 *)p;
        u[0] = q.x, u[1] = q.y;
    } else {
        uint4 q = *(const uint4 *)p;
        u[0] = q.x, u[1] = q.y, u[2] = q.z, u[3] = q.w;
    }
}

template <int N> static __device__ __forceinline__ void load(const bf16 *p, float (&v)[N])
{
    if constexpr (N == 1) {
        v[0] = __bfloat162float(*p);
    } else {
        unsigned u[N / 2];
        load_pairs<N / 2>(p, u);
#pragma unroll
        for (int i = 0; i < N / 2; i++) {
            v[2 * i] = __uint_as_float(u[i] << 16);
            v[2 * i + 1] = __uint_as_float(u[i] & 0xffff0000u);
        }
    }
}

template <int N> static __device__ __forceinline__ void load(const __half *p, float (&v)[N])
{
    if constexpr (N == 1) {
        v[0] = __half2float(*p);
    } else {
        unsigned u[N / 2];
        load_pairs<N / 2>(p, u);
#pragma unroll
        for (int i = 0; i < N / 2; i++) {
            __half pair[2];
            memcpy(pair, &u[i], sizeof pair);
            v[2 * i] = __half2float(pair[0]);
            v[2 * i + 1] = __half2float(pair[1]);
        }
    }
}

template <int N> static __device__ __forceinline__ void store(bf16 *p, const float (&v)[N])
{
    if constexpr (N == 1)
        *p = __float2bfloat16(v[0]);
    else
        *(uint4 *)p = make_uint4(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]),
                                 pack_bf16(v[4], v[5]), pack_bf16(v[6], v[7]));
}

static __device__ __forceinline__ double widen(double x) { return x; }
static __device__ __forceinline__ float widen(float x) { return x; }
static __device__ __forceinline__ float widen(bf16 x) { return __bfloat162float(x); }
static __device__ __forceinline__ float widen(__half x) { return __half2float(x); }
template <class T> static __device__ __forceinline__ T narrow(float x);
template <> __device__ __forceinline__ float narrow<float>(float x) { return x; }
template <> __device__ __forceinline__ bf16 narrow<bf16>(float x) { return __float2bfloat16(x); }

/* The type of long sums: f64 with f32 activations. */
template <class T> struct long_sum_of {
    typedef double type;
};
template <> struct long_sum_of<bf16> {
    typedef float type;
};
template <class T> using long_sum = typename long_sum_of<T>::type;

static inline int aligned16(const void *p) { return (uintptr_t)p % 16 == 0; }

/* ---- functions as exact as activations of type T need: beside bf16's rounding, 2^-22 is nothing
 */
static const float LOG2_E = 1.44269504f, LN_2 = 0.693147181f;

template <class T> static __device__ __forceinline__ float exp_of(float x) { return expf(x); }
template <> __device__ __forceinline__ float exp_of<bf16>(float x) { return exp2_fast(LOG2_E * x); }
template <class T> static __device__ __forceinline__ float quotient(float a, float b)
{
    return a / b;
}
template <> __device__ __forceinline__ float quotient<bf16>(float a, float b)
{
    return a * reciprocal_fast(b);
}

/* ---- sums: the same in every thread, in an order that never changes. The block has a multiple of
 * 32 threads in x, at most 1024. */
template <class V> static __device__ __forceinline__ V warp_sum(V v)
{
#pragma unroll
    for (int bits = WARP / 2; bits; bits /= 2)
        v += __shfl_xor_sync(ALL_LANES, v, bits);
    return v;
}

template <class V> static __device__ __forceinline__ V warp_max(V v)
{
#pragma unroll
    for (int bits = WARP / 2; bits; bits /= 2) {
        V other = __shfl_xor_sync(ALL_LANES, v, bits);
        /* two NaNs give a NaN; one NaN may be lost: callers detect those in sums */
        v = v > other ? v : other;
    }
    return v;
}

template <class V> static __device__ V block_sum(V v)
{
    SHARED(V, part, [WARP]);
    v = warp_sum(v);
    __syncthreads(); /* results of an earlier sum have been read */
    if (threadIdx.x % WARP == 0)
        part[threadIdx.x / WARP] = v;
    __syncthreads();
    return warp_sum(threadIdx.x % WARP < blockDim.x / WARP ? part[threadIdx.x % WARP] : (V)0);
}

template <class V> static __device__ V block_max(V v)
{
    SHARED(V, part, [WARP]);
    v = warp_max(v);
    __syncthreads();
    if (threadIdx.x % WARP == 0)
        part[threadIdx.x / WARP] = v;
    __syncthreads();
    return warp_max(part[threadIdx.x % WARP < blockDim.x / WARP ? threadIdx.x % WARP : 0]);
}

/* ---- elementwise passes over n values: f.at<N>(i) does values i..i+N-1. `f` is a struct with
 * template <int N> __device__ void at(int64_t) const. */
enum { MAP_THREADS = 256 };

template <int N, class F>
static __global__ void __launch_bounds__(MAP_THREADS) map_kernel(int64_t n, F f)
{
    int64_t i = ((int64_t)blockIdx.x * MAP_THREADS + threadIdx.x) * N;
    if (i + N <= n)
        f.template at<N>(i);
    else
        for (; i < n; i++)
            f.template at<1>(i);
}

/* T: the type that decides how many values make 16 bytes; `aligned`: all pointers of f are to 16
 * bytes. */
template <class T, class F>
static inline void map(const struct op_args *c, int64_t n, int aligned, F f)
{
    if (n <= 0)
        return;
    if (aligned)
        LAUNCH(c, (map_kernel<VECTOR<T>, F>), blocks_of(n, (int64_t)MAP_THREADS * VECTOR<T>),
               MAP_THREADS, 0, n, f);
    else
        LAUNCH(c, (map_kernel<1, F>), blocks_of(n, MAP_THREADS), MAP_THREADS, 0, n, f);
}

#endif
