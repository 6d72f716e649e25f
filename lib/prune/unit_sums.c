/* Sums of tensors by unit: see unit_sums.h. */
#include "unit_sums.h"

#include <stdlib.h>

void unit_sums_open(struct unit_sums *u, const struct model_spec *h, int i)
{
    const struct tensor *t = &h->tensors[i];
    *u = (struct unit_sums){.n_rows = 1, .n_cols = t->shape[t->ndim - 1]};
    const struct family_tensor *f = model_spec_axes(h, i, &u->layer);
    u->axes[1] = f->axes[t->ndim - 1];
    if (t->ndim == 2) {
        u->n_rows = t->shape[0];
        u->axes[0] = f->axes[0];
    }
    u->rows = mem_alloc((size_t)u->n_rows * sizeof *u->rows);
    u->cols = mem_alloc((size_t)u->n_cols * sizeof *u->cols);
}

/* Adds the sums of n positions along a tensor's dimension to the units of its axis, and to those of
 * the axes these are nested in. */
static void add_positions(struct scores *s, enum axis axis, int64_t layer, const double *sums,
                          int64_t n)
{
    for (; axis; axis = axis_rows[axis].inside) {
        if (axis_rows[axis].place < 0 || !axes_size(&s->axes, axis, layer))
            continue;
        double *units = scores_axis(s, axis, layer);
        int64_t per = n / axes_size(&s->axes, axis, layer);
        for (int64_t i = 0; i < n; i++)
            units[i / per] += sums[i];
    }
}

void unit_sums_add(const struct unit_sums *u, struct scores *s)
{
    add_positions(s, u->axes[0], u->layer, u->rows, u->n_rows);
    add_positions(s, u->axes[1], u->layer, u->cols, u->n_cols);
    if (u->layer >= 0)
        scores_axis(s, AXIS_L, -1)[u->layer] += u->all;
}

void unit_sums_close(struct unit_sums *u)
{
    free(u->rows);
    free(u->cols);
}
