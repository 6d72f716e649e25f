/* Importance by gradients: to first order, how much the loss changes when all weights of a unit are
 * set to 0, |sum of w * dL/dw| over them (Molchanov et al. 2019, arXiv 1906.10771, equation 9
 * without the square; Ma et al. 2023, LLM-Pruner, arXiv 2305.11627, equation 3 for vectors of
 * weights). */
#ifndef PARE_TAYLOR_H
#define PARE_TAYLOR_H

#include "../data/data.h"
#include "../tape/tape.h"
#include "rank.h"

struct taylor {
    struct exec *x;
    struct model *m; /* MODEL_TRAIN, on the device, with gradients */
    const struct windows *w;
    int64_t batch_size; /* windows in a backward pass, which count as one sample */
    struct tape *tape;
};
/* Records the tape; the fields before it are the caller's. */
int taylor_plan(struct taylor *y, struct err *e);
/* Opens the tape and scores every axis: the sum over samples of |sum of w * gradient of the
 * sample's summed loss|, divided by all predictions. Weights of a unit are the rows and columns of
 * matrices with its axis, and its biases; weights of norms are left out, since they scale what the
 * matrices leave of a unit. Layers: all their matrices and biases. -1 also where gradients
 * are not finite. */
int taylor_run(struct taylor *y, struct scores *s, void (*progress)(void *, int64_t, int64_t),
               void *user, struct err *e);
void taylor_close(struct taylor *y);

#endif
