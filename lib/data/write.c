/* Writing token records: see tokens.h. Out: `ids` and `bytes` u32, `flags` u8 [rows, seq_length],
 * or `ids.0`, `bytes.0`, `flags.0`, `ids.1`, ... [len]. */
#include <stdio.h>

#include "tokens.h"

/* Writes the records of n tokens from `at` on: document `which`, or rows of `width`. */
static int put(struct st_out *out, const struct token_arrays *from, int64_t at, int64_t n,
               int64_t which, int64_t width)
{
    const void *const data[TOKEN_RECORDS] = {
        [TOKEN_IDS] = from->ids, [TOKEN_BYTES] = from->bytes, [TOKEN_FLAGS] = from->flags};
    for (int i = 0; i < TOKEN_RECORDS; i++) {
        const struct token_record_row *r = &token_records[i];
        struct tensor t = {.dtype = r->dtype, .ndim = 1, .shape = {n}};
        if (!data[i])
            continue;
        if (width) {
            t.ndim = 2;
            t.shape[0] = n / width;
            t.shape[1] = width;
            snprintf(t.name, sizeof t.name, "%s", r->name);
        } else {
            snprintf(t.name, sizeof t.name, "%s.%lld", r->name, (long long)which);
        }
        if (st_put(out, &t, (const char *)data[i] + dtype_bytes(r->dtype, at)))
            return -1;
    }
    return 0;
}

int tokens_write(struct st_out *out, const struct token_arrays *from, int64_t total,
                 const int64_t *ends, int64_t documents, int64_t seq_length)
{
    if (seq_length)
        return put(out, from, 0, total, 0, seq_length);
    for (int64_t i = 0, at = 0, end; i < documents; i++, at = end) {
        end = ends[i] < total ? ends[i] : total;
        if (put(out, from, at, end - at, i, 0))
            return -1;
    }
    return 0;
}
