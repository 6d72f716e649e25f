/* The instructions of tensor cores that CUDA C++ has no words for, each a small function with a
 * twin for the emulator (tests/emulator): ldmatrix, mma.sync m16n8k16 for bf16 with f32 sums,
 * cp.async, ex2. sm_80 and later.
 *
 * A fragment of mma is spread over a warp. With g = lane / 4 and i = 2 * (lane % 4), pairs of bf16
 * in a register, lower column first: a[4]: A [16,16] at rows g, g+8, g, g+8 and columns i, i, i+8,
 * i+8      b[2]: B [16,8] at rows i, i+8 (and the next) of column g c[4]: C [16,8] at (g, i), (g,
 * i+1), (g+8, i), (g+8, i+1) */
#ifndef PARE_MMA_H
#define PARE_MMA_H

#include <stdint.h>

#include "cuda.h"

#ifndef CUDA_EMULATED

static __device__ __forceinline__ uint32_t shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* Four 8 x 8 matrices; lane l gives the address of row l % 8 of matrix l / 8 (16 bytes, aligned)
 * and gets (g, i), (g, i+1) of each. */
static __device__ __forceinline__ void ldmatrix(uint32_t r[4], const bf16 *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row)));
}

/* The same, each matrix transposed: the lane gets (i, g), (i+1, g). */
static __device__ __forceinline__ void ldmatrix_transposed(uint32_t r[4], const bf16 *row)
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

/* 16 bytes from global to shared memory, both aligned to 16, or zeros; there after async_wait. */
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

#else

#include <vector>

static inline const bf16 *emulated_row(const unsigned char *all, int matrix, int row)
{
    const bf16 *p;
    memcpy(&p, all + (size_t)(matrix * 8 + row) * EMULATED_DEPOSIT, sizeof p);
    return p;
}

static inline uint32_t emulated_pair(bf16 low, bf16 high)
{
    return (uint32_t)high.bits << 16 | low.bits;
}

static inline void ldmatrix(uint32_t r[4], const bf16 *row)
{
    const unsigned char *all = emulated_exchange(&row, sizeof row, 0xffffffffu);
    int g = emulated_lane() / 4, i = emulated_lane() % 4 * 2;
    for (int m = 0; m < 4; m++)
        r[m] = emulated_pair(emulated_row(all, m, g)[i], emulated_row(all, m, g)[i + 1]);
}

static inline void ldmatrix_transposed(uint32_t r[4], const bf16 *row)
{
    const unsigned char *all = emulated_exchange(&row, sizeof row, 0xffffffffu);
    int g = emulated_lane() / 4, i = emulated_lane() % 4 * 2;
    for (int m = 0; m < 4; m++)
        r[m] = emulated_pair(emulated_row(all, m, i)[g], emulated_row(all, m, i + 1)[g]);
}

struct emulated_fragments {
    uint32_t a[4], b[2];
};

static inline float emulated_half(uint32_t pair, int high)
{
    return __uint_as_float(high ? pair & 0xffff0000u : pair << 16);
}

static inline void mma(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    emulated_fragments mine = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
    const unsigned char *all = emulated_exchange(&mine, sizeof mine, 0xffffffffu);
    int g = emulated_lane() / 4, column = emulated_lane() % 4 * 2;
    for (int k = 0; k < 16; k++) {
        emulated_fragments rows, columns[2];
        memcpy(&rows, all + (size_t)(g * 4 + k % 8 / 2) * EMULATED_DEPOSIT, sizeof rows);
        for (int n = 0; n < 2; n++)
            memcpy(&columns[n], all + (size_t)((column + n) * 4 + k % 8 / 2) * EMULATED_DEPOSIT,
                   sizeof columns[n]);
        for (int i = 0; i < 4; i++)
            c[i] += emulated_half(rows.a[i / 2 + k / 8 * 2], k % 2) *
                    emulated_half(columns[i % 2].b[k / 8], k % 2);
    }
}

/* A copy happens when it is waited for, and leaves NaNs until then. */
struct emulated_copy {
    void *to;
    const void *from;
    bool zeros;
};
static inline std::vector<emulated_copy> &emulated_copies(void)
{
    static std::vector<emulated_copy> copies[1024];
    return copies[threadIdx.x];
}

static inline void async_copy(void *shared, const void *global, bool zeros)
{
    memset(shared, 0xff, 16);
    emulated_copies().push_back({shared, global, zeros});
}

static inline void async_wait(void)
{
    for (const emulated_copy &c : emulated_copies())
        if (c.zeros)
            memset(c.to, 0, 16);
        else
            memcpy(c.to, c.from, 16);
    emulated_copies().clear();
}

static inline float exp2_fast(float x) { return exp2f(x); }

#endif
#endif
