/* The records of a token stream as every reader takes them: names, dtypes, shapes and order
 * (SPEC.md, kind "tokens"). */
#ifndef PARE_RECORDS_H
#define PARE_RECORDS_H

#include "../../formats/stream.h"
#include "../base/err.h"
#include "../base/tensor.h"

/* In the order in which they follow each other, for the whole stream or for a document. */
enum token_record { TOKEN_IDS, TOKEN_BYTES, TOKEN_FLAGS, TOKEN_RECORDS };
extern const struct token_record_row {
    const char *name;
    enum dtype dtype;
} token_records[TOKEN_RECORDS];

/* Bits of a token's flags. A token that has any is not predicted. */
enum token_flag {
    /* no prediction of this token is counted in a loss */
    TOKEN_UNCOUNTED = 1,
    /* in rows of packed documents, the first token of one: attention and positions begin anew;
     * every token of padding */
    TOKEN_BEGINS = 2,
    TOKEN_FLAG_ALL = 3
};

/* The records of ids so far; rows: the stream is one record [sequences, tokens]. shape: of the last
 * record of ids, which those beside it must have; last: the record taken last. */
struct token_order {
    int64_t records;
    int rows;
    int64_t shape[2];
    enum token_record last;
};
/* What a record is by its name, `ids` or `ids.K` and so on; -1: none of the three. */
int token_record_of(const char *name);
/* Checks a record of `which`, and counts it if it has ids. -1: another dtype than the table's, or
 * neither [sequences, tokens] nor [tokens]; rows without tokens; rows and documents in one stream;
 * documents out of order; bytes or flags that do not follow ids of their shape. */
int token_record_take(struct token_order *o, enum token_record which, const struct tensor *t,
                      const char *path, struct err *e);
/* Passes on the data of the current record. */
int record_copy(struct st_out *out, struct st_in *in);

#endif
