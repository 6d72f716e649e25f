/* Weights beside activations: how strongly the matrices that read a channel pass it on. */
#ifndef PARE_WEIGHTED_H
#define PARE_WEIGHTED_H

#include "../model/model.h"

/* Of the channels whose activations have sums of that name (acts.h): sum of |W[r, c]| over all rows
 * of all matrices that read channel c. A channel's activation times this is the sum over its column
 * of Wanda's |W[r, c]| * ||x_c|| (Sun et al. 2023, arXiv 2306.11695, equation 1), if the activation
 * is aggregated by l2 and l2; so FLAP's baseline Wanda-sp scores it (An et al. 2023, arXiv
 * 2312.11983, section 4). */
struct column_sum {
    char name[64];
    int64_t n;
    double *of;
};
struct column_sums {
    struct column_sum *list;
    int64_t n;
};

/* One pass over the model's tensors. -1: weights that are not finite, or an error in reading */
int column_sums_read(struct column_sums *c, struct model_in *in, struct err *e);
/* x[i] *= what belongs to channel i of those; zeros if no matrix reads them. */
void column_sums_weigh(const struct column_sums *c, const char *name, double *x, int64_t n);
void column_sums_free(struct column_sums *c);

#endif
