/* A model run layer by layer over the windows of a text, for probes: of each batch, what enters the
 * current layer is kept, so that the rest of the model can be run again, without some layers or
 * with others in their place; and the logits that the output is compared with, if it is: the
 * model's own, or those of a larger model that it is a part of. */
#ifndef PARE_WALK_H
#define PARE_WALK_H

#include "../data/data.h"
#include "../eval/eval.h"
#include "../tape/tape.h"

/* Sums over the predictions of a batch. */
struct walk_sums {
    double nll;
    double kl, same_top1; /* from the logits compared with; 0 with TAPE_LOSS */
};
struct walk {
    struct exec *x;
    struct model *m; /* on the device */
    /* whose logits are compared with, NULL: the model's own; of the same vocabulary, on the device;
     * set it before walk_open */
    struct model *reference;
    const struct windows *w;
    struct tape_spec spec;
    struct tape *tape;
    struct data_batch batch;
    int64_t predictions; /* of the batch */
    /* private, in device memory */
    struct arena memory;
    void *entry;         /* [T, E]: what enters the current layer */
    struct operand base; /* [T, V]: the logits compared with */
    struct comparison comparison;
};

/* end: TAPE_LOSS or TAPE_LOGITS. batch_size: windows per batch; 0: as many as make about 1024
 * tokens. Records the tape, allocates nothing; -1: it cannot be recorded. */
int walk_plan(struct walk *k, struct exec *x, struct model *m, const struct windows *w,
              int64_t batch_size, enum tape_end end, struct err *e);
int64_t walk_bytes(const struct walk *k); /* device memory that walk_open takes */
int walk_open(struct walk *k, struct err *e);
/* Runs the model over the windows from `first` on, as many as a batch holds, and stands before
 * layer 0; sums: of the model itself, which must be finite. */
int walk_begin(struct walk *k, int64_t first, struct walk_sums *sums, struct err *e);
/* Runs the model from that layer on, on what enters the current layer. */
int walk_skip(struct walk *k, int64_t layer, struct walk_sums *sums, struct err *e);
/* The same of another model of the same width, on the same device, in the memory of the model's
 * tape. */
int walk_swap(struct walk *k, struct model *m, int64_t layer, struct walk_sums *sums,
              struct err *e);
/* Stands before the next layer; `layer` is the current one. */
int walk_pass(struct walk *k, int64_t layer, struct err *e);
void walk_close(struct walk *k); /* also of one that is only planned, or zeros */

#endif
