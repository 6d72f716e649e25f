/* Multiple choice: log-likelihoods of the choices of items (choice_items.h), with the ids of
 * lm-evaluation-harness 0.4 (HFLM), and what follows from them.
 *
 * White space at the end of a ctx belongs to the choice. The ids of the choice are those of the
 * joined text behind as many as the ctx alone has, and both texts begin with what the tokenizer
 * puts before a text, unless they already do. A choice without a ctx follows the BOS token or,
 * where the tokenizer has none, the EOS token. Of a text longer than max_position_embeddings the
 * end is kept.
 *
 * What the choices of an item begin with is read once: its keys and values, or states, stay in
 * memory while the choices are read one after the other. Several items are read at a time, of
 * similar lengths. */
#ifndef PARE_CHOICES_H
#define PARE_CHOICES_H

#include "../tape/tape.h"
#include "choice_items.h"
#include "estimate.h"

/* The ids of a choice behind those of the stem, n >= 2; the last `scored` are those of the choice,
 * each predicted from all before it. */
struct choice_row {
    int32_t *ids;
    int64_t n, scored;
    /* results: log-likelihood of the scored tokens, in nats; is each of them the most probable one?
     * The latter only for items of one choice. */
    double log_likelihood;
    int greedy;
};
struct choice_tokens {
    int32_t *stem;              /* ids that all rows begin with, none of them scored */
    int64_t n_stem, n, longest; /* rows, and ids of the longest */
    struct choice_row *rows;
};
struct choices {
    const struct choice_items *items; /* borrowed */
    struct choice_tokens *all;        /* [items->n] */
    int64_t rows, truncated;          /* of all; those whose beginning was left out */
    int64_t tokens;                   /* that the model reads */
    int single;                       /* there is an item of one choice */
};

/* Encodes all items with the model's tokenizer; shots: NULL, or items of which each item gets the
 * first n_shots as examples. Call before the model's tensors are read. NULL: there is no tokenizer,
 * or a line whose choice adds no token to its ctx or is longer than the model has positions. */
struct choices *choices_open(const struct choice_items *items, const struct choice_items *shots,
                             int64_t n_shots, struct model_in *in, struct err *e);
int64_t choices_bytes(const struct choices *c); /* of the ids and results */
void choices_close(struct choices *c);

/* ---- running a model */

struct choice_run {
    int64_t batch_size;     /* items at a time, 0: as many as make about 2048 tokens */
    int64_t without, first; /* so many blocks of the model are left out, from `first` on */
};
/* Device memory besides the model, or -1: the model cannot be run. */
int64_t choices_run_bytes(struct choices *c, struct exec *x, struct model *m,
                          const struct choice_run *o, struct err *e);
/* done: tokens, of c->tokens */
typedef void choices_progress(void *user, int64_t done, int64_t tokens);
/* Sets the results of all rows. -1 also if they are not finite. progress may be NULL. */
int choices_run(struct choices *c, struct exec *x, struct model *m, const struct choice_run *o,
                choices_progress *progress, void *user, struct err *e);

/* ---- results */

/* What is compared: the log-likelihood, or what it is for each character, byte or token of the
 * choice. An item of one choice is right if each token is the most probable one, under every
 * rule. */
enum choice_rule { BY_SUM, BY_CHARACTER, BY_BYTE, BY_TOKEN, CHOICE_RULES };
/* The choice with the largest value, the first of equal ones. */
int64_t choice_made(const struct choices *c, int64_t item, enum choice_rule rule);
int choice_is_right(const struct choices *c, int64_t item, enum choice_rule rule);
/* The share of the right choices in the probability of all, or of one choice its probability. */
double choice_probability(const struct choices *c, int64_t item);
/* -log of the probability of the right choices */
double choice_nll(const struct choices *c, int64_t item);

/* Means over items. */
struct choice_scores {
    int64_t items;
    struct estimate acc[CHOICE_RULES], probability, nll;
};
/* group: NULL for all items */
void choices_scores(const struct choices *c, const char *group, struct choice_scores *s);

#endif
