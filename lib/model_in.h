/* What stands behind a MODEL operand. A kind of source (directory, stream, GGUF) fills a struct model_in at open and offers five functions;
 * lib/model_in.c does the rest: order, byte counts, errors that stick. */
#ifndef PARE_MODEL_IN_H
#define PARE_MODEL_IN_H

#include "model.h"

struct model_source {
    const char *(*file)(void *self, const char *name, int64_t *bytes, struct err *e);  /* NULL: no such file (no error), or an error */
    int (*next)(void *self, int i, struct err *e);      /* tensor i of the head begins; asked for in order, each once. 0 or -1 */
    int (*read)(void *self, void *buf, int64_t n, struct err *e);      /* the next n bytes of it, never beyond its end. 0 or -1 */
    int (*end)(void *self, struct err *e);              /* all tensors were read or skipped: does the source end as it should? 0 or -1 */
    void (*close)(void *self);
};

struct model_in {
    const struct model_source *source;
    void *self;
    struct model_head head;                             /* complete after open: sizes, tensors with dtypes, files, ids */
    struct err *err;
    int current;                                        /* index of the tensor being read, -1 before the first */
    int64_t left;                                       /* bytes of it that were not read */
    char *note;                                         /* of a GGUF file, see model_in_note; freed by model_close */
};

/* They set source, self and head. On -1 head and self are released already. */
int hf_in_open(struct model_in *in, const char *dir, struct err *e);
int stream_in_open(struct model_in *in, const char *path, struct err *e);
int gguf_in_open(struct model_in *in, const char *path, struct err *e);

/* The files that travel with a model, NULL-terminated, and how large one may be. */
extern const char *const model_file_names[];
enum { MODEL_FILE_MAX = 256 << 20 };

/* The id of a root, into h->id: XXH3-128 of everything that the function depends on - sizes, windows, rotary frequencies, scales of every
 * layer (reals to five digits: GGUF keeps them as f32), names and shapes of the tensors and the first 1024 values of each, widened to f32.
 * So a directory, the stream made from it and an unquantised GGUF have the same id, whatever dtype or spelling of config.json.
 * peek: the first n values of canonical tensor i (n never beyond its end): 0 or -1; NULL: no values (a config without weights). */
typedef int model_peek(void *self, int i, float *values, int64_t n, struct err *e);
int model_root_id(struct model_head *h, model_peek *peek, void *self, struct err *e);
/* Digest of tokenizer.json's bytes, for h->tokenizer_id. */
void model_tokenizer_id(char id[ST_DIGEST], const char *tokenizer, int64_t bytes);

#endif
