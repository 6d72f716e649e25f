/* Prompts of a JSON Lines file, and the answers to them.
 *
 * In, a line: {"prompt": TEXT} or {"messages": [MESSAGE, ...]}, the last one the user's (chat.h),
 * with any other members; empty lines are skipped. Out, a line for each: the same members, with
 * "completion": TEXT after a prompt, or with the answer as one more message; and "finish_reason":
 * "stop" if the model ended its answer, "length" if it was cut off. */
#ifndef PARE_PROMPTS_H
#define PARE_PROMPTS_H

#include <stdio.h>

#include "../data/data.h"
#include "generate.h"

struct prompt {
    char *line;
    int64_t number; /* of the line, from 1 */
    struct text text;
};
struct prompts {
    char *path; /* for messages */
    struct prompt *all;
    int64_t n, conversations; /* lines; those with messages */
};

/* Reads a file, or standard input for "-". Refuses lines that are no such objects, by number. */
int prompts_read(struct prompts *p, const char *path, struct err *e);
/* Sets ids and most of each text, and seeds its draws with `seed` and its place among the prompts.
 * chat: NULL if there are no conversations. Refuses a prompt that the model has no positions for.
 */
int prompts_encode(struct prompts *p, struct tokenizer *t, const struct chat *chat,
                   const struct model_spec *h, int64_t max_new, uint64_t seed, struct err *e);
void prompts_free(struct prompts *p);

/* How many of the prompts, from `first` on and at most `room`, make a batch. */
int64_t prompts_batch(const struct prompts *p, const struct model_spec *h, int64_t first,
                      int64_t room, int64_t max_new);
/* The tokens, padding included, of the longest batch of prompts from `first` on. */
int64_t prompts_length(const struct prompts *p, int64_t first);

/* ---- answers */

struct answers {
    FILE *f;
    const char *path;
};
/* Opens the file that answers are added to, NULL for standard output. Returns how many of the
 * prompts it answers already, which is 0 unless `resume` is set; a line that was not finished is
 * cut off. -1: it has lines, and `resume` is not set; or a line that does not answer its prompt. */
int64_t answers_open(struct answers *a, const char *path, int resume, const struct prompts *p,
                     struct err *e);
/* Adds the answer to a prompt; it is in the file when this returns. */
int answers_add(struct answers *a, const struct prompt *p, const struct tokenizer *t,
                struct err *e);
int answers_close(struct answers *a, struct err *e);

#endif
