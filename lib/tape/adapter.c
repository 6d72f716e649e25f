/* The lines of a low-rank adapter (lib/model/model.h), which follow the linear line of its
 * matrix:
 *
 *   a = A x,  b = B a,  sum = y + scale * b
 *
 * They are ordinary lines, so that memory, reruns and gradients need nothing of their own. */
#include "tape_private.h"

static int linear_add(struct tape *t, const struct line *base, int in, struct param *w,
                      const char *out, struct err *e)
{
    struct line l = tape_line(OP_linear, base->layer, in, NO_SLOT);
    l.is_teacher = base->is_teacher;
    l.w[0] = w;
    return tape_line_add(t, l, out, w->rows, e);
}

int tape_adapter_add(struct tape *t, const struct model *m, int slot, struct err *e)
{
    const struct line base = t->lines[t->slots[slot].line];
    const struct adapter *has = base.op == OP_linear ? adapter_of(m, base.w[0]) : NULL;
    if (!has)
        return slot;
    struct param *w = adapter_params(m->adapters, has);
    int a = linear_add(t, &base, base.in[0], &w[0], "A x", e),
        b = a < 0 ? -1 : linear_add(t, &base, a, &w[1], "B A x", e);
    struct line sum = tape_line(OP_add, base.layer, slot, b);
    sum.is_teacher = base.is_teacher;
    sum.in_place = 1;
    sum.sizes.p.scale.scale = (float)has->scale;
    return b < 0 ? -1 : tape_line_add(t, sum, t->slots[slot].name, t->slots[slot].cols, e);
}
