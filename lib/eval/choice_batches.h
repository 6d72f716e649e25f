/* Items in batches of similar lengths (choices.c).
 *
 * Items are sorted by the length of their longest choice, in steps, and then by that of their stem.
 * In a batch the stems end at the same place: shorter ones are padded on the left. An item that is
 * much shorter than the others begins a batch of its own. */
#ifndef PARE_CHOICE_BATCHES_H
#define PARE_CHOICE_BATCHES_H

#include "choices.h"

struct choice_entry {
    struct choice_tokens *item;
    struct choice_row **rows; /* while it is in a batch: the longest first */
    int64_t index, pad;
};
struct choice_batches {
    struct choice_entry *order, *batch; /* [items] */
    int64_t items;
    /* the batch: n entries, those with more choices first; where their stems end */
    int64_t n, stem;
    int padded;
};

void choice_batches_open(struct choice_batches *b, struct choices *c);
void choice_batches_close(struct choice_batches *b);
/* The places that an item takes, and others of its step. */
int64_t choice_places(const struct choice_entry *q);
/* Makes a batch of at most `room` items from `first` of the order on, several of which take at most
 * `together` places. */
void choice_batch_begin(struct choice_batches *b, int64_t first, int64_t room, int64_t together);
int64_t choice_batch_end(struct choice_batches *b); /* returns its tokens */

#endif
