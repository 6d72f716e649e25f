/* Reading a tensor of a model row by row, as f32, in constant memory. */
#ifndef PARE_ROWS_H
#define PARE_ROWS_H

#include "../model/model.h"

typedef void row_visit(void *user, int64_t row, const float *x, int64_t cols);
/* The tensor that model_next has just returned, as rows x cols values. 0 or -1 */
int rows_read(struct model_in *in, const struct tensor *t, int64_t rows, int64_t cols,
              row_visit *visit, void *user);

#endif
