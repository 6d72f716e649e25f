/* Lines of losses on hidden states (struct tape_state): of each, a line that compares a slot of the
 * student with one of the teacher, whose lines are recorded before; where there is a lift, after a
 * linear line that widens the student's. A line is added as soon as the student's slot is there, so
 * that its gradient is made near that slot's own line in the backward pass. */
#include "tape_private.h"

#include <string.h>

static int norm_of(const struct tape *t, int slot)
{
    for (int i = 0; i < t->n_lines && slot != NO_SLOT; i++)
        if ((t->lines[i].op == OP_rmsnorm || t->lines[i].op == OP_layernorm) &&
            t->lines[i].in[0] == slot)
            return t->lines[i].out;
    return NO_SLOT;
}

/* The line of a block with that op and weight (any, if NULL); NULL: not recorded. */
static const struct line *line_of(const struct tape *t, int is_teacher, int64_t block, enum op op,
                                  const char *stem)
{
    for (int i = 0; i < t->n_lines; i++) {
        const struct line *l = &t->lines[i];
        if (l->is_teacher == is_teacher && l->layer == block && l->op == op &&
            (!stem || (l->stem && !strcmp(l->stem, stem))))
            return l;
    }
    return NULL;
}

/* x between blocks, or the output of the norm that reads it. */
static int stream_slot(const struct tape *t, int is_teacher, int64_t boundary)
{
    int x = t->boundary[is_teacher][boundary];
    return t->spec.raw_states ? x : norm_of(t, x);
}

/* The slots that a state is of, up to three; how many, 0 if they are not recorded. */
static int state_slots(const struct tape *t, const struct tape_state *s, int is_teacher,
                       int slots[STATE_LINES])
{
    int64_t block = is_teacher ? s->teacher : s->student;
    const struct line *l = NULL;
    switch (s->place) {
    case STATE_EMB: slots[0] = stream_slot(t, is_teacher, 0); break;
    case STATE_BLOCK: slots[0] = stream_slot(t, is_teacher, block + 1); break;
    case STATE_MLP_IN:
        l = line_of(t, is_teacher, block, OP_linear, "up_proj");
        slots[0] = l ? l->in[0] : NO_SLOT;
        break;
    case STATE_QKV:
        l = line_of(t, is_teacher, block, OP_attention, NULL);
        for (int i = 0; i < STATE_LINES; i++)
            slots[i] = l ? l->in[i] : NO_SLOT;
        return l ? STATE_LINES : 0;
    default: return 0;
    }
    return slots[0] != NO_SLOT;
}

/* The student's slot as wide as the teacher's. */
static int lifted(struct tape *t, int slot, int64_t layer, struct err *e)
{
    struct line l = tape_line(OP_linear, layer, slot, NO_SLOT);
    l.w[0] = t->spec.lift;
    return t->spec.lift ? tape_line_add(t, l, "lifted", l.w[0]->rows, e) : slot;
}

static int64_t common_divisor(int64_t a, int64_t b) { return b ? common_divisor(b, a % b) : a; }

/* Query heads (slot 0 of three) or KV heads. */
static int64_t heads_of(const struct tape *t, int is_teacher, int64_t block, int i)
{
    const struct layer *y = &tape_model_spec(t, is_teacher)->layers[block];
    return i ? y->num_key_value_heads : y->num_attention_heads;
}

/* The line that compares slot i of a state. */
static int compare(struct tape *t, struct state_lines *of, int i, int student, int teacher,
                   struct err *e)
{
    const struct tape_state *s = &t->spec.states[of - t->states];
    int64_t layer = t->lines[t->n_lines - 1].layer;
    int is_relation = s->place == STATE_QKV;
    struct line l = tape_line(is_relation ? OP_relation : OP_state, layer, student, teacher);
    if (is_relation)
        l.sizes.p.relation = (struct relation_params){
            s->weight,
            common_divisor(heads_of(t, 0, s->student, i), heads_of(t, 1, s->teacher, i))};
    else
        l.sizes.p.state = (struct state_params){s->weight, t->spec.state_loss};
    l.step = t->state_step;
    l.n_step = STATE_STEP;
    if (!is_relation && (l.in[0] = lifted(t, student, layer, e)) < 0)
        return -1;
    if (!is_relation && t->slots[l.in[0]].cols != t->slots[teacher].cols)
        return err_set(e, "states of %lld and %lld channels cannot be compared without a lift",
                       (long long)t->slots[l.in[0]].cols, (long long)t->slots[teacher].cols);
    int out = tape_line_add(t, l, "distance", 1, e);
    if (out < 0)
        return -1;
    t->slots[out].is_result = 1;
    of->line[of->n++] = t->n_lines - 1;
    return 0;
}

/* Why a model does not have a state. */
static int refuse(const struct tape *t, const struct tape_state *s, int is_teacher, struct err *e)
{
    long long block = (long long)(is_teacher ? s->teacher : s->student);
    const char *who = is_teacher ? "teacher" : "student";
    if (s->place == STATE_MLP_IN || s->place == STATE_QKV)
        return err_set(e, "block %lld of the %s has no %s, whose states were to be compared", block,
                       who, s->place == STATE_QKV ? "attention" : "MLP");
    const char *family = tape_model_spec(t, is_teacher)->family->name;
    if (s->place == STATE_EMB)
        return err_set(e, "no norm reads the embeddings of the %s (%s): use --states-norm none",
                       who, family);
    return err_set(e, "no norm reads what block %lld of the %s (%s) writes: use --states-norm none",
                   block, who, family);
}

int tape_record_states(struct tape *t, int is_last, struct err *e)
{
    int mine[STATE_LINES], theirs[STATE_LINES];
    for (int i = 0; i < TAPE_STATES && t->spec.states[i].place; i++) {
        const struct tape_state *s = &t->spec.states[i];
        int n = t->states[i].n ? 0 : state_slots(t, s, 0, mine);
        if (is_last && !n && !t->states[i].n)
            return refuse(t, s, 0, e);
        if (n && !state_slots(t, s, 1, theirs))
            return refuse(t, s, 1, e);
        for (int k = 0; k < n; k++)
            if (compare(t, &t->states[i], k, mine[k], theirs[k], e))
                return -1;
    }
    return 0;
}
