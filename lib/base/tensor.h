/* What a tensor is: a name, a dtype and a shape (row-major, little-endian). Its data is
 * elsewhere. */
#ifndef PARE_TENSOR_H
#define PARE_TENSOR_H

#include <stddef.h>
#include <stdint.h>

/* q8_0: blocks of 32 values of the last dimension, each an f16 scale and 32 int8 (34 bytes); value
 * = scale * int8 */
/* clang-format off */
#define DTYPES(X) \
    X(F64, "f64", 8) \
    X(F32, "f32", 4) \
    X(F16, "f16", 2) \
    X(BF16, "bf16", 2) \
    X(I64, "i64", 8) \
    X(I32, "i32", 4) \
    X(U32, "u32", 4) \
    X(U16, "u16", 2) \
    X(U8, "u8", 1) \
    X(Q8_0, "q8_0", 0)
/* clang-format on */

enum dtype {
#define X(id, name, bytes) DT_##id,
    DTYPES(X)
#undef X
        DT_COUNT
};

enum { TENSOR_DIMS = 6, TENSOR_NAME = 200, Q8_BLOCK = 32, Q8_BYTES = 34 };

struct tensor {
    char name[TENSOR_NAME];
    enum dtype dtype;
    int ndim;
    int64_t shape[TENSOR_DIMS];
};

const char *dtype_name(enum dtype d);
int dtype_parse(const char *name); /* enum dtype, or -1 */

/* Entries of the whole tensor; -1 if a dimension is negative or the product does not fit. A tensor
 * of no dimensions has one. */
int64_t tensor_count(const struct tensor *t);
/* Bytes of `n` entries in a row of that dtype; -1 on overflow or, for q8_0, when n is not a
 * multiple of 32. */
int64_t dtype_bytes(enum dtype d, int64_t n);
/* The entries that so many bytes hold, the other way round. */
int64_t dtype_count(enum dtype d, int64_t bytes);
int64_t tensor_bytes(const struct tensor *t); /* -1 as above */
int tensor_same_shape(const struct tensor *a, const struct tensor *b);
/* "[2, 3]" */
enum { TENSOR_SHAPE = 22 * TENSOR_DIMS + 3 };
const char *tensor_shape(const struct tensor *t, char text[TENSOR_SHAPE]);

/* Widening is exact from f16, bf16, f32 and the integers up to 24 bits; narrowing rounds to nearest
 * even and keeps NaN and infinities. from_f32 refuses nothing: values beyond f16 become infinite.
 * To q8_0, n a multiple of 32, it rounds as ggml's reference quantisation does: the scale is the
 * largest magnitude of the block / 127. Supported: f64 f32 f16 bf16 q8_0 (both ways), integers
 * (to_f32 only). */
void to_f32(float *dst, const void *src, enum dtype d, int64_t n);
void from_f32(void *dst, enum dtype d, const float *src, int64_t n);

static inline float bf16_to_f32(uint16_t h)
{
    union {
        uint32_t u;
        float f;
    } x = {(uint32_t)h << 16};
    return x.f;
}
float f16_to_f32(uint16_t h);
/* The 32 values of a q8_0 block, whose scale the caller has widened; inline, so that kernels are
 * vectorised. */
static inline void q8_0_widen(float *__restrict to, const void *__restrict block, float scale)
{
    const int8_t *q = (const int8_t *)block + 2;
    for (int i = 0; i < Q8_BLOCK; i++)
        to[i] = scale * (float)q[i];
}
uint16_t f32_to_f16(float f);
uint16_t f32_to_bf16(float f);

#endif
