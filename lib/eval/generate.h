/* Generation: a tape that keeps keys and values is fed the prompt in pieces, then token by
 * token. */
#ifndef PARE_GENERATE_H
#define PARE_GENERATE_H

#include "../tape/tape.h"

struct generator {
    struct tape *tape;
    /* tokens read so far, the most in total, the most in one call */
    int64_t position, length, chunk, vocab;
    const struct model_spec *spec;
    int32_t *read; /* [length]: the tokens read so far */
};
/* Room for `length` tokens, prompt and continuation together. */
int generator_open(struct generator *g, struct exec *x, struct model *m, int64_t length,
                   struct err *e);
/* Reads n >= 1 more tokens; returns the logits after the last [vocab], valid until the next call,
 * or NULL. */
const float *generator_read(struct generator *g, const uint32_t *ids, int64_t n, struct err *e);
void generator_close(struct generator *g);

/* End-of-sequence ids from generation_config.json, else config.json (a number or a list); at most
 * `max`, returns how many. Call before the tensors are read. */
int model_eos(struct model_in *in, int64_t *eos, int max, struct err *e);

#endif
