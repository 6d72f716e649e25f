/* What each of several processes (lib/base/world.h) has of an optimiser step: its sequences, and
 * its part of the optimiser's state, as in ZeRO stage 1 (Rajbhandari et al. 2020, arXiv 1910.02054,
 * section 5.1).
 *
 * Each computes the gradient of its own sequences; the gradients are summed bucket by bucket, from
 * the last layer on, while the backward pass is still at work on the layers before. A rank gets the
 * sum of its piece of every bucket, of which it keeps the moments; it updates these weights, and
 * all get them from it. Where all compute with bf16 copies they get only these, and the f32 weights
 * stay with the rank that updates them. One process has one bucket and one piece. */
#ifndef PARE_TRAIN_SHARE_H
#define PARE_TRAIN_SHARE_H

#include "../tape/tape.h"
#include "options.h"

/* The sequences of a rank: of `passes` forward passes from `pass` on, `rows` of each, from `row`
 * on. Passes are shared out as far as they go, then the sequences of each; so `parts` ranks work on
 * a pass. */
struct train_rows {
    int64_t passes, pass, rows, row, parts;
};
/* Refuses numbers that cannot be shared evenly. */
int train_rows_of(struct train_rows *own, const struct train_options *o, struct err *e);

/* Edges of a shard, among those of all. */
struct shard_edges {
    int64_t at, n;
};
struct shards {
    struct exec *x;
    struct model *m; /* the trained one; borrowed */
    int64_t size, n; /* values of a bucket, the last may have fewer; buckets */
    int64_t owned;   /* values of this rank */
    /* this rank's shard of each bucket; where its moments are, among those of this rank */
    struct model_run *of;
    struct shard_edges *edges_of;
    /* of each shard, relative to it: where runs of values that decay begin and end, alternately */
    int64_t *edges, n_edges;
    int *open; /* by bucket: parameters that still get gradients in this pass; -1: it is queued */
    struct tape *tape; /* of that pass */
    int is_direct;     /* devices exchange without the host */
    /* where the host exchanges for a device, else NULL: all values, then all of vectors */
    float *host;
};
/* Decides who owns what, and unless all_whole, which f32 weights m keeps; needs the sizes of m
 * only. Connects devices that can be. */
int shards_plan(struct shards *s, struct exec *x, struct model *m, int all_whole, struct err *e);
/* bytes that the exchange takes on the host */
int64_t shards_bytes(const struct shards *s);
void shards_close(struct shards *s);

/* The first run of values, among n from `first` on, that is this rank's, and where its moments are.
 * 0: there is none. */
int shards_find(const struct shards *s, int64_t first, int64_t n, struct model_run *run);

/* Before the last backward pass of a step, which then queues every bucket as it becomes final. */
void shards_expect(struct shards *s, struct tape *t);
/* After the passes of a step: queues all others, and waits until the gradients of this rank's
 * shards are sums. */
int shards_reduce(struct shards *s, struct err *e);
/* Queues the bucket of shard i, whose weights are updated; shards_wait: all ranks have all that
 * they compute with. */
void shards_spread(struct shards *s, int64_t i);
int shards_wait(struct shards *s, struct err *e);
/* After the last step: every rank gets all f32 weights, in the place of the gradients. */
int shards_join(struct shards *s, struct err *e);

#endif
