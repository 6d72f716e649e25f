/* A shape that differs between layers, chosen from a table of variants (variants.h): for every
 * layer one variant of its attention, of its MLP and of its Mamba mixer, as it has them, so that
 * the sum of their KL is least under a budget (Bercovich et al. 2024, Puzzle, arXiv 2411.19146,
 * section 3). The search is exact, and gives the whole trade-off of cost and KL; that costs and KL
 * add up is the assumption. */
#ifndef PARE_PER_LAYER_H
#define PARE_PER_LAYER_H

#include "knapsack.h"
#include "variants.h"

struct per_layer_options {
    /* of a shape: parameters, bytes, ...; a sum over the layers */
    int64_t (*cost)(const void *user, const struct model_spec *h);
    /* NULL, or whether a model with one layer changed is acceptable */
    int (*allows)(const void *user, const struct slice_plan *p);
    const void *user;
};
/* What a layer becomes: of each kind of block (1 << its number: enum block_kind) a variant; whole:
 * its removal; NULL: as it is. */
enum { PER_LAYER_KINDS = 3 };
struct per_layer_choice {
    const struct variant *block[PER_LAYER_KINDS], *whole;
};
struct per_layer {
    const struct model_spec *source; /* borrowed */
    const struct variants *table;    /* borrowed */
    int64_t cost;                    /* of the source */
    struct per_layer_choice *choices;
    int64_t *count; /* [layers]: how many of them each layer has */
    struct knapsack knapsack;
};
struct per_layer_point {
    int64_t cost;
    double kl; /* sum over the layers, nats */
};

/* The removal of all its blocks counts as that of the layer, by its own KL where that was measured.
 * Variants whose KL is not finite are left out. -1: more different costs than can be searched. */
int per_layer_open(struct per_layer *s, const struct model_spec *source,
                   const struct variants *table, const struct per_layer_options *o, struct err *e);
void per_layer_close(struct per_layer *s);

/* The curve, cheapest first; its last point is the source. */
int64_t per_layer_points(const struct per_layer *s);
struct per_layer_point per_layer_point(const struct per_layer *s, int64_t i);
/* The point of least KL that costs at most so much. -1: none does, and the least cost. */
int64_t per_layer_within(const struct per_layer *s, int64_t cost, struct err *e);
/* The shape of a point, as slice_plan_shape gives it. -1: it has no layer left. */
int per_layer_plan(const struct per_layer *s, int64_t i, struct slice_plan *p, struct err *e);
/* The curve as a CSV file that appears whole or not at all: budget, kl, options of slice-model. */
int per_layer_save_curve(const struct per_layer *s, const char *path, struct err *e);

#endif
