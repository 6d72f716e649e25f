/* For sources whose tensors are not stored as they are given out (transposed, permuted, quantised):
 * a block of finished rows, from which any bytes can be read. */
#ifndef PARE_ROW_BLOCK_H
#define PARE_ROW_BLOCK_H

#include "../base/mem.h"

struct row_block {
    struct arena memory; /* the finished rows lie at its base */
    int tensor;          /* whose rows these are */
    int64_t at, bytes;   /* which of its bytes; bytes 0: none */
};

/* Makes the block hold byte `at` of tensor i: whole rows from there, at least one, `rows` or as
 * many as a block should hold. Takes memory by row_block_room, sets `at` and `bytes`. 0 or -1 */
typedef int row_block_fill(void *self, int i, int64_t at, int64_t rows, struct err *e);

/* Memory for finished rows, at memory.base, and for others on the way there, at *scratch. */
int row_block_room(struct row_block *b, int64_t bytes, int64_t scratch_bytes,
                   unsigned char **scratch, struct err *e);
/* n bytes from byte `at` of tensor i; rows: how many are worth making at a time. */
int row_block_read(struct row_block *b, int i, int64_t at, void *buf, int64_t n, int64_t rows,
                   row_block_fill *fill, void *self, struct err *e);
void row_block_close(struct row_block *b);

#endif
