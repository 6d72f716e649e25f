/* What an evaluation found, as JSON. */
#ifndef PARE_REPORT_H
#define PARE_REPORT_H

#include <jansson.h>

#include "loss.h"

/* The figures beside a teacher (new reference): its loss; KL with its standard error over windows
 * and, as llama-perplexity has it, over predictions; quantiles of KL by percent; shares of the most
 * probable tokens that agree; the ratio of perplexities; changes of the probability of the token
 * that follows. */
json_t *report_divergences(const struct eval *v);

/* The sequences of the text, one after the other: each an object (new reference) with its loss, and
 * beside a teacher its KL and agreement. Joined text (--context) has none: then they are its
 * windows. Those of which nothing counts are left out. Begins as {.of = an evaluation that was run,
 * .joined}. */
struct report_sequences {
    const struct eval *of;
    int joined;
    /* private: the next window, its first prediction, its sequence */
    int64_t window, prediction, sequence;
};
/* NULL: no more, or an error */
json_t *report_sequence_next(struct report_sequences *r, struct err *e);

#endif
