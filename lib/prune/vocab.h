/* The vocabulary as an axis: its units are token ids, scored by text alone.
 *
 * A token's score is how often a text uses it: as a token of the text, or inside one, since a token
 * is made by merging two others, and these from others still. A token that is lost falls apart into
 * the two that it was made of, so each of its uses makes the text one token longer; to keep those
 * of the highest counts keeps the text shortest. No token is scored below one that it is part of.
 *
 * Tokens of a Unigram model are not made of others. They are lost one by one, always the one of the
 * fewest uses, which is then its score, and its uses become uses of the tokens that its text is
 * encoded as without it. Uses only grow, so the order of the scores is that of the losses.
 *
 * In a cut, tokens that the tokenizer cannot do without stay, and added tokens, and those whose ids
 * the configuration names (those that end a text, for example). The rest of the places go to the
 * best tokens of the rank, each with all that it is made of. New ids keep the order of the old. */
#ifndef PARE_VOCAB_CUT_H
#define PARE_VOCAB_CUT_H

#include "../model/model.h"
#include "../tokenizer/tokenizer.h"

struct vocab {
    struct tokenizer *tokenizer;
    int64_t size;          /* rows of the embeddings */
    int64_t tokens;        /* of these, the ones with a token: the most that a cut keeps */
    int64_t needed;        /* those that stay in every cut: the least */
    int64_t loose;         /* added tokens that the pattern of vocab_open lets go */
    uint8_t *stays;        /* [size] */
    int64_t (*parents)[2]; /* [size]; -1: it is made of no others */
};
/* From the files of a model, before its tensors. loose: a shell pattern of the texts of added
 * tokens that need not stay, such as "<unused*>"; NULL: none. -1: no tokenizer, or one that cannot
 * be cut. */
int vocab_open(struct vocab *v, struct model_in *in, const char *operand, const char *loose,
               struct err *e);
void vocab_close(struct vocab *v);
/* Can a cut keep n of `have` tokens, as `option` says? 0 with the error set, also if v is NULL or
 * not opened. */
int vocab_can_have(const struct vocab *v, const char *option, int64_t n, int64_t have,
                   struct err *e);
/* counts[size], of the ids of a text -> of all uses, as above */
void vocab_spread(const struct vocab *v, double *counts);
/* The ids of a cut to n tokens (needed <= n <= tokens) by an order of all, best first: ascending
 * into index[n]. */
void vocab_choose(const struct vocab *v, const int32_t *order, int64_t n, int64_t *index);

/* The files of a model whose vocabulary is cut, in memory, with new ids. Older forms of
 * tokenizer.json (vocab.json, merges.txt, tokenizer.model) are left out. */
struct vocab_files {
    char **text; /* [spec.n_files] of the slice's spec */
};
/* index: the n ids that stay, ascending. h: the spec of the slice, whose files, tokenizer_id and
 * ids in the config it sets. */
int vocab_files_make(struct vocab_files *f, const struct vocab *v, const int64_t *index, int64_t n,
                     struct model_in *in, struct model_spec *h, struct err *e);
int vocab_files_write(const struct vocab_files *f, struct model_out *out);
void vocab_files_close(struct vocab_files *f, const struct model_spec *h);

#endif
