/* --loss-on: which tokens of a stream count in a loss. "completion": those without TOKEN_UNCOUNTED,
 * answers where the stream has conversations; "all": every token. */
#ifndef PARE_LOSS_ON_H
#define PARE_LOSS_ON_H

#include "sources.h"

int loss_on_check(const char *rule, struct err *e); /* refuses other rules */
void loss_on_apply(const char *rule, struct tokens *t);
/* What counts in the windows of streams, to be told. */
struct loss_on_counts {
    int64_t counted, total, left_out; /* predictions, tokens, tokens of windows left out */
    int partly;                       /* some tokens do not count */
};
void loss_on_add(struct loss_on_counts *c, const struct windows *w);
void loss_on_add_sources(struct loss_on_counts *c, const struct data_sources *s);
/* 0: all tokens count, text is left as it is. */
int loss_on_note(char text[200], const struct loss_on_counts *c);

#endif
