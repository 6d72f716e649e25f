/* The arguments of an event's call: sizes, parameters and, once the arena is open, pointers.
 * Planning needs the sizes, running all of it. */
#include "tape_private.h"

enum dtype tape_slot_dtype(const struct tape *t, int slot)
{
    const struct slot *s = &t->slots[slot];
    if (s->is_f32)
        return DT_F32;
    return ops[t->lines[s->line].op].traits & OUT_F64 ? DT_F64 : t->x->compute;
}

void *tape_buffer(const struct tape *t, int buffer)
{
    return buffer == NO_BUFFER || !t->shared ? NULL : t->shared + t->buffers[buffer].offset;
}

struct operand tape_operand(const struct tape *t, int slot, int value, int grad, int64_t rows)
{
    if (slot == NO_SLOT)
        return (struct operand){0};
    return (struct operand){.v = tape_buffer(t, value),
                            .g = tape_buffer(t, grad),
                            .dtype = tape_slot_dtype(t, slot),
                            .rows = rows,
                            .cols = t->slots[slot].cols};
}

int tape_rope_is_long(const struct tape *t, const struct line *l, const struct batch *b, int64_t i)
{
    const struct rope_table *r = &tape_model_spec(t, l->is_teacher)->ropes[l->rope];
    int64_t length = b->lengths ? b->lengths[i] : b->pos0 + b->seq_len;
    return r->long_after > 0 && length > r->long_after;
}

static void call_rope(const struct tape *t, const struct line *l, const struct batch *b,
                      struct rope_params *p)
{
    int k = tape_rope_is_long(t, l, b, 0);
    p->cos = t->tables[l->is_teacher] ? t->tables[l->is_teacher][l->rope].cos[k] : NULL;
    p->sin = t->tables[l->is_teacher] ? t->tables[l->is_teacher][l->rope].sin[k] : NULL;
}

struct op_args tape_args(const struct tape *t, const struct event *ev, const struct batch *b)
{
    const struct line *l = &t->lines[ev->line];
    struct op_args c = l->sizes;
    int64_t rows = b->n_seq * b->seq_len;
    c.x = t->x;
    c.batch = b;
    c.rows = rows;
    c.scratch = t->scratch;
    c.memo = tape_buffer(t, ev->memo);
    c.state = tape_buffer(t, ev->state);
    for (int i = 0; i < OP_INPUTS; i++) {
        c.in[i] = tape_operand(t, l->in[i], ev->in[i], ev->in_grad[i], rows);
        if (l->in[i] != NO_SLOT && t->slots[l->in[i]].kept)
            c.in[i].rows = t->spec.n_seq * t->slots[l->in[i]].kept;
        c.in[i].overwrite = ev->in_overwrite[i];
    }
    for (int i = 0; i < OP_WEIGHTS; i++)
        if (l->w[i])
            c.w[i] = (struct operand){.v = l->w[i]->v,
                                      .g = tape_trained(t, l->w[i]) >= 0 ? l->w[i]->g : NULL,
                                      .dtype = l->w[i]->dtype,
                                      .rows = l->w[i]->rows,
                                      .cols = l->w[i]->cols};
    c.w[0].overwrite = ev->w_overwrite && t->first_pass;
    c.out = tape_operand(t, l->out, ev->out, ev->out_grad, rows);
    if (t->slots[l->out].kept)
        c.out.rows = t->spec.n_seq * t->slots[l->out].kept;
    c.step = t->step && l->n_step ? t->step + l->step : NULL;
    if (l->rope >= 0)
        call_rope(t, l, b, &c.p.rope);
    return c;
}
