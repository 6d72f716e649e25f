/* Lines of JSON as tokens: an example is a text, a conversation (chat.h), or a prompt with its
 * completion. */
#ifndef PARE_EXAMPLES_H
#define PARE_EXAMPLES_H

#include "../../formats/json_scan.h"
#include "chat.h"

struct examples {
    struct tokenizer *tokenizer;
    struct bos bos; /* what is put around texts, and before pairs */
    /* The member that is read, a text or a list of messages; or two as PROMPT+COMPLETION, texts or
     * lists of messages; NULL: what a line has of "messages", "prompt" with "completion", "text",
     * tried in this order. */
    const char *field;
    struct chat chat, pair;
    struct err no_chat, no_pair; /* why there is none; told when a line needs it */
    /* read so far: conversations, pairs of texts, and how many of both have something that counts
     */
    int64_t conversations, pairs, answers;
};
/* template, in: as chat_open has them. The tokenizer is borrowed. */
void examples_open(struct examples *x, struct tokenizer *t, const struct bos *bos,
                   const char *field, const char *template, struct model_in *in);
void examples_close(struct examples *x);
/* Appends the ids of a text with what the tokenizer puts around it. */
int examples_text(const struct examples *x, const char *text, int64_t n, struct ids *out,
                  struct err *e);
/* Appends the ids of the example in one line of JSON. where: begins the error, "FILE: line N". */
int examples_line(struct examples *x, const char *where, const char *line, int64_t n,
                  struct ids *out, struct err *e);

/* The text under `field` of a line of JSON, *n its bytes, in `scan`, which the caller closes; NULL
 * on error. */
const char *json_line_text(struct json_scan *scan, const char *where, const char *line,
                           const char *field, int64_t *n, struct err *e);

#endif
