/* For sources that convert their tensors (transposed, permuted, quantised): a block of converted
 * rows, from which any bytes can be read. */
#ifndef PARE_ROW_BLOCK_H
#define PARE_ROW_BLOCK_H

#include "../base/mem.h"

struct row_block {
    struct arena memory; /* the converted rows are at its base */
    int tensor;          /* index of the tensor */
    int64_t at, bytes;   /* the range of its bytes; bytes 0: empty */
};

/* Fills the block from byte `at` of tensor i: whole rows, at least one, `rows` or as many as a
 * block should hold. Gets memory with row_block_room, sets `at` and `bytes`. 0 or -1 */
typedef int row_block_fill(void *self, int i, int64_t at, int64_t rows, struct err *e);

/* Memory for converted rows, at memory.base, and for rows before conversion, at *scratch. */
int row_block_room(struct row_block *b, int64_t bytes, int64_t scratch_bytes,
                   unsigned char **scratch, struct err *e);
/* Reads n bytes from byte `at` of tensor i; rows: how many to convert at a time. */
int row_block_read(struct row_block *b, int i, int64_t at, void *buf, int64_t n, int64_t rows,
                   row_block_fill *fill, void *self, struct err *e);
void row_block_close(struct row_block *b);

#endif
