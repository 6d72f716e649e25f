/* What only the device compiler can translate, each in a small function: shared memory, launches,
 * and instructions without a CUDA C++ equivalent (ldmatrix, mma.sync m16n8k16 for bf16 with f32
 * sums, cp.async, ex2, rcp). sm_80 and later. Included as <ptx.h>: tests/emulator has a ptx.h of
 * its own, which is found first there.
 *
 * A fragment of mma is spread over a warp, pairs of bf16 in a register, lower column first. With g
 * = lane / 4 and i = 2 * (lane % 4), a lane holds
 *
 *   a[4]  of A [16,16]: (g, i) (g+8, i) (g, i+8) (g+8, i+8), each with the next column
 *   b[2]  of B [16,8]:  (i, g) (i+8, g), each with the next row
 *   c[4]  of C [16,8]:  (g, i) (g, i+1) (g+8, i) (g+8, i+1) */
#ifndef PARE_PTX_H
#define PARE_PTX_H

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <stdint.h>

/* SHARED(float, tile, [32][33]); declares an array of the block, aligned to 16 bytes.
 * SHARED_DYNAMIC(T, name); declares a T * to the launch's dynamic bytes, aligned to 128. */
#define SHARED(type, name, dims) __shared__ __align__(16) type name dims
#define SHARED_DYNAMIC(type, name) \
    extern __shared__ __align__(128) unsigned char dynamic_bytes[]; \
    type *name = (type *)dynamic_bytes

/* name: for messages */
template <class... P, class... A>
static inline void start_kernel(const char *name, dim3 grid, dim3 block, size_t shared,
                                cudaStream_t stream, void (*kernel)(P...), A... arguments)
{
    (void)name;
    kernel<<<grid, block, shared, stream>>>(arguments...);
}

static __device__ __forceinline__ uint32_t shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* Four 8 x 8 matrices; lane l gives the address of row l % 8 of matrix l / 8 (16 bytes, aligned)
 * and gets (g, i), (g, i+1) of each. */
static __device__ __forceinline__ void ldmatrix(uint32_t r[4], const __nv_bfloat16 *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row)));
}

/* The same, each matrix transposed: the lane gets (i, g), (i+1, g). */
static __device__ __forceinline__ void ldmatrix_transposed(uint32_t r[4], const __nv_bfloat16 *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row)));
}

/* c += a b */
static __device__ __forceinline__ void mma(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* 16 bytes from global to shared memory, both aligned to 16, or zeros; complete after async_wait.
 */
static __device__ __forceinline__ void async_copy(void *shared, const void *global, bool zeros)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
                 "l"(global), "r"(zeros ? 0 : 16)
                 : "memory");
}

/* This thread's copies are done; those of the others are after the next barrier. */
static __device__ __forceinline__ void async_wait(void)
{
    asm volatile("cp.async.wait_all;" ::: "memory");
}

/* 2^x, 2^-22 off; 0 below the normal numbers */
static __device__ __forceinline__ float exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* 1 / x, 2^-23 off; 0 beyond 2^126 */
static __device__ __forceinline__ float reciprocal_fast(float x)
{
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#endif
