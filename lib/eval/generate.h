/* Generation: a tape that keeps keys and values is fed prompts in pieces, then token by token, any
 * number of texts at a time.
 *
 * The texts of a batch end at the same place, so shorter prompts are padded on the left; attention
 * and positions begin after the padding (batch.starts). Each text is what it would be alone, up to
 * rounding: how many texts a matrix product has may change its last bits. A text that is done
 * leaves the batch, and the last one takes its place. */
#ifndef PARE_GENERATE_H
#define PARE_GENERATE_H

#include "../tape/tape.h"
#include "../tokenizer/tokenizer.h"
#include "sample.h"

enum { MAX_EOS = 32 };
struct stop_ids {
    int64_t id[MAX_EOS];
    int n;
};
/* End-of-sequence ids from generation_config.json, else config.json (a number or a list). Call
 * before the tensors are read. */
int stop_ids_read(struct stop_ids *s, struct model_in *in, struct err *e);
void stop_ids_add(struct stop_ids *s, int64_t id);

struct text {
    struct ids ids; /* the prompt, which is not empty, and then what follows */
    int64_t prompt; /* tokens of the prompt */
    int64_t most;   /* of all: text_most() */
    struct rng rng; /* that draws its tokens */
    int stopped;    /* by an end-of-sequence token, which is not among the ids */
};
/* The prompt and max_new tokens, or as many as the model has learned positions for. */
int64_t text_most(const struct model_spec *h, int64_t prompt, int64_t max_new);
/* Can the text be in a batch? Padding must not push others beyond the learned positions; and beyond
 * a certain length some models take other rope tables, for all positions of the text. */
int text_may_be_padded(const struct model_spec *h, int64_t prompt, int64_t max_new);

struct generator {
    struct tape *tape;
    const struct model_spec *spec;
    int64_t n, place; /* texts in the batch; tokens read of each, padding included */
    int64_t room, length, chunk, vocab;
    int64_t last;  /* tokens of each text in the last call */
    int64_t *pads; /* [room]: padding of each text */
    int32_t *ids;  /* [room, length]: the tokens read so far */
    int32_t *call_ids, *call_starts;
};
/* Room for `room` texts of `length` tokens, padding included. */
int generator_open(struct generator *g, struct exec *x, struct model *m, int64_t room,
                   int64_t length, struct err *e);
int64_t generator_bytes(const struct generator *g); /* keys, values, and what a call takes */
void generator_close(struct generator *g);

/* Called for each text that has grown by a token, or is done; may be NULL. */
typedef void text_grown(void *user, const struct text *t);
/* Continues n texts, at most g->room, until all are done. In a batch of several, each must be one
 * that text_may_be_padded. -1 also if logits are not finite. */
int generate_texts(struct generator *g, const struct sampler *s, const struct stop_ids *stop,
                   struct text *const *texts, int64_t n, text_grown *grown, void *user,
                   struct err *e);

#endif
