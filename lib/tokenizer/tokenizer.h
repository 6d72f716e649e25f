/* tokenizer.json -> ids and back. Byte-level BPE (GPT-2, Llama-3, Qwen2, SmolLM patterns),
 * SentencePiece-style BPE with byte fallback, and Unigram. */
#ifndef PARE_TOKENIZER_H
#define PARE_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

#include "../base/err.h"

struct tokenizer;
/* from the text of tokenizer.json; NULL on error, which names what is not supported */
struct tokenizer *tokenizer_open(const char *json, int64_t bytes, struct err *e);
void tokenizer_close(struct tokenizer *t);
/* largest id + 1, added tokens included */
int64_t tokenizer_vocab_size(const struct tokenizer *t);
/* id of a token's exact text, -1 */
int64_t tokenizer_id(const struct tokenizer *t, const char *token);
/* The ids that the post-processor puts before (which 0) and after (which 1) an ordinary text, into
 * `ids` (at most max); returns how many. A tokenizer with more than SPECIAL_MAX is refused. */
enum { SPECIAL_MAX = 16 };
int tokenizer_special(const struct tokenizer *t, int which, uint32_t *ids, int max);

/* Ids of a text. Special tokens in the text are recognised; none are added. spans: source bytes
 * that each token covers (sums to n minus dropped bytes); may be NULL. *ids and *spans grow as
 * needed (start as NULL, 0; free them). Returns the number of ids, or -1. */
struct ids {
    uint32_t *id;
    uint32_t *bytes;
    uint8_t *flags; /* the caller's: 0 as pushed */
    int64_t n, room;
};
void ids_push(struct ids *out, uint32_t id, uint32_t bytes);
int ids_flagged(const struct ids *ids); /* 1 if any has a flag */
void ids_free(struct ids *ids);         /* empties it */
/* appends to out */
int64_t tokenizer_encode(struct tokenizer *t, const char *text, int64_t n, struct ids *out,
                         struct err *e);
/* bytes dropped so far because the vocabulary cannot express them */
int64_t tokenizer_dropped(const struct tokenizer *t);
/* The bytes of a text that would not be dropped; -1 on error. */
int64_t tokenizer_covers(struct tokenizer *t, const char *text, int64_t n, struct err *e);
/* The bytes of a sequence, without special tokens if skip_special. malloc'd, NUL-terminated, *n its
 * length. */
char *tokenizer_decode(const struct tokenizer *t, const uint32_t *ids, int64_t n_ids,
                       int skip_special, int64_t *n);

/* ---- cutting (cut.c): a part of a vocabulary as a tokenizer of its own */

/* Refuses tokenizers whose texts could not all be expressed by fewer tokens: those that neither
 * work on bytes nor fall back to them; Unigram models without an unknown token, or with two tokens
 * of one text. */
int tokenizer_check_cut(const struct tokenizer *t, struct err *e);
/* A token's text, as the vocabulary spells it; NULL: no token has the id. */
const char *tokenizer_text(const struct tokenizer *t, int64_t id, int64_t *n);
/* NEEDED in every cut: single bytes, the unknown token, the sign for a space, what the
 * post-processor adds, of a Unigram model one token with the lowest score. */
enum token_kind { TOKEN_NONE, TOKEN_PLAIN, TOKEN_ADDED, TOKEN_NEEDED };
enum token_kind tokenizer_kind(const struct tokenizer *t, int64_t id);
/* Are tokens made by merging others? Not those of a Unigram model: each stands by itself. */
int tokenizer_has_merges(const struct tokenizer *t);
/* The two tokens that a token is made of: those that the last merge joins when its own text is
 * encoded. 0: merges do not make it. */
int tokenizer_parents(struct tokenizer *t, int64_t id, uint32_t pair[2]);
/* Without merges: appends to out what the text of a token becomes where the tokens of
 * lost[tokenizer_vocab_size] are not there. */
void tokenizer_pieces(struct tokenizer *t, int64_t id, const uint8_t *lost, struct ids *out);
/* The tokenizer.json, as it was opened, of those tokens whose id_of is not -1, with these as their
 * new ids; merges stay where both parts and the result do. id_of: [tokenizer_vocab_size], of 0, 1,
 * 2, ...; malloc'd, *n_out its length. */
char *tokenizer_cut(const struct tokenizer *t, const char *json, int64_t n, const int64_t *id_of,
                    int64_t *n_out, struct err *e);
/* The ids, in another tokenizer, of the texts of t's tokens, [tokenizer_vocab_size(t)]. Returns
 * their number, or the first id whose token the other lacks. */
int64_t tokenizer_find_all(const struct tokenizer *t, const struct tokenizer *in, int64_t *ids);

/* ---- learning (train.c)
 *
 * A byte-level BPE vocabulary is learned from text (Sennrich, Haddow and Birch 2016, over GPT-2's
 * bytes and split pattern). The most frequent pair of neighbours becomes a token, repeatedly; of
 * equally frequent pairs the one with the smaller ids, left first. So a text determines the
 * vocabulary, and it is the one the tokenizers library learns. */
struct bpe_trainer;
/* special: texts with ids from 0 on, cut out of the training text. NULL on error: a text that is
 * empty, a duplicate, or the token of a single byte. */
struct bpe_trainer *bpe_train_open(const char *const *special, int n_special, struct err *e);
/* counts the words of one document */
int bpe_train_text(struct bpe_trainer *b, const char *text, int64_t n, struct err *e);
/* The text of a tokenizer.json of exactly vocab_size tokens (special ones and 256 bytes included),
 * malloc'd, *n its length; NULL if the text yields fewer (pairs that occur once are not merged). */
char *bpe_train_finish(struct bpe_trainer *b, int64_t vocab_size, int64_t *n, struct err *e);
void bpe_train_close(struct bpe_trainer *b);

#endif
