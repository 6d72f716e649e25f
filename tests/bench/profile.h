/* How fast each op of a training or evaluation tape runs on a device, against what the device can
 * do. */
#ifndef PARE_PROFILE_H
#define PARE_PROFILE_H

#include "../../lib/tape/tape.h"

/* FLOP/s of a large product of random numbers; bytes/s, read and written, of a large copy */
struct ceiling {
    double product, copy;
};
int profile_ceiling(struct exec *x, struct ceiling *c, struct err *e);
/* A JSON line for each op and direction on standard output: calls, milliseconds of a step, and the
 * share of its bound, the longer of what its FLOPs take at the product's speed and its bytes at the
 * copy's. Returns their seconds together. The tape must have run once. */
double profile_print(struct tape *t, const struct batch *b, const struct ceiling *c);

#endif
