/* Reading a model: one spec, then files (tokenizer.json, ...), then the tensors in the spec's
 * order, once, in constant memory. A kind of source (directory, stream, GGUF) fills a struct
 * model_in at open and offers five functions; source.c does the rest: order, byte counts, errors
 * that stick. */
#ifndef PARE_SOURCE_H
#define PARE_SOURCE_H

#include "spec.h"

struct model_source {
    /* NULL: no such file (no error), or an error */
    const char *(*file)(void *self, const char *name, int64_t *bytes, struct err *e);
    /* tensor i of the spec begins; called in order, once each. 0 or -1 */
    int (*next)(void *self, int i, struct err *e);
    /* the next n bytes of it, those from byte `at`, never beyond its end. 0 or -1 */
    int (*read)(void *self, int i, int64_t at, void *buf, int64_t n, struct err *e);
    /* all tensors were read or skipped: checks that the source ends here. 0 or -1 */
    int (*end)(void *self, struct err *e);
    void (*close)(void *self);
};

struct model_in {
    const struct model_source *source;
    void *self;
    /* complete after open: sizes, tensors with dtypes, files, ids */
    struct model_spec spec;
    struct err *err;
    /* index of the tensor being read, -1 before the first */
    int current;
    int64_t left; /* its unread bytes */
    int with_digest;
    struct digest values; /* of what was read, see model_digest */
    /* of a GGUF file, see model_in_note; freed by model_close */
    char *note;
};

/* ---- for readers */
struct model_spec *model_in_spec(struct model_in *in); /* borrowed */
/* Of a GGUF file, a sentence on what was dequantised and what is missing, or ""; NULL for other
 * operands. */
const char *model_in_note(const struct model_in *in);
/* The bytes of tokenizer.json etc. (NUL after the end); NULL if there is no such file. Must be
 * called before the first model_next. */
const char *model_in_file(struct model_in *in, const char *name, int64_t *bytes);
/* tokenizer.json; NULL with an error that says what `operand` holds instead. */
const char *model_in_tokenizer(struct model_in *in, const char *operand, int64_t *bytes,
                               struct err *e);
/* 1 tensor begins (order of spec.tensors), 0 end (digests fine), -1 error */
int model_next(struct model_in *in, struct tensor *t);
/* Before the first model_next: from here on every value read, widened to f32, goes into a digest,
 * which stands in the spec once model_next has returned 0. Pieces must then be of whole values
 * (q8_0: of whole blocks), and every tensor must be read to its end. It tells models with the same
 * id apart whose values differ where the id does not look. */
void model_digest(struct model_in *in);
/* exactly n more bytes of the current tensor: 0 or -1 */
int model_read(struct model_in *in, void *buf, int64_t n);
void model_close(struct model_in *in);

/* ---- for sources */
/* A model stream (a file, a FIFO or "-") as a source: sets source, self and spec. On -1 spec and
 * self are already released. */
int stream_source_open(struct model_in *in, const char *path, struct err *e);

/* A model of this shape with small random values, in the types that footprint.h counts for `dtype`:
 * to measure how fast it runs. Only sizes and layers of `shape` count. model_close it. */
struct model_in *model_random(const struct model_spec *shape, enum dtype dtype, struct err *e);

/* The same model with only n tokens of its vocabulary: of the tensors with a row for every token,
 * those of the ids, which ascend. Its id stays, and its files. Takes over `from`, which has not
 * been read yet. model_close it. */
struct model_in *model_take_rows(struct model_in *from, const int64_t *ids, int64_t n);

/* The files that travel with a model, NULL-terminated, and how large one may be. */
extern const char *const model_file_names[];
enum { MODEL_FILE_MAX = 256 << 20 };

/* The id of a root, into h->id: XXH3-128 of everything that the function depends on - sizes,
 * windows, rotary frequencies, scales of every layer (reals to five digits: GGUF keeps them as
 * f32), names and shapes of the tensors and the first 1024 values of each, widened to f32. So a
 * directory, the stream made from it and an unquantised GGUF have the same id, whatever dtype or
 * spelling of config.json. It is known before the data, and blind to a change beyond the first
 * values of a tensor: whoever reads them all compares digests too (model_digest). peek: the first n
 * bytes of tensor i (n never beyond its end): 0 or -1; NULL: no values (a config without weights).
 */
typedef int model_peek(void *self, int i, void *bytes, int64_t n, struct err *e);
int model_root_id(struct model_spec *h, model_peek *peek, void *self, struct err *e);
/* Digest of tokenizer.json's bytes, for h->tokenizer_id. */
void model_tokenizer_id(char id[ST_DIGEST], const char *tokenizer, int64_t bytes);

#endif
