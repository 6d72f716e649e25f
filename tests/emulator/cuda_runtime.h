/* An emulator of the part of the CUDA runtime that kernels/cuda uses, so that the kernels can be
 * tested without a card. A grid's blocks run one after the other, a block's threads as fibers that
 * switch at barriers and warp collectives, in an order drawn anew for each block; work put into a
 * stream runs when the host waits for it, never before.
 *
 * What it catches: barriers that not all threads reach, and most missing ones (by the order);
 * shared and device memory that is read before it is written (both start as NaNs); writes past
 * shared arrays and device memory (guards); host code that touches device memory, or pinned buffers
 * that a copy still needs; launches that a card would refuse. Seed of the order:
 * PARE_EMULATOR_SEED. Not emulated: races within a warp's step, speed. */
#ifndef EMULATED_CUDA_RUNTIME_H
#define EMULATED_CUDA_RUNTIME_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <functional>
#include <tuple>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static /* not checked: SHARED of ptx.h is */

/* ---- vector types */
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) double2 {
    double x, y;
};
struct alignas(8) int2 {
    int x, y;
};
struct alignas(16) int4 {
    int x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w)
{
    return {x, y, z, w};
}

/* ---- where a thread is */
extern dim3 threadIdx, blockIdx, blockDim, gridDim;
enum { warpSize = 32 };

/* ---- collectives */
void __syncthreads(void);
void __syncwarp(unsigned mask = 0xffffffffu);
enum { EMULATED_DEPOSIT = 128 }; /* bytes that a lane can hand to the others at once */
/* Hands `bytes` of each lane to all lanes of the warp; returns [32][stride], valid until the lane's
 * next collective. */
const unsigned char *emulated_exchange(const void *mine, size_t bytes, unsigned mask,
                                       size_t stride = EMULATED_DEPOSIT);
int emulated_lane(void);  /* of the calling thread, 0..31 */
int emulated_lanes(void); /* of its warp that have not returned */

template <class T> static inline T emulated_pick(T v, int lane, unsigned mask)
{
    static_assert(sizeof v <= 8, "a shuffle moves 8 bytes at most");
    const unsigned char *all = emulated_exchange(&v, sizeof v, mask, 8);
    memcpy(&v, all + lane * 8, sizeof v);
    return v;
}
template <class T> static inline T __shfl_sync(unsigned mask, T v, int lane, int width = 32)
{
    return emulated_pick(v, emulated_lane() / width * width + (lane & (width - 1)), mask);
}
template <class T> static inline T __shfl_xor_sync(unsigned mask, T v, int bits, int width = 32)
{
    int to = emulated_lane() ^ bits;
    return emulated_pick(v, to / width > emulated_lane() / width ? emulated_lane() : to, mask);
}
template <class T> static inline T __shfl_down_sync(unsigned mask, T v, unsigned by, int width = 32)
{
    int me = emulated_lane(), to = me + (int)by;
    return emulated_pick(v, to / width != me / width ? me : to, mask);
}
template <class T> static inline T __shfl_up_sync(unsigned mask, T v, unsigned by, int width = 32)
{
    int me = emulated_lane(), to = me - (int)by;
    return emulated_pick(v, to < me / width * width ? me : to, mask);
}
unsigned __ballot_sync(unsigned mask, int predicate);
static inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
static inline int __any_sync(unsigned mask, int predicate)
{
    return __ballot_sync(mask, predicate) != 0;
}
static inline int __all_sync(unsigned mask, int predicate)
{
    return __ballot_sync(mask, !predicate) == 0;
}
static inline void __threadfence(void) {}

