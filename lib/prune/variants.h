/* Replace and measure: how far the output of the whole model moves when one layer is replaced by a
 * smaller variant of itself. The costs of a layer's attention and MLP add up, and so do those of
 * layers, well enough to choose a size for each of them (Bercovich et al. 2024, Puzzle, arXiv
 * 2411.19146, section 3: "replace-1-block scores").
 *
 * The table is JSON Lines; formats/SPEC.md describes it. */
#ifndef PARE_VARIANTS_H
#define PARE_VARIANTS_H

#include "../data/data.h"
#include "../tape/tape.h"
#include "slice.h"

enum { WHOLE_LAYER = KIND_each };

/* Means over the predictions measured so far: */
struct variant_means {
    double kl;        /* of the variant's distribution from the model's, nats */
    double nll;       /* of the tokens, nats */
    double same_top1; /* share of predictions whose most probable token is the model's */
};
struct variant {
    int64_t layer;
    /* another size of one axis, or (AXIS_NONE) the kind of block that is removed, or WHOLE_LAYER */
    enum axis axis;
    int64_t size;
    unsigned drop;
    struct variant_means means;
};
struct variants {
    struct variant *list; /* layer by layer */
    int64_t n;
    int64_t windows, predictions; /* measured so far */
    double nll;                   /* of the model itself */
};

/* The variants of every layer, from words in the language of slice-model's options:
 *
 *   drop-attention drop-mlp drop-layers intermediate-size=256,512 num-key-value-heads=1
 *
 * A layer has those that are smaller than itself. rank: which units stay; NULL: the first, as in a
 * sorted model. -1: unknown words, words that give no variant, what slice_plan_make refuses. */
int variants_open(struct variants *v, const char *text, const struct model_spec *h,
                  const struct rank *rank, const char *rank_path, struct err *e);
void variants_close(struct variants *v);
/* What slice-model would make of the model with that one change. */
int variant_plan(struct slice_plan *p, const struct variant *v, const struct model_spec *h,
                 const struct rank *rank, const char *rank_path, struct err *e);

/* Writes the table: `head` (borrowed) with windows, predictions and nll, then a line a variant. A
 * file appears whole or not at all; "-": standard output. */
int variants_save(const struct variants *v, const json_t *head, const char *path, struct err *e);
/* Takes up the means of a table of the same variants, of the same run as its id says, over at most
 * `most` windows. */
int variants_read(struct variants *v, const json_t *head, int64_t most, const char *path,
                  struct err *e);

/* Reads a table for its own sake. -1: it is of another model than h by its model_id (unless
 * any_model), lines that are no variant of h or come twice. */
int variants_load(struct variants *v, const char *path, const struct model_spec *h, int any_model,
                  struct err *e);

struct variants_run {
    struct exec *x;
    struct model *m; /* MODEL_FROZEN, on the device */
    const struct rank *rank;
    const char *rank_path;
    const struct windows *w;
    int64_t batch_size; /* windows per batch; 0: as many as make about 1024 tokens */
    /* after every variant of a batch: how many of v->n times the windows; after every batch */
    void (*progress)(void *user, int64_t done, int64_t all);
    void (*measured)(void *user);
    void *user;
};
/* bytes of device memory besides the model's; -1: no tape of it can be recorded */
int64_t variants_bytes(const struct variants_run *r, struct err *e);
/* Continues with window v->windows. Every batch of windows runs through the model once, and then
 * through each variant from its layer on. */
int variants_run(struct variants *v, const struct variants_run *r, struct err *e);

#endif
