/* Inside of a calibration.
 *
 *   calibrate.c       batches, what each adds to the sums, memory
 *   calibrate_taps.c  where the taps are, and what they compute while the tape runs */
#ifndef PARE_CALIBRATE_PRIVATE_H
#define PARE_CALIBRATE_PRIVATE_H

#include "calibrate.h"

struct tap_sum {
    struct calibration *c;
    enum op op;                 /* seq_stats, or of a mixture's inputs expert_stats, expert_use */
    int64_t stat, units, width; /* stat: index into acts.stats */
    int norm;                   /* as in seq_stats */
    int64_t section;            /* that its line is in (lib/model/sections.h) */
    /* [AGG_COUNT][n_seq][channels] of a batch, in device memory */
    double *there;
    struct tap_sum *next; /* more sums of the same tap */
};
struct tap_block {
    struct calibration *c;
    int64_t layer;
};
/* A batch that waits for the sections; its ids are its own. */
struct waiting {
    struct batch b;
    int64_t before; /* samples */
};

struct calibration {
    struct exec *x;
    const struct model *m;
    struct tape *tape;
    struct acts acts;
    int64_t n_seq, seq_len;
    /* points compared per pass: all, if the ring holds nearly as many anyway; points in the ring */
    int64_t group, slots;
    struct tap_sum **sums;    /* every one */
    int64_t n_sums, section;  /* the latter: whose taps are being placed */
    struct tap_block *blocks; /* [L + 1] */
    /* cosines of the last points, fetched: for each call [group][block_size][positions] */
    double *cosines;
    /* [n_seq][block_size, L] of a batch: sums over a sequence's positions */
    double *cosine_sums;
    struct arena arena; /* device memory: `there` of the sums, */
    double *cosines_there;
    /* for each sequence of a batch: scratch of the ops that look at experts, expert_use */
    int64_t expert_scratch, expert_use;
    unsigned char *experts;
    unsigned char *ring; /* and [slots][T, E]: inputs of the last blocks */
    void *host;          /* of exec_view */
    struct batches batches;
    /* of a model that comes section by section, [batches.n], and the bytes of their ids */
    struct waiting *waiting;
    int64_t kept_bytes;
    calibrate_progress *progress;
    void *user;
};

/* Entry 0 of sequence `seq` in the values of an aggregate. */
static inline int64_t tap_sum_at(const struct tap_sum *s, int q, int64_t seq)
{
    return (q * s->c->n_seq + seq) * s->c->acts.stats[s->stat].units;
}
static inline size_t tap_sum_bytes(const struct tap_sum *s)
{
    return (size_t)tap_sum_at(s, AGG_COUNT, 0) * sizeof *s->there;
}
/* Of a sequence, from row `row` of a batch on, at a point, in the ring. */
static inline void *ring_at(const struct calibration *c, int64_t point, int64_t row)
{
    row += point % c->slots * c->n_seq * c->seq_len;
    return c->ring + dtype_bytes(c->x->compute, row * c->acts.axes.size[AXIS_E]);
}

/* calibrate_taps.c: on a recorded tape, taps for all sums of the model's units */
int calibrate_tap(struct calibration *c, struct model *m, struct err *e);
/* Compares the rows that enter block p, for p = from..to - 1, with those that entered the blocks
 * before, all of them in the ring: into cosine_sums. t: the sequences; its values are those of any
 * point. */
void calibrate_compare(const struct calibration *c, const struct tapped *t, int64_t from,
                       int64_t to);

#endif
