/* What belongs to a unit: the rows and columns of every canonical tensor with its axis, those of
 * the units nested in it included; to a layer all its tensors. */
#ifndef PARE_UNIT_SUMS_H
#define PARE_UNIT_SUMS_H

#include "rank.h"

/* Sums over the rows and the columns of a tensor. A vector is one row: its q8_0 blocks, if any, run
 * along it. */
struct unit_sums {
    int64_t layer, n_rows, n_cols;
    enum axis axes[2];
    double *rows, *cols, all; /* zeros at first */
};
/* For canonical tensor i. */
void unit_sums_open(struct unit_sums *u, const struct model_spec *h, int i);
/* Adds them to the units of their axes. */
void unit_sums_add(const struct unit_sums *u, struct scores *s);
void unit_sums_close(struct unit_sums *u);

#endif
