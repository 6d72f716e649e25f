/* Rows of tokens as batches for a tape.
 *
 * A row of n tokens gives n - 1 predictions: the batch holds its first n - 1 tokens, and position t
 * is labelled with token t + 1. */
#ifndef PARE_BATCH_H
#define PARE_BATCH_H

#include "../../kernels/op.h"
#include "../model/model.h"
#include "bos.h"
#include "tokens.h"

/* n tokens: those of `bos`, if any, and then of a stream, from its token `at` on. */
struct data_row {
    const struct tokens *from;
    int64_t at, n;
    /* index in the row of the first token whose prediction counts, >= 1; predictions that count */
    int64_t first, predictions;
    int64_t inputs; /* tokens that a batch holds of it: n - 1, without padding among them */
    const struct row_bos *bos; /* NULL, or ids to precede the others */
    int64_t window;            /* its number, of those that its stream is cut into (windows.h) */
};
/* How many of its tokens are the stream's. */
int64_t data_row_text(const struct data_row *r);
/* Fetches what a row consists of: ids[n], and flags[n], which added tokens do not have. flags may
 * be NULL. */
int data_row_read(const struct data_row *r, uint32_t *ids, uint8_t *flags, struct err *e);

/* A batch with room for `n_seq` rows of `n` tokens. Shorter rows are padded at the end: token 0,
 * LABEL_PADDING, which packed documents of one token have too. Tokens that are not counted are
 * LABEL_UNCOUNTED. b.starts is NULL unless a document begins within a row. */
struct data_batch {
    int whole; /* the last token of a row is in the batch too, without a label */
    struct batch b;
    struct data_row *rows; /* [n_seq], for the caller */
    int32_t *ids, *labels, *starts;
    int64_t *lengths;
    uint32_t *row; /* of one row, as it was read */
    uint8_t *flags;
};
void data_batch_open(struct data_batch *d, int64_t n_seq, int64_t n);
int data_batch_fill(struct data_batch *d, const struct data_row *rows, int64_t n_seq,
                    struct err *e);
void data_batch_close(struct data_batch *d);

/* Ids mean the same to a model and to tokens if their tokenizers have the same digest; "" is
 * unknown and agrees with all. */
int data_check_tokenizers(const char *a_name, const char *a_id, const char *b_name,
                          const char *b_id, struct err *e);
/* Checks that a model can read the tokens: ids within its vocabulary, and from its tokenizer unless
 * `any_tokenizer`. */
int data_check_model(const struct tokens *t, const char *tokens_name, const struct model_spec *h,
                     const char *model_name, int any_tokenizer, struct err *e);

#endif
