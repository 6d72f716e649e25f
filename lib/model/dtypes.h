/* Dtypes of weights: the value of an option --dtype, the dtype in which a tensor is written, and
 * rounding to it. */
#ifndef PARE_DTYPES_H
#define PARE_DTYPES_H

#include "../base/err.h"
#include "../base/tensor.h"

/* What all tensors are written in; {0}: each keeps its own. */
struct dtype_choice {
    int given;
    enum dtype dtype;
};
/* text: keep, f32, f16, bf16 or q8_0; NULL: keep. -1: something else. */
int dtype_choose(struct dtype_choice *c, const char *text, struct err *e);

/* The dtype in which a tensor of the shape of `t` is written, stored as `from`. What q8_0 does not
 * hold becomes f16 if it is a matrix whose rows are not whole blocks of 32 values, and f32 if it is
 * a vector; a vector becomes q8_0 only if it is stored so. */
enum dtype dtype_written(struct dtype_choice c, enum dtype from, const struct tensor *t);

/* The next n values of t, of type `from`, in t's dtype, at `to`; q8_0 on either side: n is a
 * multiple of 32. -1: a finite value that f16, as dtype or as scale of q8_0, cannot represent. */
int dtype_convert(void *to, const struct tensor *t, const void *values, enum dtype from, int64_t n,
                  struct err *e);

#endif
