/* A block of converted rows: see row_block.h. */
#include "row_block.h"

#include <string.h>

int row_block_room(struct row_block *b, int64_t bytes, int64_t scratch_bytes,
                   unsigned char **scratch, struct err *e)
{
    size_t rows = arena_round((size_t)bytes), all = rows + arena_round((size_t)scratch_bytes);
    b->bytes = 0;
    if (b->memory.size < all) {
        arena_close(&b->memory);
        if (arena_open(&b->memory, all, e))
            return -1;
    }
    *scratch = b->memory.base + rows;
    return 0;
}

static int is_held(const struct row_block *b, int i, int64_t at)
{
    return b->tensor == i && at >= b->at && at < b->at + b->bytes;
}

int row_block_read(struct row_block *b, int i, int64_t at, void *buf, int64_t n, int64_t rows,
                   row_block_fill *fill, void *self, struct err *e)
{
    for (int64_t done = 0, part; done < n; done += part) {
        int64_t p = at + done, held;
        if (!is_held(b, i, p)) {
            b->bytes = 0;
            b->tensor = i;
            if (fill(self, i, p, rows, e))
                return -1;
        }
        held = b->at + b->bytes - p;
        part = held < n - done ? held : n - done;
        memcpy((char *)buf + done, b->memory.base + (p - b->at), (size_t)part);
    }
    return 0;
}

void row_block_close(struct row_block *b) { arena_close(&b->memory); }
