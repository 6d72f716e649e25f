/* What the machine's vector units can do right now: multiply-adds on registers alone, at the widest
 * vectors this file was compiled for. */
#ifndef PARE_BENCH_FMA_H
#define PARE_BENCH_FMA_H

/* Best of a few short runs on that many threads. */
double fma_gflops(int threads); /* f32 */
/* dot products of pairs of bf16 with f32 sums; 0 where the instruction is missing */
double bf16_gflops(int threads);

#endif
