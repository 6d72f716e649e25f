/* The tables of a BPE model, filled by vocab.c and used by bpe.c, which merges. The rest of the
 * tokenizer includes only tokenizer_private.h. */
#ifndef PARE_VOCAB_H
#define PARE_VOCAB_H

#include <xxhash.h>

#include "tokenizer_private.h"

#define METASPACE "\xe2\x96\x81" /* U+2581, stands for a space in SentencePiece vocabularies */

/* pair: left id << 32 | right id, + 1 so that 0 is an empty slot */
struct merge {
    uint64_t pair;
    uint32_t rank, id;
};

struct bpe {
    char *text; /* the tokens' texts, one after the other */
    /* by id: offset in text; length NO_TOKEN: a hole */
    struct token_text {
        uint64_t start;
        uint32_t length;
    } * tokens;
    int64_t size; /* largest id + 1 */
    /* open addressing by hash of the text: id + 1, and other bits of the hash, so that most misses
     * are detected in this table */
    struct slot {
        uint32_t id, tag;
    } * slots;
    uint64_t slot_mask;
    struct merge *merges; /* open addressing by pair */
    uint64_t merge_mask;
    struct bpe_flags flags;
    /* ids, -1: none. byte_token: of the byte-level alphabet; fallback: <0x00>.. */
    int64_t unk, byte_token[256], fallback[256];
    /* no merge crosses the start of a word (a metaspace after a byte with word_end set) */
    int words;
    unsigned char word_end[256];
    struct bpe_work *work;
};
enum { NO_TOKEN = UINT32_MAX };

/* Fills the tables of texts and ids, up to `size` of them; the texts lie in b->text. */
struct vocab_entry {
    struct token_text text;
    uint32_t id;
};
void vocab_tables(struct bpe *b, const struct vocab_entry *entries, int64_t count, int64_t size);

static inline uint64_t hash_bytes(const char *s, int64_t n) { return XXH3_64bits(s, (size_t)n); }
static inline uint64_t hash_pair(uint64_t pair)
{
    return (pair ^ pair >> 29) * 0x9e3779b97f4a7c15u >> 20;
}
static inline uint64_t pair_key(uint32_t left, uint32_t right)
{
    return ((uint64_t)left << 32 | right) + 1;
}

static inline const struct merge *bpe_merge(const struct bpe *b, uint32_t left, uint32_t right)
{
    uint64_t key = pair_key(left, right);
    for (uint64_t i = hash_pair(key) & b->merge_mask; b->merges[i].pair;
         i = (i + 1) & b->merge_mask)
        if (b->merges[i].pair == key)
            return &b->merges[i];
    return NULL;
}

/* its character in the byte-level alphabet as UTF-8; 1 to BYTE_TEXT bytes */
enum { BYTE_TEXT = 2 };
int byte_to_text(unsigned char byte, char *text);

#endif
