/* What documents (--bos), rows and windows (--row-bos) begin with: the ids of a BOS token, or those
 * the tokenizer puts before a text; none for models that are not trained that way. */
#ifndef PARE_BOS_H
#define PARE_BOS_H

#include "../model/model.h"
#include "../tokenizer/tokenizer.h"

struct row_bos {
    uint32_t ids[SPECIAL_MAX];
    int64_t n; /* 0: nothing is added */
};
/* What is added to a text that is tokenized: around each document, and before each row. */
struct bos {
    struct row_bos begin, end, row;
};
/* rule: auto (begin and end as the tokenizer's post-processor adds them), yes, no, or the text of a
 * token; row_rule: auto (as the post-processor begins a text, unless `rule` is no), yes or no. in:
 * the model that the tokenizer is from, whose files may name its BOS; may be NULL. -1: no BOS is
 * known, or it is not in the vocabulary. */
int bos_resolve(struct bos *b, const char *rule, const char *row_rule, const struct tokenizer *t,
                struct model_in *in, struct err *e);
/* The rule: auto, yes or no. */
int row_bos_check(const char *rule, struct err *e);
/* What windows cut from a token stream begin with. auto: as its header says for rows, which is what
 * the tokenizer adds; yes: what its documents begin with, or else the model's bos_token_id; no:
 * nothing. -1: no BOS is known. */
int row_bos_of_stream(struct row_bos *b, const json_t *head, const char *rule,
                      const struct model_spec *h, struct err *e);
/* -1: each of the stream's rows begins with a BOS, which must not end up inside a joined text. */
int row_bos_check_join(const json_t *head, const char *path, struct err *e);
/* 1 if the n ids of a text already begin with it, or if it is empty: nothing needs to be added. */
int row_bos_present(const struct row_bos *b, const uint32_t *ids, int64_t n);
/* Turns a text into rows of N > b->n tokens, at most `most` of them (0: no limit), each beginning
 * with the BOS, which counts 0 bytes. Returns how many tokens are left over at the end. */
int64_t row_bos_cut(const struct row_bos *b, struct ids *text, int64_t N, int64_t most);

#endif
