/* Token streams (kind "tokens"), read by position and written: see formats/SPEC.md.
 * Either one record `ids` u32 [n, N] (rows of N tokens) or one record per document `ids.0`,
 * `ids.1`, ... u32 [len]; beside each there may be a record `bytes` (`bytes.0`, ...) u32 of the
 * same shape, source bytes of each token (0 for added ones), and a record `flags` u8 (records.h).
 * Tokens are counted from 0 through the whole stream, whatever their sequence. */
#ifndef PARE_TOKENS_H
#define PARE_TOKENS_H

#include "../../formats/stream.h"
#include "records.h"
#include "records_file.h"

struct tokens {
    int64_t n, total; /* sequences, tokens */
    int64_t row;      /* tokens of a row; 0: the sequences are documents */
    int64_t longest;  /* tokens of the longest sequence */
    uint32_t max_id;
    int has_bytes;
    /* Every flag that a token has. One that is cleared here is ignored: no token has it then. */
    unsigned flags;
    char id[ST_DIGEST], tokenizer_id[ST_DIGEST];
    json_t *head;
    struct records_file file; /* private, as is what follows */
    /* of documents: the first token of each, [n] */
    int64_t *start;
    /* where the chunks of each record lie in the file; -1, or NULL: it is absent */
    int64_t *place[TOKEN_RECORDS];
};
/* Opens a token stream, verified from beginning to end. A plain regular file is read in place;
 * what is compressed or comes through a pipe is copied to an unnamed file in TMPDIR. Memory:
 * of rows none, of documents 16 bytes for each, and 8 more for each record beside its ids.
 * in: an opened stream of kind "tokens" (tool_in). limit: at most this many tokens (whole
 * sequences; the last cut), 0 = all. */
int tokens_load(struct tokens *t, struct st_in *in, int64_t limit, struct err *e);
/* The first token of sequence i, from 0; of sequence n: the total. */
int64_t tokens_start(const struct tokens *t, int64_t i);
/* Entries of n tokens from token `at` on, across sequences: u32 for ids and bytes, u8 for flags,
 * which are 0 where the stream has none. Threads may call it at the same time. */
int tokens_read(const struct tokens *t, enum token_record which, int64_t at, int64_t n, void *to,
                struct err *e);
/* Source bytes of all tokens, which are those of the text; -1: unknown, or an error. */
int64_t tokens_source_bytes(const struct tokens *t, struct err *e);
/* refuses ids beyond the vocabulary, by number */
int tokens_check(const struct tokens *t, int64_t vocab_size, const char *path, struct err *e);
void tokens_free(struct tokens *t);

/* What tokens are written from; bytes and flags may be NULL. */
struct token_arrays {
    const uint32_t *ids, *bytes;
    const uint8_t *flags;
};
/* Writes the records of `total` tokens: rows of seq_length (an incomplete last one is dropped), or,
 * if seq_length is 0, documents that end at ends[] (cut at the total). */
int tokens_write(struct st_out *out, const struct token_arrays *from, int64_t total,
                 const int64_t *ends, int64_t documents, int64_t seq_length);

/* Joining streams of kind "tokens", in one pass and constant memory. Names: for messages, st_path
 * of each. The header entries of the result (new reference): those on which all agree, the sums of
 * "documents" and "tokens", "sources" joined, and "parts", the ids of all streams ever joined into
 * it. NULL: different tokenizers, or a part that comes twice. */
json_t *tokens_join_meta(struct st_in *const *in, int n, struct err *e);
/* Writes the records. -1: rows of different lengths, rows and documents, source bytes in only some
 * of the streams. Rows without flags beside rows that have them get zeros. */
int tokens_join(struct st_out *out, struct st_in *const *in, int n, struct err *e);

#endif
