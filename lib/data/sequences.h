/* The sequences of a token stream (SPEC.md, kind "tokens") one after the other, in constant memory:
 * rows of `ids` [n, N] or documents `ids.K` [len]. */
#ifndef PARE_SEQUENCES_H
#define PARE_SEQUENCES_H

#include "../../formats/stream.h"

/* Which sequences are wanted: `count` of them after the first `first`, as long as they have no more
 * than max_tokens tokens together; the first that would exceed them is the end. 0: no limit. */
struct sequences_part {
    int64_t first, count, max_tokens;
};
struct sequences {
    struct st_in *in;
    struct err *e;
    struct sequences_part part; /* to be set after opening; zeros: all */
    int64_t tokens;             /* given out so far */
    int64_t max_len;            /* no sequence given out is longer */
    int64_t index;              /* of the next sequence in the stream */
    /* private */
    int64_t rows_left, row_len;
    int64_t all;          /* tokens in all, as the header says */
    struct st_buffer ids; /* the sequence given out last */
    struct tensor record;
    int ended, is_full;
};
/* in: opened with tool_in. limit: sequences are cut to their first so many tokens; 0: rows whole,
 * documents to 2048 or to `positions`, where the model has learned fewer (0: it has none that are
 * learned). Reads up to the first ids. */
int sequences_open(struct sequences *s, struct st_in *in, int64_t limit, int64_t positions,
                   struct err *e);
/* 1: *ids (valid until the next call) and *n >= 1 tokens; 0: no more; -1, also where there was none
 * at all. Empty documents are passed over, but count in `index`. The stream is read to its end even
 * where the part ends before, so that damage is noticed wherever it is. */
int sequences_next(struct sequences *s, const uint32_t **ids, int64_t *n);
/* -1, naming stream and id, if one of the n ids is beyond the vocabulary. */
int sequences_check(const struct sequences *s, const uint32_t *ids, int64_t n, int64_t vocab_size);
void sequences_close(struct sequences *s);

#endif
