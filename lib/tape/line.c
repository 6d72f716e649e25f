/* Adding lines to a tape, with the slots that they write: see tape_private.h. */
#include "tape_private.h"

struct line tape_line(enum op op, int64_t layer, int in0, int in1)
{
    struct line l = {.op = op, .layer = layer, .in = {in0, in1}, .rope = -1};
    for (int i = 2; i < OP_INPUTS; i++)
        l.in[i] = NO_SLOT;
    return l;
}

int tape_trained(const struct tape *t, const struct param *p)
{
    const struct model *m = model_trained(t->spec.model);
    const struct param *end = m->params + m->spec.n_tensors + m->n_added;
    return t->spec.train && p >= m->params && p < end ? (int)(p - m->params) : -1;
}

/* Whether anything that is trained enters the line. */
static int depends_on_trained(const struct tape *t, const struct line *l)
{
    int depends = 0;
    for (int i = 0; i < OP_WEIGHTS; i++)
        depends |= tape_trained(t, l->w[i]) >= 0;
    for (int i = 0; i < OP_INPUTS; i++)
        depends |= l->in[i] != NO_SLOT && t->slots[l->in[i]].is_trained;
    return depends;
}

static int slot_new(struct tape *t, const char *name, int64_t cols, int line)
{
    t->slots = mem_grow(t->slots, sizeof *t->slots * (size_t)(t->n_slots + 1));
    t->slots[t->n_slots] = (struct slot){
        .name = name, .cols = cols, .line = line, .value = NO_BUFFER, .grad = NO_BUFFER};
    return t->n_slots++;
}

static int slot_of_f32(struct tape *t, const char *name, int64_t cols, int line)
{
    int slot = slot_new(t, name, cols, line);
    t->slots[slot].is_f32 = 1;
    return slot;
}

static int device_has(const struct tape *t, const struct line *l, struct err *e)
{
    enum op op = l->op;
    int backward = t->spec.train && !l->is_teacher && !(ops[op].traits & GRADIENTS_IN_FORWARD);
    const struct kernel *k = op_kernel(t->x, op);
    if (k->forward && (!backward || k->backward))
        return 1;
    err_set(e, "op \"%s\" has no %s kernel for device %s", ops[op].name,
            backward ? "training" : "forward", exec_device_name(t->x));
    return 0;
}

int tape_line_add(struct tape *t, struct line l, const char *out, int64_t cols, struct err *e)
{
    if (!device_has(t, &l, e))
        return -1;
    int index = t->n_lines;
    l.out = slot_new(t, out, cols, index);
    l.memo = l.state = NO_SLOT;
    t->slots[l.out].is_trained = depends_on_trained(t, &l);
    l.sizes.x = t->x;
    int64_t memo = op_memo(l.op, &l.sizes), state = op_state(l.op, &l.sizes);
    if (memo)
        l.memo = slot_of_f32(t, "memo", memo, index);
    if (state && t->spec.kv_len) {
        l.state = slot_of_f32(t, "state", state, index);
        t->slots[l.state].kept = 1;
    }
    t->lines = mem_grow(t->lines, sizeof *t->lines * (size_t)(t->n_lines + 1));
    t->lines[t->n_lines++] = l;
    return l.out;
}

/* Not where a is the line's input too: it adds to the gradients of both at the same time. */
int tape_sum_join(struct tape *t, const struct line *sum, const char *out)
{
    struct line *last = t->n_lines ? &t->lines[t->n_lines - 1] : NULL;
    const int a = sum->in[0], b = sum->in[1];
    if (!t->spec.train || !last || last->op != OP_linear || last->out != b || a == b ||
        last->in[0] == a || last->in[1] != NO_SLOT || sum->sizes.p.scale.scale != 1)
        return NO_SLOT;
    last->in[1] = a;
    t->slots[b].name = out;
    t->slots[b].is_trained |= t->slots[a].is_trained;
    return b;
}
