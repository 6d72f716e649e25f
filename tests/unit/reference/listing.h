/* The losses of a teacher that lists some entries (kernels/loss.h), in double precision. */
#ifndef PARE_LISTING_H
#define PARE_LISTING_H

#include "reference.h"

enum { LISTED = 7 }; /* entries at most */

/* A row of logits of student and teacher, the logarithms of their softmaxes, the label. */
struct pair {
    const double *z, *zt, *s, *t;
    int64_t n, label;
    double temperature, beta;
};

/* Entries of a vocabulary of V: some of those there is room for, sometimes all there are, sometimes
 * one with probability 0, and the rest. ids [LISTED], log_p [LISTED + 1] */
void listing_draw(struct rng *rng, int64_t V, int32_t *ids, float *log_p);
/* The loss at the student's logits p->z [p->n], and its gradient with respect to them in g. */
double listing_loss(const struct loss_listing *l, enum teacher_form form, enum loss loss,
                    const struct pair *p, double *g);

#endif
