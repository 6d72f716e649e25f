/* Weight magnitude as a baseline score: one pass over a model's tensors in row blocks. See
 * scores_magnitude in rank.h. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../base/mem.h"
#include "rank.h"
#include "rows.h"

struct squares {
    double *rows, *cols, all;
};

static void add_squares(void *user, int64_t row, const float *x, int64_t cols)
{
    struct squares *q = user;
    for (int64_t c = 0; c < cols; c++) {
        double square = (double)x[c] * x[c];
        q->rows[row] += square;
        q->cols[c] += square;
    }
    q->all += q->rows[row];
}

/* Adds the values of n positions along a tensor's dimension to the units of its axis, and to those
 * of the axis these are nested in. */
static void positions_add(struct scores *s, enum axis axis, int64_t layer, const double *squares,
                          int64_t n)
{
    for (; axis_rows[axis].place >= 0; axis = axis_rows[axis].inside) {
        double *units = scores_axis(s, axis, layer);
        int64_t per = n / axes_size(&s->axes, axis, layer);
        for (int64_t i = 0; i < n; i++)
            units[i / per] += squares[i];
    }
}

static void squares_add(struct scores *s, const struct squares *q, const enum axis axes[2],
                        int64_t layer, int64_t rows, int64_t cols)
{
    positions_add(s, axes[0], layer, q->rows, rows);
    positions_add(s, axes[1], layer, q->cols, cols);
    if (layer >= 0)
        scores_axis(s, AXIS_L, -1)[layer] += q->all;
}

static int tensor_add(struct scores *s, struct model_in *in, const struct tensor *t, int index)
{
    int64_t layer, rows = t->ndim ? t->shape[0] : 1;
    int64_t cols = t->ndim == 2 ? t->shape[1] : 1;
    const struct family_tensor *f = model_spec_axes(model_in_spec(in), index, &layer);
    enum axis axes[2] = {f->axes[0], f->axes[1]};
    if (t->ndim == 1) { /* a vector is one row: its q8_0 blocks, if any, run along it */
        cols = rows;
        rows = 1;
        axes[1] = axes[0];
        axes[0] = AXIS_NONE;
    }
    struct squares q = {mem_alloc((size_t)rows * sizeof(double)),
                        mem_alloc((size_t)cols * sizeof(double)), 0};
    int bad = rows_read(in, t, rows, cols, add_squares, &q);
    if (!bad)
        squares_add(s, &q, axes, layer, rows, cols);
    free(q.rows);
    free(q.cols);
    return bad;
}

int scores_magnitude(struct scores *s, struct model_in *in, struct err *e)
{
    struct axes a;
    struct tensor t;
    int more;
    axes_from_model(&a, model_in_spec(in));
    scores_open(s, &a);
    axes_free(&a);
    model_digest(in);
    for (int i = 0; (more = model_next(in, &t)) > 0; i++)
        if (tensor_add(s, in, &t, i))
            return -1;
    for (int64_t i = 0; i < axes_count(&s->axes) && !more && !e->set; i++) {
        axes_tensor(&s->axes, i, DT_F64, &t);
        double *v = scores_entry(s, i);
        for (int64_t j = 0; j < tensor_count(&t); j++)
            if (!isfinite(v[j] = sqrt(v[j])))
                return err_set(
                    e,
                    "the model has weights that are not finite: the norm of unit %" PRId64 " of %s",
                    j, t.name);
    }
    memcpy(s->axes.digest, model_in_spec(in)->digest, sizeof s->axes.digest);
    return more || e->set ? -1 : 0;
}
