/* What the machine's vector units can do right now: multiply-adds on registers alone, at the widest vectors this file was compiled for. */
#ifndef PARE_BENCH_FMA_H
#define PARE_BENCH_FMA_H

double fma_gflops(int threads);     /* f32, best of a few short runs on that many threads */

#endif
