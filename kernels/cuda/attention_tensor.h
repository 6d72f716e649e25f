/* Tiles of attention on tensor cores: loading them, and the two kinds of product, for one warp of
 * MT times 16 rows.
 *
 * A tile is [rows, DP] bf16 in shared memory, DP the head size rounded up to a multiple of 16, the
 * rest zeros. Its rows are LD = DP + 8 apart: an odd number of 16-byte pieces, so that the eight
 * rows which ldmatrix reads at once lie in different banks. */
#ifndef PARE_ATTENTION_TENSOR_H
#define PARE_ATTENTION_TENSOR_H

#include "attention.h"

/* Hides v's value from the compiler, so that it does not keep rarely used results of it in
 * registers throughout a loop. */
static __device__ __forceinline__ void forget(int &v) { asm volatile("" : "+r"(v)); }

/* n: how many of the 8 values at `from` exist, none if not positive. ALIGNED is attention_shape's
 * `aligned` at compile time, since a kernel with both variants takes twice the code and the
 * registers that its sums need. */
template <bool ALIGNED>
static __device__ __forceinline__ void load_piece(bf16 *to, const bf16 *from, int n)
{
    if constexpr (ALIGNED) {
        async_copy(to, from, n <= 0);
    } else {
        for (int i = 0; i < 8; i++)
            to[i] = i < n ? from[i] : narrow<bf16>(0);
    }
}

/* How THREADS threads share the pieces of 16 bytes of a tile: LANES of them lie side by side, so
 * that a thread has the same columns of every ROWS-th row, and most of an address is worked out
 * once. */
template <int DP, int THREADS> struct tile_share {
    enum { LANES = DP / 8 & -(DP / 8), ROWS = THREADS / LANES, COLUMNS = 8 * LANES, LD = DP + 8 };
    int row, column;
    __device__ __forceinline__ tile_share()
    {
        int thread = (int)threadIdx.x;
        forget(thread);
        row = thread / LANES;
        column = thread % LANES * 8;
    }
};

/* Rows first .. first + N - 1 of q, do or the like; zeros from s.rows on. Where a row lies is taken
 * from the first row on, in 32 bits that may wrap before the difference is whole. */
template <int DP, int N, int THREADS, bool ALIGNED>
static __device__ __forceinline__ void load_rows(const attention_shape &s, bf16 *to, const bf16 *x,
                                                 int seq, int g, int first)
{
    typedef tile_share<DP, THREADS> S;
    S mine;
    int left = s.rows - first - mine.row;
    unsigned apart = (unsigned)((s.heads - s.group) * s.D),
             begin = (unsigned)(mine.row * s.D) - (unsigned)row_token(s, first) * apart;
    x += row_at(s, seq, g, first) + mine.column;
    to += mine.row * S::LD + mine.column;
#pragma unroll(ALIGNED ? N : 1)
    for (int i = 0; i < N; i += S::ROWS) {
        int at = (int)(begin + (unsigned)(i * s.D) +
                       (unsigned)row_token(s, first + mine.row + i) * apart);
#pragma unroll
        for (int d = 0; d < DP; d += S::COLUMNS)
            load_piece<ALIGNED>(to + i * S::LD + d, x + at + d,
                                i < left ? s.D - mine.column - d : 0);
    }
}

/* Keys first .. first + N - 1 of k or v; zeros from `end` on, where a cache may hold anything. */
template <int DP, int N, int THREADS, bool ALIGNED>
static __device__ __forceinline__ void load_keys(const attention_shape &s, bf16 *to, const bf16 *x,
                                                 int seq, int g, int first, int end)
{
    typedef tile_share<DP, THREADS> S;
    S mine;
    int left = end - first - mine.row;
    x += key_at(s, seq, g, first + mine.row) + mine.column;
    to += mine.row * S::LD + mine.column;
#pragma unroll(ALIGNED ? N : 1)
    for (int i = 0; i < N; i += S::ROWS)
#pragma unroll
        for (int d = 0; d < DP; d += S::COLUMNS)
            load_piece<ALIGNED>(to + i * S::LD + d, x + (int64_t)i * s.ldk + d,
                                i < left ? s.D - mine.column - d : 0);
}

/* The first keys of N rows, to shared memory: a block has no registers left for them. */
template <int N, int THREADS>
static __device__ __forceinline__ void load_first_keys(const attention_shape &s, int *to, int seq,
                                                       int first)
{
#pragma unroll
    for (int i = 0; i < N; i += THREADS)
        if (i + (int)threadIdx.x < N)
            to[i + threadIdx.x] = first_key(s, seq, first + i + (int)threadIdx.x);
}

template <int MT, int NT> static __device__ __forceinline__ void clear(float (&c)[MT][NT][4])
{
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int n = 0; n < NT; n++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                c[m][n][e] = 0;
}

/* c = A B^T for A [16 MT, 16 DEPTH] at a and B [8 NT, 16 DEPTH] at b, tiles with the same LD. */
template <int MT, int NT, int DEPTH, int LD>
static __device__ __forceinline__ void rows_times_rows(float (&c)[MT][NT][4], const bf16 *a,
                                                       const bf16 *b)
{
    int lane = (int)threadIdx.x % WARP;
    a += lane % 16 * LD + lane / 16 * 8;
    b += (lane / 16 * 8 + lane % 8) * LD + lane / 8 % 2 * 8;
    clear(c);
#pragma unroll
    for (int k = 0; k < DEPTH; k++) {
        uint32_t fa[MT][4], fb[4];
#pragma unroll
        for (int m = 0; m < MT; m++)
            ldmatrix(fa[m], a + m * 16 * LD + k * 16);
#pragma unroll
        for (int n = 0; n < NT; n += 2) {
            ldmatrix(fb, b + n * 8 * LD + k * 16);
#pragma unroll
            for (int m = 0; m < MT; m++) {
                mma(c[m][n], fa[m], fb);
                mma(c[m][n + 1], fa[m], fb + 2);
            }
        }
    }
}

