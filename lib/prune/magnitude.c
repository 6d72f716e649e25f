/* Weight magnitude as a baseline score: one pass over a model's tensors in row blocks. See
 * scores_magnitude in rank.h. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "rank.h"
#include "rows.h"
#include "unit_sums.h"

static void add_squares(void *user, int64_t row, const float *x, int64_t cols)
{
    struct unit_sums *u = user;
    for (int64_t c = 0; c < cols; c++) {
        double square = (double)x[c] * x[c];
        u->rows[row] += square;
        u->cols[c] += square;
    }
    u->all += u->rows[row];
}

static int tensor_add(struct scores *s, struct model_in *in, const struct tensor *t, int index)
{
    struct unit_sums u;
    unit_sums_open(&u, model_in_spec(in), index);
    int bad = rows_read(in, t, u.n_rows, u.n_cols, add_squares, &u);
    if (!bad)
        unit_sums_add(&u, s);
    unit_sums_close(&u);
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
