/* The records of a token stream as every reader takes them: names, shapes and order (SPEC.md, kind
 * "tokens"). */
#ifndef PARE_RECORDS_H
#define PARE_RECORDS_H

#include "../base/err.h"
#include "../base/tensor.h"

/* Bits of a token's flags. */
enum token_flag {
    /* no prediction of this token is counted in a loss */
    TOKEN_UNCOUNTED = 1
};

/* The records of ids so far; rows: the stream is one record [sequences, tokens]. */
struct token_order {
    int64_t records;
    int rows;
};
/* Is it `stem`, or `stem.K`? */
int token_record_is(const char *name, const char *stem);
/* Checks a record of ids or bytes, and counts it if it has ids. -1: not u32 [sequences, tokens] or
 * [tokens], rows without tokens, rows and documents in one stream, documents out of order. */
int token_record_take(struct token_order *o, const struct tensor *t, const char *path,
                      struct err *e);

#endif
