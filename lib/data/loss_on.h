/* --loss-on: which tokens of a stream count in a loss. "completion": those without TOKEN_UNCOUNTED,
 * answers where the stream has conversations; "all": every token. */
#ifndef PARE_LOSS_ON_H
#define PARE_LOSS_ON_H

#include "sources.h"

int loss_on_check(const char *rule, struct err *e); /* refuses other rules */
void loss_on_apply(const char *rule, struct tokens *t);
/* What to tell of windows, or of all that training draws from, where some tokens do not count; 0:
 * all do, text is left as it is. */
int loss_on_note(char text[200], const struct windows *w);
int loss_on_note_sources(char text[200], const struct data_sources *s);

#endif