/* c += A B for A [16 MT, 16 DEPTH] in registers and B [16 DEPTH, 8 NT] at b. */
template <int MT, int NT, int DEPTH, int LD>
static __device__ __forceinline__ void weights_times_rows(float (&c)[MT][NT][4],
                                                          const uint32_t (&a)[MT][DEPTH][4],
                                                          const bf16 *b)
{
    int lane = (int)threadIdx.x % WARP;
    b += lane % 16 * LD + lane / 16 * 8;
#pragma unroll
    for (int k = 0; k < DEPTH; k++)
#pragma unroll
        for (int n = 0; n < NT; n += 2) {
            uint32_t fb[4];
            ldmatrix_transposed(fb, b + k * 16 * LD + n * 8);
#pragma unroll
            for (int m = 0; m < MT; m++) {
                mma(c[m][n], a[m][k], fb);
                mma(c[m][n + 1], a[m][k], fb + 2);
            }
        }
}

/* Sums of one product as the left operand of the next: the layouts agree (see ptx.h). */
template <int MT, int NT>
static __device__ __forceinline__ void to_fragments(uint32_t (&a)[MT][NT / 2][4],
                                                    const float (&c)[MT][NT][4])
{
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int n = 0; n < NT; n++)
#pragma unroll
            for (int side = 0; side < 2; side++)
                a[m][n / 2][n % 2 * 2 + side] = pack_bf16(c[m][n][2 * side], c[m][n][2 * side + 1]);
}

/* Two neighbouring values to (or, with `add`, onto) columns i, i + 1 of a row of n. */
template <bool ALIGNED>
static __device__ __forceinline__ void put_pair(bf16 *row, int i, int n, bool add, float a, float b)
{
    if constexpr (ALIGNED) {
        if (i >= n)
            return;
        if (add) {
            uint32_t u = *(const uint32_t *)(row + i);
            a += __uint_as_float(u << 16);
            b += __uint_as_float(u & 0xffff0000u);
        }
        *(uint32_t *)(row + i) = pack_bf16(a, b);
    } else {
        if (i < n)
            row[i] = narrow<bf16>(add ? a + widen(row[i]) : a);
        if (i + 1 < n)
            row[i + 1] = narrow<bf16>(add ? b + widen(row[i + 1]) : b);
    }
}

/* Scores to the x of the exponentials (attention.h). tanh(y) is 1 - 2 / (1 + e^2y), which is no
 * worse than f32 for a value that is multiplied by the cap. */
static __device__ __forceinline__ float capped(const score_rule &rule, float score)
{
    return rule.cap - __fdividef(2 * rule.cap, 1 + exp2_fast(rule.inner * score));
}

template <int MT, int NT>
static __device__ __forceinline__ void cap_scores(const score_rule &rule, float (&x)[MT][NT][4])
{
    if (rule.cap <= 0)
        return;
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int n = 0; n < NT; n++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                x[m][n][e] = capped(rule, x[m][n][e]);
}

/* ALiBi, for x [16 MT, 8 NT] of a warp whose rows start at `row`, keys at `key`; first_keys: of
 * those rows. */
template <int MT, int NT>
static __device__ __forceinline__ void add_positions(const attention_shape &s,
                                                     float (&x)[MT][NT][4], const int *first_keys,
                                                     int g, int row, int key)
{
    int lane = (int)threadIdx.x % WARP;
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int side = 0; side < 2; side++) {
            int i = m * 16 + side * 8 + lane / 4, first = key + lane % 4 * 2 - first_keys[i];
            float slope = row_slope(s, g, row + i);
#pragma unroll
            for (int n = 0; n < NT; n++)
#pragma unroll
                for (int e = 0; e < 2; e++)
                    x[m][n][2 * side + e] += alibi_bias(slope, first + n * 8 + e);
        }
}

/* The same for x [16 MT, 8 NT] of keys from `key` on and rows from `row` on. */
template <int MT, int NT>
static __device__ __forceinline__ void add_key_positions(const attention_shape &s,
                                                         float (&x)[MT][NT][4],
                                                         const int *first_keys, int g, int row,
                                                         int key)
{
    int lane = (int)threadIdx.x % WARP;
#pragma unroll
    for (int n = 0; n < NT; n++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
            int i = n * 8 + lane % 4 * 2 + e, first = key + lane / 4 - first_keys[i];
            float slope = row_slope(s, g, row + i);
#pragma unroll
            for (int m = 0; m < MT; m++)
#pragma unroll
                for (int side = 0; side < 2; side++)
                    x[m][n][2 * side + e] += alibi_bias(slope, first + m * 16 + side * 8);
        }
}

/* row_stats to the base 2 */
static __device__ __forceinline__ float2 row_stats2(const attention_shape &s, const float2 *stats,
                                                    int item, int r)
{
    float2 of_row = row_stats(s, stats, item, r);
    return make_float2(of_row.x * LOG2_E, of_row.y);
}

static __device__ __forceinline__ float cap_slope(const score_rule &rule, float x)
{
    return 1 - x * rule.slope * (x * rule.slope);
}

#endif