/* ---- functions of device code that C does not have */
static inline float rsqrtf(float x) { return 1 / sqrtf(x); }
#define __expf expf
#define __logf logf
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __frcp_rn(float x) { return 1 / x; }
static inline float normcdff(float x) { return 0.5f * erfcf(-x * 0.70710678f); }
template <class T> static inline T __ldg(const T *p) { return *p; }
template <class T> static inline T __ldcs(const T *p) { return *p; }
template <class T> static inline void __stcs(T *p, T v) { *p = v; }
static inline unsigned __float_as_uint(float f)
{
    unsigned u;
    memcpy(&u, &f, 4);
    return u;
}
static inline float __uint_as_float(unsigned u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline int min(int a, int b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }
static inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
static inline unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
static inline int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max(int64_t a, int64_t b) { return a > b ? a : b; }

/* ---- shared memory: one array for each place in the code and block, NaNs at first, a guard behind
 * it */
void *emulated_shared(const void *place, size_t bytes);
void *emulated_shared_dynamic(void);

/* ---- the runtime */
enum cudaError_t {
    cudaSuccess,
    cudaErrorInvalidValue,
    cudaErrorMemoryAllocation,
    cudaErrorInvalidConfiguration,
    cudaErrorStreamCaptureUnsupported
};
enum cudaMemcpyKind {
    cudaMemcpyHostToHost,
    cudaMemcpyHostToDevice,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice,
    cudaMemcpyDefault
};
enum cudaFuncAttribute {
    cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
    cudaFuncAttributePreferredSharedMemoryCarveout = 9
};
enum { cudaSharedmemCarveoutMaxShared = 100 };
enum cudaStreamCaptureMode {
    cudaStreamCaptureModeGlobal,
    cudaStreamCaptureModeThreadLocal,
    cudaStreamCaptureModeRelaxed
};
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2 };
typedef struct emulated_stream *cudaStream_t;
typedef struct emulated_graph *cudaGraph_t;
typedef struct emulated_graph *cudaGraphExec_t;
typedef struct emulated_event *cudaEvent_t;
struct cudaDeviceProp {
    char name[256];
    int major, minor, multiProcessorCount;
    size_t totalGlobalMem;
};

const char *cudaGetErrorString(cudaError_t status);
cudaError_t cudaGetLastError(void);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceCount(int *n);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device);
cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaMemGetInfo(size_t *available, size_t *total);
cudaError_t cudaDeviceSynchronize(void);
cudaError_t cudaMalloc(void **p, size_t bytes);
cudaError_t cudaFree(void *p);
cudaError_t cudaMallocHost(void **p, size_t bytes);
cudaError_t cudaFreeHost(void *p);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t s = NULL);
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t s = NULL);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t s);
cudaError_t cudaStreamSynchronize(cudaStream_t s);
cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *x, cudaGraph_t g, unsigned long long flags = 0);
cudaError_t cudaGraphLaunch(cudaGraphExec_t x, cudaStream_t s);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t x);
cudaError_t cudaGraphDestroy(cudaGraph_t g);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags);
cudaError_t cudaEventCreate(cudaEvent_t *e);
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s = NULL);
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned flags);
cudaError_t cudaEventSynchronize(cudaEvent_t e);
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to);
cudaError_t cudaEventDestroy(cudaEvent_t e);
/* The clock of events: what matrix products are said to take, not what they do, so that a choice by
 * time is the same in every run. */
extern double emulated_milliseconds;
cudaError_t emulated_allow_shared(const void *kernel, int bytes);
template <class F>
static inline cudaError_t cudaFuncSetAttribute(F *f, cudaFuncAttribute which, int value)
{
    if (which == cudaFuncAttributePreferredSharedMemoryCarveout)
        return cudaSuccess;
    return emulated_allow_shared((const void *)f, value);
}

/* ---- what ptx.h and the shim of cuBLASLt build on */
/* into the stream, or the graph that is being captured */
void emulated_enqueue(std::function<void()> work);
/* the whole range lies in one piece of device memory */
int emulated_is_device(const void *p, size_t bytes);
/* cudaFuncSetAttribute told of as much */
int emulated_is_allowed(const void *kernel, size_t shared);
void emulated_run(const char *name, dim3 grid, dim3 block, size_t shared, int is_allowed,
                  const std::function<void()> &thread);
/* and keeps the error for cudaGetLastError */
int emulated_refuses(const void *kernel, dim3 grid, dim3 block, size_t shared);

#endif
