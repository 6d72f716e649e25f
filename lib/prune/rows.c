/* Tensors row by row: see rows.h. */
#include "rows.h"

#include <stdlib.h>

int rows_read(struct model_in *in, const struct tensor *t, int64_t rows, int64_t cols,
              row_visit *visit, void *user)
{
    int64_t row_bytes = dtype_bytes(t->dtype, cols),
            block = row_bytes < ST_CHUNK ? ST_CHUNK / (row_bytes + 1) + 1 : 1;
    void *raw = mem_alloc((size_t)(block * row_bytes) + 1);
    float *x = mem_alloc((size_t)cols * sizeof *x + 1);
    int bad = 0;
    for (int64_t from = 0; from < rows && !bad; from += block) {
        int64_t n = rows - from < block ? rows - from : block;
        bad = model_read(in, raw, n * row_bytes);
        for (int64_t r = 0; r < n && !bad; r++) {
            to_f32(x, (char *)raw + r * row_bytes, t->dtype, cols);
            visit(user, from + r, x, cols);
        }
    }
    free(raw);
    free(x);
    return bad;
}
