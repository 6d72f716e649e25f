/* The register FMA loop: see fma.h. */
#include "fma.h"

#include <omp.h>

#if defined(__AVX512F__)
enum { LANES = 16 };
#else
enum { LANES = 8 };
#endif
typedef float lanes __attribute__((vector_size(LANES * 4)));

/* Twelve independent chains, enough to hide a latency of four cycles on two units; variables, since
 * an array would be kept in memory. */
enum { CHAINS = 12 };
#define EACH_CHAIN(X) X(a0) X(a1) X(a2) X(a3) X(a4) X(a5) X(a6) X(a7) X(a8) X(a9) X(a10) X(a11)

static float fma_run(long rounds)
{
    lanes b = (lanes){0} + 0.999f, c = (lanes){0} + 1e-3f;
#define X(a) lanes a = (lanes){0} + 0.1f;
    EACH_CHAIN(X)
#undef X
    for (long r = 0; r < rounds; r++) {
#define X(a) \
    a = a * b + c; \
    __asm__ volatile("" : "+v"(a)); /* may be fused, but neither dropped nor merged */
        EACH_CHAIN(X)
#undef X
    }
#define X(a) +a[0]
    return 0 EACH_CHAIN(X);
#undef X
}

#ifdef __AVX512BF16__
#include <immintrin.h>

static float bf16_run(long rounds)
{
    __m512bh b = (__m512bh)_mm512_set1_epi16(0x3f80), c = b;
#define X(a) __m512 a = _mm512_set1_ps(0.1f);
    EACH_CHAIN(X)
#undef X
    for (long r = 0; r < rounds; r++) {
#define X(a) \
    a = _mm512_dpbf16_ps(a, b, c); \
    __asm__ volatile("" : "+v"(a));
        EACH_CHAIN(X)
#undef X
    }
#define X(a) +a[0]
    return 0 EACH_CHAIN(X);
#undef X
}
#endif

static double best_gflops(int threads, float run(long rounds), int flops)
{
    const long rounds = 8000000;
    double best = 0;
    volatile float sink = 0;
    for (int attempt = 0; attempt < 5; attempt++) {
        double start = omp_get_wtime();
#pragma omp parallel num_threads(threads)
        sink = run(rounds);
        double g = (double)threads * (double)rounds * CHAINS * flops / (omp_get_wtime() - start) /
                   1e9;
        best = g > best ? g : best;
    }
    (void)sink;
    return best;
}

double fma_gflops(int threads) { return best_gflops(threads, fma_run, LANES * 2); }

double bf16_gflops(int threads)
{
#ifdef __AVX512BF16__
    return best_gflops(threads, bf16_run, LANES * 4);
#else
    (void)threads;
    return 0;
#endif
}
