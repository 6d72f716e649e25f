/* The sequences of a token stream (SPEC.md, kind "tokens") one after the other, in constant memory:
 * rows of `ids` [n, N] or documents `ids.K` [len]. */
#ifndef PARE_SEQUENCES_H
#define PARE_SEQUENCES_H

#include "../../formats/stream.h"
#include "../model/model.h"
#include "records.h"

/* Which sequences to return: `count` of them after the first `first`, ending before the one that
 * would exceed max_tokens tokens in total. 0: no limit. */
struct sequences_part {
    int64_t first, count, max_tokens;
};
struct sequences {
    struct st_in *in;
    struct err *e;
    struct sequences_part part; /* set it after opening; zeros: all */
    int64_t tokens;             /* returned so far */
    int64_t max_len;            /* no returned sequence is longer */
    int64_t cut;                /* sequences that were longer */
    int64_t index;              /* of the next sequence in the stream */
    /* private */
    int64_t rows_left, row_len;
    int64_t all;          /* total number of tokens, from the header */
    struct st_buffer ids; /* the last sequence returned */
    struct tensor record;
    struct token_order order;
    int ended, is_full;
};
/* in: opened with tool_in. asked: sequences are cut to their first so many tokens; 0: to
 * window_length() for the model. Reads up to the first ids. Refuses packed documents. */
int sequences_open(struct sequences *s, struct st_in *in, int64_t asked, const struct model_spec *h,
                   struct err *e);
/* 1: *ids (valid until the next call) and *n >= 1 tokens; 0: no more; -1: error, or no sequence at
 * all. Empty documents are skipped, but count in `index`. The stream is read to its end even if the
 * part ends earlier, so that damage anywhere is noticed. */
int sequences_next(struct sequences *s, const uint32_t **ids, int64_t *n);
/* -1, naming stream and id, if one of the n ids is beyond the vocabulary. */
int sequences_check(const struct sequences *s, const uint32_t *ids, int64_t n, int64_t vocab_size);
void sequences_close(struct sequences *s);

#endif
