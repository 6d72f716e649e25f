/* Shared by ops with weights: the address of a row of a matrix, and rows of frozen bf16, f16 or
 * q8_0 as f32. A row of q8_0 is a multiple of 32. */
#ifndef PARE_CPU_WEIGHTS_H
#define PARE_CPU_WEIGHTS_H

#include "../op.h"
#include "vecmath.h"

/* Bytes of n weights; of q8_0, of the whole blocks among them. */
static inline int64_t weight_bytes(enum dtype d, int64_t n)
{
    if (d == DT_Q8_0)
        return n / Q8_BLOCK * Q8_BYTES;
    return n * (d == DT_F32 ? 4 : 2);
}

static inline const char *weight_row(const struct operand *w, int64_t i)
{
    return (const char *)w->v + i * weight_bytes(w->dtype, w->cols);
}

/* Rows first..first+n-1 as f32: in place if they are, else in `wide`. */
static inline const float *weight_rows(const struct operand *w, int64_t first, int64_t n,
                                       float *wide)
{
    if (w->dtype == DT_F32)
        return (const float *)weight_row(w, first);
    vec_widen(wide, weight_row(w, first), w->dtype, n * w->cols);
    return wide;
}

#endif
