/* tokenizer.json -> ids and back. Byte-level BPE (GPT-2, Llama-3, Qwen2, SmolLM patterns) and SentencePiece-style BPE with byte fallback. */
#ifndef PARE_TOKENIZER_H
#define PARE_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct tokenizer;
struct tokenizer *tokenizer_open(const char *json, int64_t bytes, struct err *e);      /* the text of tokenizer.json; NULL on error: names what is not supported */
void tokenizer_close(struct tokenizer *t);
int64_t tokenizer_vocab_size(const struct tokenizer *t);                /* largest id + 1, added tokens included */
int64_t tokenizer_id(const struct tokenizer *t, const char *token);     /* id of a token's exact text, -1 */
/* What the post-processor puts before (which 0) and after (which 1) an ordinary text: ids into `ids` (at most max), returns how many. */
int tokenizer_special(const struct tokenizer *t, int which, uint32_t *ids, int max);

/* Ids of a text, special tokens in the text recognised, none added. spans: source bytes that each token covers (sums to n minus dropped bytes); may be NULL.
 * *ids and *spans grow as needed (start as NULL, 0; free them). Returns the number of ids, or -1. */
struct ids { uint32_t *id; uint32_t *bytes; int64_t n, room; };
void ids_push(struct ids *out, uint32_t id, uint32_t bytes);
int64_t tokenizer_encode(struct tokenizer *t, const char *text, int64_t n, struct ids *out, struct err *e);      /* appends to out */
int64_t tokenizer_dropped(const struct tokenizer *t);                   /* bytes so far that the vocabulary cannot express and that were left out */
/* The bytes of a sequence; skip_special leaves special tokens out. malloc'd, NUL-terminated, *n its length. */
char *tokenizer_decode(const struct tokenizer *t, const uint32_t *ids, int64_t n_ids, int skip_special, int64_t *n);

#endif
