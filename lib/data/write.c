/* Writing token records: see tokens.h. Out: `ids` and `bytes` u32 [rows, seq_length], or `ids.0`,
 * `bytes.0`, `ids.1`, ... u32 [len]. */
#include <stdio.h>

#include "tokens.h"

static int put(struct st_out *out, const char *name, int64_t which, int64_t n, int64_t width,
               const uint32_t *data)
{
    struct tensor t = {.dtype = DT_U32, .ndim = width ? 2 : 1, .shape = {n, width}};
    if (which < 0)
        snprintf(t.name, sizeof t.name, "%s", name);
    else
        snprintf(t.name, sizeof t.name, "%s.%lld", name, (long long)which);
    return st_put(out, &t, data);
}

int tokens_write(struct st_out *out, const uint32_t *ids, const uint32_t *bytes, int64_t total,
                 const int64_t *ends, int64_t documents, int64_t seq_length)
{
    if (seq_length)
        return put(out, "ids", -1, total / seq_length, seq_length, ids) ||
                       (bytes && put(out, "bytes", -1, total / seq_length, seq_length, bytes))
                   ? -1
                   : 0;
    for (int64_t i = 0, from = 0, to; i < documents; i++, from = to) {
        to = ends[i] < total ? ends[i] : total;
        if (put(out, "ids", i, to - from, 0, ids + from) ||
            (bytes && put(out, "bytes", i, to - from, 0, bytes + from)))
            return -1;
    }
    return 0;
}
