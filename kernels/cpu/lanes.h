/* Vectors of LANES f32, for the loops that the compiler does not vectorise well by itself:
 *
 *   lanes                    the type; no alignment is needed
 *   lanes_sum(v)             sum of its values
 *   lanes_from_i8            LANES int8 as f32
 *   lanes_from_bf16, _f16    LANES of these as f32
 *   lanes_transpose(v)       transposes LANES vectors as a square matrix
 *
 * Passed by address: by value they would have another ABI on machines without AVX. */
#ifndef PARE_LANES_H
#define PARE_LANES_H

#include <stdint.h>

#include "vecmath.h"
#ifdef __AVX2__
#include <immintrin.h>
#endif

#ifdef __AVX512F__
enum { LANES = 16 };
#else
enum { LANES = 8 };
#endif
typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4)));

static inline float lanes_sum(const lanes *v)
{
    float s = 0;
#pragma omp simd reduction(+ : s)
    for (int i = 0; i < LANES; i++)
        s += (*v)[i];
    return s;
}

/* With intrinsics where they exist: gcc 12 turns one into up to ten instructions. */
static inline void lanes_from_i8(lanes *to, const void *from)
{
#if defined __AVX512F__
    *to = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from)));
#elif defined __AVX2__
    *to = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from)));
#else
    for (int i = 0; i < LANES; i++)
        (*to)[i] = (float)((const int8_t *)from)[i];
#endif
}

static inline void lanes_from_bf16(lanes *to, const void *from)
{
#if defined __AVX512F__
    *to = _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(from)), 16));
#elif defined __AVX2__
    *to = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(from)), 16));
#else
    for (int i = 0; i < LANES; i++)
        (*to)[i] = vec_from_bits((uint32_t)((const uint16_t *)from)[i] << 16);
#endif
}

static inline void lanes_from_f16(lanes *to, const void *from)
{
#if defined __AVX512F__
    *to = _mm512_cvtph_ps(_mm256_loadu_si256(from));
#elif defined __F16C__
    *to = _mm256_cvtph_ps(_mm_loadu_si128(from));
#else
    for (int i = 0; i < LANES; i++)
        (*to)[i] = vec_from_f16(((const uint16_t *)from)[i]);
#endif
}

/* Shuffle indices that exchange every other run of `run` lanes between a and b (a's second run with
 * b's first): lane l comes from a if the index is below LANES, else from b. */
typedef int32_t lane_places __attribute__((vector_size(4 * LANES)));
#define LANE_A(l, run) ((l) & (run) ? LANES + (l) - (run) : (l))
#define LANE_B(l, run) ((l) & (run) ? LANES + (l) : (l) + (run))
#define LANES_8(of, l, run) \
    of(l, run), of(l + 1, run), of(l + 2, run), of(l + 3, run), of(l + 4, run), of(l + 5, run), \
        of(l + 6, run), of(l + 7, run)
#ifdef __AVX512F__
#define LANE_PLACES(of, run) LANES_8(of, 0, run), LANES_8(of, 8, run)
#else
#define LANE_PLACES(of, run) LANES_8(of, 0, run)
#endif
#ifdef __clang__
#define LANES_TAKE(a, b, of, run) __builtin_shufflevector(a, b, LANE_PLACES(of, run))
#else /* gcc has the other only from version 12 on */
#define LANES_TAKE(a, b, of, run) __builtin_shuffle(a, b, (lane_places){LANE_PLACES(of, run)})
#endif

#define LANES_EXCHANGE(v, run) \
    _Pragma("GCC unroll 16") for (int i = 0; i < LANES; i++) if (!(i & (run))) \
    { \
        lanes a = v[i], b = v[i + (run)]; \
        v[i] = LANES_TAKE(a, b, LANE_A, run); \
        v[i + (run)] = LANES_TAKE(a, b, LANE_B, run); \
    }

static inline __attribute__((always_inline)) void lanes_transpose(lanes v[LANES])
{
    LANES_EXCHANGE(v, 1)
    LANES_EXCHANGE(v, 2)
    LANES_EXCHANGE(v, 4)
#ifdef __AVX512F__
    LANES_EXCHANGE(v, 8)
#endif
}

#endif
