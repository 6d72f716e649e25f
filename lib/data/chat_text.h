/* A conversation as one text, with the ranges of it that count in a loss. */
#ifndef PARE_CHAT_TEXT_H
#define PARE_CHAT_TEXT_H

#include "chat.h"

struct written {
    char *s;
    int64_t n, room;
    int64_t *marks, n_marks; /* ranges that count: from, to, from, to, ... */
};
void written_put(struct written *w, const char *s, int64_t n);
void written_mark(struct written *w); /* a range that counts begins or ends here */
void written_free(struct written *w);

/* The text of the token that ends an answer. */
const char *chat_end(const struct chat *c);
/* Appends a conversation. prompt: up to the point where the next answer begins; the last message
 * must then be the user's. */
int chat_write(struct written *w, const struct chat *c, const json_t *messages, int prompt,
               struct err *e);

#endif
