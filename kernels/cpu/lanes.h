/* Vectors of LANES f32 for the loops that the compiler does not turn into good vector code by itself:
 *
 *   lanes           may stand at any address
 *   lanes_sum(v)    of its values
 *   lanes_from_i8   LANES int8 as f32
 *
 * Handed on by address: by value they would have another ABI on machines without AVX. */
#ifndef PARE_LANES_H
#define PARE_LANES_H

#include <stdint.h>
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

/* By name of the instruction where there is one: gcc 12 makes ten of it. */
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

#endif
