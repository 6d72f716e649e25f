/* GGUF files, versions 2 and 3 (little-endian): a header of metadata and tensor descriptions, then
 * the data. Reading is by pread, so in any order and constant memory; the header (vocabularies
 * included) is held as it stands in the file. Refused: other versions and byte orders, counts and
 * lengths beyond the file, lists of lists, duplicate keys or tensors, tensors outside the file,
 * tensor types without a dequantiser here. */
#ifndef PARE_GGUF_H
#define PARE_GGUF_H

#include <stdint.h>

#include "../lib/base/err.h"
#include "../lib/base/tensor.h"

/* How a tensor's values are stored: name, number in the file, values and bytes per block. */
/* clang-format off */
#define GGUF_TYPES(X) \
    X(F32, 0, 1, 4) \
    X(F16, 1, 1, 2) \
    X(Q4_0, 2, 32, 18) \
    X(Q4_1, 3, 32, 20) \
    X(Q5_0, 6, 32, 22) \
    X(Q5_1, 7, 32, 24) \
    X(Q8_0, 8, 32, 34) \
    X(Q4_K, 12, 256, 144) \
    X(Q5_K, 13, 256, 176) \
    X(Q6_K, 14, 256, 210) \
    X(BF16, 30, 1, 2)
/* clang-format on */

enum gguf_type {
#define X(id, number, values, bytes) GGUF_##id,
    GGUF_TYPES(X)
#undef X
        GGUF_TYPE_COUNT
};

const char *gguf_type_name(enum gguf_type t);
int gguf_type_number(enum gguf_type t);
int gguf_block(enum gguf_type t); /* values per block; 1 if unquantised */
/* the enum dtype that has the same bytes (all unquantised types, Q8_0), or -1 */
int gguf_dtype(enum gguf_type t);
/* bytes of n values; -1 on overflow or if n is not a multiple of the block */
int64_t gguf_bytes(enum gguf_type t, int64_t n);
/* n values (a multiple of the block) from their bytes, rounded as the reference implementation
 * rounds (each product and sum in f32). */
void gguf_dequantize(enum gguf_type t, float *dst, const void *src, int64_t n);
/* The same in the other direction: the blocks that ggml's reference quantisation gives. The values
 * must be finite. */
void gguf_quantize(enum gguf_type t, void *dst, const float *src, int64_t n);

struct gguf_tensor {
    char name[TENSOR_NAME];
    enum gguf_type type;
    int ndim;
    int64_t shape[4];      /* row-major: the file's order reversed */
    int64_t offset, bytes; /* in the file */
};

struct gguf;
struct gguf *gguf_open(const char *path, struct err *e); /* NULL on error */
void gguf_close(struct gguf *g);
const char *gguf_path(const struct gguf *g);
int gguf_count(const struct gguf *g);
const struct gguf_tensor *gguf_tensor(const struct gguf *g, int i);
int gguf_find(const struct gguf *g, const char *name); /* index or -1 (no error set) */
/* `n` bytes from byte `offset` of tensor i's data. */
int gguf_read(struct gguf *g, int i, int64_t offset, void *buf, int64_t n, struct err *e);

/* ---- metadata: a value, or a list of values of one kind */
enum gguf_kind {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_REAL32,
    GGUF_BOOL,
    GGUF_TEXT,
    GGUF_LIST,
    GGUF_U64,
    GGUF_I64,
    GGUF_REAL64
};
struct gguf_text {
    const char *s;
    int64_t n;
}; /* not NUL-terminated, any bytes */
struct gguf_value {
    struct gguf_text key;
    enum gguf_kind kind; /* of the value, or of the list's members; never GGUF_LIST */
    int list;
    int64_t n; /* members; 1 if not a list */
    const unsigned char *at;
    int64_t bytes; /* of all members */
};
int gguf_values(const struct gguf *g);
const struct gguf_value *gguf_value_at(const struct gguf *g, int i);
const struct gguf_value *gguf_value(const struct gguf *g, const char *key); /* NULL if absent */
/* Member i as a whole number or as any number; 0 if it is neither (or, for u64, beyond 63 bits). */
int gguf_int(const struct gguf_value *v, int64_t i, int64_t *n);
int gguf_real(const struct gguf_value *v, int64_t i, double *x);
/* The texts of a value one after the other; start with *at = 0. Returns 0 at the end, or if the
 * value holds no texts. */
int gguf_next_text(const struct gguf_value *v, int64_t *at, struct gguf_text *text);

/* ---- writing, version 3. Metadata, in the order of the calls; a key is put once */
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

/* The file, which appears whole or not at all (lib/base/file_out.h): metadata and descriptions
 * first, then data by pwrite in any order. Of each tensor name, type, ndim and shape count; its
 * place is computed. */
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
