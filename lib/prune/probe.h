/* Depth: what a model loses without each layer, or without each contiguous block of layers. The
 * layers before a block are computed once for all blocks that begin there, so L single layers cost
 * about L/2 forward passes. */
#ifndef PARE_PROBE_H
#define PARE_PROBE_H

#include <stdio.h>

#include "../data/data.h"
#include "../tape/tape.h"
#include "rank.h"

struct choices;

/* By what a model without layers is judged: the mean loss, or how far its predictions are from
 * those of the whole model, KL(whole || without), both in nats; or the share of items for which it
 * makes the right choice (Sreenivas et al. 2024, arXiv 2408.11796, section 2.2). */
enum probe_by { PROBE_NLL, PROBE_KL, PROBE_ACCURACY, PROBE_WAYS };
struct probe_way {
    const char *name, *unit; /* as an option and a table have it */
    const char *key;         /* in headers and names of records */
    int harm;                /* 1 if harm increases it, -1 if harm decreases it */
};
extern const struct probe_way probe_ways[PROBE_WAYS];
int probe_way_find(const char *name); /* -1: unknown */

typedef void probe_progress(void *user, int64_t done, int64_t rows);
/* What models are run on: windows of a text, or items, by what is counted. */
struct probe_text {
    struct exec *x;
    const struct windows *w;
    struct choices *choices;  /* NULL: windows */
    int64_t batch_size;       /* of windows or items; 0: chosen */
    probe_progress *progress; /* of windows, or tokens of items; may be NULL */
    void *user;
};

struct probe {
    enum probe_by by;
    struct model *whole; /* KL is from its predictions; NULL: it is the model that is probed */
    /* block lengths probed, 1 <= shortest <= longest < layers */
    int64_t layers, shortest, longest;
    int64_t predictions;
    double base; /* of the whole model */
    /* [longest, layers]: entry [n-1, i] is that without layers i..i+n-1; 0 where not probed or
     * i+n > layers */
    double *without;
};
int probe_run(struct probe *p, struct model *m, const struct probe_text *on, struct err *e);
/* How much worse a value is than that of the whole model. */
double probe_harm(enum probe_by by, double value, double base);
/* A layer's score, [layers]: the harm done without it; with shortest == longest > 1, the
 * smallest harm among the blocks that contain it, so that the layers ranked last are the best
 * block. */
void probe_scores(const struct probe *p, double *scores);
void probe_close(struct probe *p);

/* Removing the least harmful block of layers, probing what is left, and so on. */
struct greedy {
    enum probe_by by;
    int64_t rounds, length; /* rounds * length < layers; of each block */
    int64_t layers;
    double base;      /* of the whole model */
    int64_t *removed; /* [rounds, length]: layers of the whole model */
    double *after;    /* [rounds]: that of the model without these, and those before */
    double *scores;   /* [layers]: see greedy_run */
};
/* A layer's score: what the model of the last round loses without it, as probe_scores has it; those
 * removed in that round are 1 below the lowest of the others and of 0, those of the round before
 * another 1 below, and so on: so rank removes them first, in their order. by, rounds and length are
 * the caller's; progress is of windows in all rounds. */
int greedy_run(struct greedy *g, struct model *m, const struct probe_text *on, struct err *e);
void greedy_close(struct greedy *g);

/* The scores as a stream of kind "scores": entries of the header that say what was measured (new
 * reference), and the records. */
json_t *probe_meta(enum probe_by by, double base, const struct probe_text *on,
                   const struct axes *a);
void probe_write(struct st_out *out, const struct probe *p, const struct axes *a);
void greedy_write(struct st_out *out, const struct greedy *g, const struct axes *a);

/* Tables for people: blocks by what is left without them; rounds. */
void probe_print(FILE *f, const struct probe *p);
void greedy_print(FILE *f, const struct greedy *g);

#endif
