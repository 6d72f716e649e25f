/* Emulated: IEEE half precision, rounded to nearest even. */
#ifndef EMULATED_CUDA_FP16_H
#define EMULATED_CUDA_FP16_H

#include "cuda_runtime.h"

struct __half {
    _Float16 value;
    __half() = default;
    __half(float f) : value((_Float16)f) {}
    operator float() const { return (float)value; }
};
typedef __half half;
static inline float __half2float(__half x) { return x; }
static inline __half __float2half(float x) { return x; }

#endif
