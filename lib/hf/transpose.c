/* Transposition in blocks: see transpose.h. */
#include "transpose.h"

/* Eight columns at a time: with power-of-two strides, more rows of dst would evict each other from
 * the cache. */
#define TRANSPOSE(type) \
    for (int64_t j0 = 0; j0 < m; j0 += 8) \
        for (int64_t i = 0; i < n; i++) \
            for (int64_t j = j0; j < m && j < j0 + 8; j++) \
    ((type *)dst)[j * dst_stride + i] = ((const type *)src)[i * src_stride + j]

void hf_transpose(void *dst, int64_t dst_stride, const void *src, int64_t src_stride, int64_t n,
                  int64_t m, int64_t size)
{
    if (size == 1)
        TRANSPOSE(uint8_t);
    else if (size == 2)
        TRANSPOSE(uint16_t);
    else if (size == 4)
        TRANSPOSE(uint32_t);
    else
        TRANSPOSE(uint64_t);
}
