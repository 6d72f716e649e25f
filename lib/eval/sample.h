/* Choosing the next token from logits: the largest, or drawn from softmax(logits / temperature)
 * over the top_k largest entries that together reach probability top_p (Holtzman et al. 2020:
 * nucleus sampling). */
#ifndef PARE_SAMPLE_H
#define PARE_SAMPLE_H

#include <stdint.h>

#include "../base/rng.h"

struct sampler {
    double temperature; /* 0: always the largest, the lowest id among equals */
    double top_p;       /* in (0, 1]; 1: all */
    int64_t top_k;      /* 0: all */
    int64_t n;
    struct sample_entry *entries; /* [n], scratch */
};
void sample_open(struct sampler *s, double temperature, double top_p, int64_t top_k, int64_t n);
/* [n] -> an id; logits that are not numbers are never chosen. rng: of the text that is sampled */
int64_t sample_token(const struct sampler *s, struct rng *rng, const float *logits);
void sample_close(struct sampler *s);

#endif
