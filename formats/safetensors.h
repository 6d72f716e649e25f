/* safetensors files: an 8-byte length, a JSON header, then the data. Reading is by pread, so in any
 * order and constant memory. Refused: a header larger than 100 MB or than the file; offsets that
 * leave the file, overlap, or do not fit dtype and shape; duplicate names. */
#ifndef PARE_SAFETENSORS_H
#define PARE_SAFETENSORS_H

#include <jansson.h>
#include <stdint.h>

#include "../lib/base/err.h"
#include "../lib/base/tensor.h"

/* ---- one file, or several with an index (model.safetensors.index.json), seen as one set of
 * tensors */
struct safetensors;
/* `path`: a .safetensors file, an index.json, or a directory holding model.safetensors or
 * model.safetensors.index.json. */
struct safetensors *sf_open(const char *path, struct err *e);
int sf_count(const struct safetensors *s);
const struct tensor *sf_tensor(const struct safetensors *s, int i);
/* index or -1 (no error set) */
int sf_find(const struct safetensors *s, const char *name);
/* `n` bytes from byte `offset` of tensor i's data. */
int sf_read(struct safetensors *s, int i, int64_t offset, void *buf, int64_t n, struct err *e);
void sf_close(struct safetensors *s);

/* ---- writing: names, dtypes and shapes first, then data by pwrite in any order. Tensors are laid
 * out in the order given. max_shard_size 0: one file model.safetensors; else
 * model-0000i-of-0000n.safetensors and an index. Files carry {"format":"pt"} as metadata. */
struct safetensors_out;
struct safetensors_out *sf_create(const char *dir, const struct tensor *tensors, int n,
                                  int64_t max_shard_size, struct err *e);
int sf_write(struct safetensors_out *s, int i, int64_t offset, const void *buf, int64_t n,
             struct err *e);
/* fsync, close, free; -1 if anything failed */
int sf_finish(struct safetensors_out *s, struct err *e);

#endif
