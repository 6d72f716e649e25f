/* Writing GGUF, version 3: metadata and tensor descriptions first, then data by pwrite in any
 * order. The file appears whole or not at all (lib/base/file_out.h). */
#ifndef PARE_GGUF_OUT_H
#define PARE_GGUF_OUT_H

#include "gguf.h"

/* ---- metadata, in the order of the calls; a key is put once */
struct gguf_head {
    char *bytes;
    size_t n, room;
    int64_t count;
};
void gguf_put_text(struct gguf_head *h, const char *key, const char *text);
void gguf_put_u32(struct gguf_head *h, const char *key, int64_t value);
void gguf_put_real(struct gguf_head *h, const char *key, double value); /* stored as f32 */
void gguf_put_flag(struct gguf_head *h, const char *key, int value);
/* lists of n; of u32, bool */
void gguf_put_u32s(struct gguf_head *h, const char *key, const int64_t *values, int64_t n);
void gguf_put_flags(struct gguf_head *h, const char *key, const int64_t *values, int64_t n);
void gguf_put_i32s(struct gguf_head *h, const char *key, const int32_t *values, int64_t n);
void gguf_put_reals(struct gguf_head *h, const char *key, const float *values, int64_t n);
void gguf_put_texts(struct gguf_head *h, const char *key, char *const *texts, int64_t n);
void gguf_head_free(struct gguf_head *h);

/* ---- the file. Of each tensor name, type, ndim and shape count; its place is computed */
struct gguf_out;
/* NULL on error: also if `path` is a pipe or a device, in which nothing can be written out of
 * order. */
struct gguf_out *gguf_create(const char *path, const struct gguf_head *head,
                             const struct gguf_tensor *tensors, int n, struct err *e);
/* Where it is being written: a file of the final size, which gguf_open can read. */
const char *gguf_out_path(const struct gguf_out *g);
/* `n` bytes at byte `offset` of tensor i's data. */
int gguf_write(struct gguf_out *g, int i, int64_t offset, const void *buf, int64_t n,
               struct err *e);
/* Publishes and frees; -1 also if a tensor got more or less data than it has. */
int gguf_finish(struct gguf_out *g, struct err *e);
/* Removes what was written; frees. */
void gguf_abandon(struct gguf_out *g);

#endif
