/* Token streams (kind "tokens"), in memory and as written: see formats/SPEC.md.
 * Either one record `ids` u32 [n, N] (rows of N tokens) or one record per document `ids.0`,
 * `ids.1`, ... u32 [len]; beside each a record `bytes` (`bytes.0`, ...) u32 of the same shape:
 * source bytes of each token (0 for added ones). */
#ifndef PARE_TOKENS_H
#define PARE_TOKENS_H

#include "../../formats/stream.h"

struct tokens {
    int64_t n;             /* sequences */
    int64_t *start;        /* [n + 1] into ids */
    uint32_t *ids, *bytes; /* bytes may be NULL */
    uint32_t max_id;
    char id[ST_DIGEST], tokenizer_id[ST_DIGEST];
    json_t *head;
};
/* in: an opened stream of kind "tokens" (tool_in). limit: at most this many tokens (whole
 * sequences; the last cut), 0 = all. */
int tokens_load(struct tokens *t, struct st_in *in, int64_t limit, struct err *e);
/* refuses ids beyond the vocabulary, by number */
int tokens_check(const struct tokens *t, int64_t vocab_size, const char *path, struct err *e);
void tokens_free(struct tokens *t);
/* Writes the records of `total` tokens: rows of seq_length (an incomplete last one is dropped), or,
 * if seq_length is 0, documents that end at ends[] (cut at the total). bytes may be NULL. */
int tokens_write(struct st_out *out, const uint32_t *ids, const uint32_t *bytes, int64_t total,
                 const int64_t *ends, int64_t documents, int64_t seq_length);

/* Joining streams of kind "tokens", in one pass and constant memory. Names: for messages, st_path
 * of each. The header entries of the result (new reference): those on which all agree, the sums of
 * "documents" and "tokens", "sources" joined, and "parts", the ids of all streams ever joined into
 * it. NULL: different tokenizers, or a part that comes twice. */
json_t *tokens_join_meta(struct st_in *const *in, int n, struct err *e);
/* Writes the records. -1: rows of different lengths, rows and documents, source bytes in only some
 * of the streams. */
int tokens_join(struct st_out *out, struct st_in *const *in, int n, struct err *e);

#endif
