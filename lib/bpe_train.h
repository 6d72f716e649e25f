/* Learning a byte-level BPE vocabulary from text (Sennrich, Haddow and Birch 2016, over GPT-2's bytes and split pattern).
 * The most frequent pair of neighbours becomes a token, again and again; of equally frequent pairs the one with the smaller ids, left first:
 * one text, one vocabulary, and the same as the tokenizers library learns. */
#ifndef PARE_BPE_TRAIN_H
#define PARE_BPE_TRAIN_H

#include <stdint.h>

#include "base/err.h"

struct bpe_trainer;
/* special: texts with ids from 0 on, cut out of the training text. NULL on error: a text that is empty, twice there, or a single byte's token. */
struct bpe_trainer *bpe_train_open(const char *const *special, int n_special, struct err *e);
int bpe_train_text(struct bpe_trainer *b, const char *text, int64_t n, struct err *e);     /* counts the words of one document */
/* The text of a tokenizer.json of exactly vocab_size tokens (special ones and 256 bytes included), malloc'd, *n its length; NULL if the
 * text does not give so many (pairs that occur once are not merged). */
char *bpe_train_finish(struct bpe_trainer *b, int64_t vocab_size, int64_t *n, struct err *e);
void bpe_train_close(struct bpe_trainer *b);

#endif
