/* The smaller and the larger of two numbers. */
#ifndef PARE_MINMAX_H
#define PARE_MINMAX_H

#include <stdint.h>

static inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

#endif
