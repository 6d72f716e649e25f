/* How a Hugging Face checkpoint stores the canonical tensors of a model: the family's `stored` rows
 * applied to its sizes. A stored tensor is made of groups (one, or one a head or KV group), each
 * holding some rows of every canonical tensor in turn. */
#ifndef PARE_HF_LAYOUT_H
#define PARE_HF_LAYOUT_H

#include "../model/model.h"

/* Where canonical tensor [rows, cols] lies: its row r is row  r / group_rows * stride + offset + r
 * % group_rows  of stored tensor `stored`. */
struct hf_view {
    int stored;
    int64_t rows, cols; /* a vector has cols 1 */
    int64_t group_rows, stride, offset;
    int64_t stored_rows; /* rows of the stored tensor, seen as [rows, cols] */
    int transposed;      /* stored as [cols, stored_rows] */
};

struct hf_layout {
    /* foreign names and shapes, in the order of the canonical tensors; dtype that of the parts (f32
     * where they differ) */
    struct tensor *stored;
    struct hf_view *views; /* [h->n_tensors] */
    int n_stored;
};

/* -1: a canonical tensor that no row stores, or only part of a fused one. */
int hf_layout_make(struct hf_layout *l, const struct model_spec *h, struct err *e);
void hf_layout_free(struct hf_layout *l);
/* Foreign name of the canonical tensor outside the blocks with this stem ("lm_head"), suffix
 * .weight included; 0 if no row stores it alone. */
int hf_stored_name(const struct family *f, const char *stem, char name[TENSOR_NAME]);

/* Stored row of canonical row r, and how many canonical rows follow it there without a jump (itself
 * included). */
int64_t hf_view_row(const struct hf_view *v, int64_t r, int64_t *run);

/* dst[j * dst_stride + i] = src[i * src_stride + j] for i < n, j < m, in elements of `size` bytes
 * (1, 2, 4, 8). */
void hf_transpose(void *dst, int64_t dst_stride, const void *src, int64_t src_stride, int64_t n,
                  int64_t m, int64_t size);

enum {
    HF_BLOCK = 16 << 20, /* bytes of a tensor held at once */
    HF_TILE = 64
}; /* columns transposed at once */

#endif
