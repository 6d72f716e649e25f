/* Ridge regression from sums over rows, in double precision: for inputs z [inputs] and targets
 * r [outputs] of many rows, the D [outputs, inputs] and c [outputs] that minimise
 *
 *   sum |r - D z - c|^2 + lambda |D|^2,   lambda = ridge * mean diagonal of sum z z^T,
 *
 * that is D = (sum r z^T) (sum z z^T + lambda I)^-1, where with an offset c both sums are of
 * differences from the means, and c = mean r - D mean z. So lambda has no unit: scaling the inputs
 * scales D back. Rows are added in tiles, so what a sum is does not depend on the threads. */
#ifndef PARE_LEAST_SQUARES_H
#define PARE_LEAST_SQUARES_H

#include <stdint.h>

#include "../base/mem.h"

struct least_squares {
    int64_t inputs, outputs, rows;
    int has_offset;
    double *gram;   /* [inputs, inputs]: sum z z^T, lower triangle; solved: its Cholesky factor */
    double *cross;  /* [outputs, inputs]: sum r z^T; solved: D */
    double *offset; /* [outputs]: sum r; solved: c, or zeros */
    double *inputs_sum; /* [inputs]: sum z */
    double squares;     /* sum |r|^2, less what the offset explains once solved */
    double left;        /* solved: sum |r - D z - c|^2 */
    double *packed;     /* a tile, as f64, in panels of LANES columns */
    struct arena memory;
};
int64_t least_squares_bytes(int64_t inputs, int64_t outputs);
int least_squares_open(struct least_squares *s, int64_t inputs, int64_t outputs, int has_offset,
                       struct err *e);
/* z [rows, inputs], r [rows, outputs] */
void least_squares_add(struct least_squares *s, const float *z, const float *r, int64_t rows);
/* the mean diagonal of `gram` */
double least_squares_scale(const struct least_squares *s);
/* Once. -1: the inputs are linearly dependent and the ridge is too small, or a sum is not finite.
 */
int least_squares_solve(struct least_squares *s, double ridge, struct err *e);
void least_squares_close(struct least_squares *s);

#endif
