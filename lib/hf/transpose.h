/* Matrices that a class stores [in, out] are transposed on the way in and out. */
#ifndef PARE_HF_TRANSPOSE_H
#define PARE_HF_TRANSPOSE_H

#include <stdint.h>

enum {
    HF_BLOCK = 16 << 20, /* bytes of a tensor held at once */
    HF_TILE = 64         /* columns transposed at once */
};

/* dst[j * dst_stride + i] = src[i * src_stride + j] for i < n, j < m, in elements of `size` bytes
 * (1, 2, 4, 8). */
void hf_transpose(void *dst, int64_t dst_stride, const void *src, int64_t src_stride, int64_t n,
                  int64_t m, int64_t size);

#endif
