/* States in an optimiser step: their sums, and the alpha that balances them with the losses on
 * logits, which is computed on the device from a micro-batch's own losses, so that nothing waits
 * for them. See states.h, step.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../base/world.h"
#include "step.h"

/* Where a state's sum is among those of a step. */
static int state_sum(const struct trainer *t, int i)
{
    return loss_columns(train_loss_set(&t->o)) + i;
}

/* The factors with which sums enter the total: of the losses that compare with a teacher, or of the
 * states. */
static void balance_factors(const struct trainer *t, const struct train_record *r,
                            float of_losses[TRAIN_SUMS], float of_states[TRAIN_SUMS])
{
    unsigned set = train_loss_set(&t->o);
    memset(of_losses, 0, TRAIN_SUMS * sizeof *of_losses);
    memset(of_states, 0, TRAIN_SUMS * sizeof *of_states);
    for (int i = 0; i < LOSS_COUNT; i++)
        if (t->o.weights[i] != 0 && loss_table[i].needs_teacher)
            of_losses[loss_column(set, (enum loss)i)] = (float)(t->o.weights[i] /
                                                                (double)r->predictions);
    for (int i = 0; i < t->o.states.n; i++)
        of_states[state_sum(t, i)] = t->o.states.terms[i].weight / (float)r->tokens;
}

void train_states_begin(struct trainer *t, const struct train_record *r)
{
    const struct train_states *s = &t->o.states;
    if (!s->n)
        return;
    float factors[2][TRAIN_SUMS];
    balance_factors(t, r, factors[0], factors[1]);
    exec_put(t->x, t->factors, factors, sizeof factors);
    tape_state_step(t->tape, (float)(1 / (double)r->tokens), (float)s->weight);
}

/* The sums of a micro-batch that several processes share, all of them at one. */
static int share_micro(struct trainer *t, struct err *e)
{
    int64_t parts = t->own.parts, groups = world_size() / parts, group = world_rank() / parts;
    double *all = mem_alloc((size_t)(groups * TRAIN_SUMS) * sizeof *all),
           *own = all + group * TRAIN_SUMS;
    exec_get(t->x, own, t->micro, TRAIN_SUMS * sizeof *own);
    int failed = world_sum(all, groups * TRAIN_SUMS, e);
    exec_put(t->x, t->micro, own, TRAIN_SUMS * sizeof *own);
    free(all);
    return failed;
}

int train_states_losses(struct trainer *t, const struct batch *b, struct err *e)
{
    if (!t->o.states.balanced) {
        tape_add_losses(t->tape, b, t->sums);
        return 0;
    }
    struct op_args ratio = {.x = t->x,
                            .rows = 1,
                            .p.ratio = {t->factors, t->factors + TRAIN_SUMS, STATES_ALPHA_MOST,
                                        tape_state_weight(t->tape)}};
    struct op_args sum = {.x = t->x, .rows = 1, .p.column_sum.out = t->sums};
    ratio.in[0] = sum.in[0] = (struct operand){
        .v = t->micro, .dtype = DT_F64, .rows = 1, .cols = TRAIN_SUMS};
    exec_zero(t->x, t->micro, TRAIN_SUMS * sizeof *t->micro);
    tape_add_losses(t->tape, b, t->micro);
    op_forward(OP_column_sum, &sum);
    if (t->own.parts > 1 && share_micro(t, e))
        return -1;
    op_forward(OP_ratio, &ratio);
    return 0;
}

void train_states_measure(const struct trainer *t, const double sums[TRAIN_SUMS],
                          struct train_record *r)
{
    const struct train_states *s = &t->o.states;
    double losses = 0;
    for (int i = 0; i < s->n; i++) {
        r->state[i] = sums[state_sum(t, i)] / (double)r->tokens;
        r->states += (double)s->terms[i].weight * r->state[i];
    }
    for (int i = 0; i < LOSS_COUNT; i++)
        losses += loss_table[i].needs_teacher ? t->o.weights[i] * r->losses[i] : 0;
    r->alpha = s->weight;
    if (s->balanced)
        r->alpha = r->states == 0 ? 0 : fmin(losses / r->states, STATES_ALPHA_MOST);
    r->loss += s->n ? r->alpha * r->states : 0;
}

void train_states_log(const struct trainer *t, const struct train_record *r, json_t *j)
{
    const struct train_states *s = &t->o.states;
    if (!s->n)
        return;
    json_object_set_new(j, "states", json_real(r->states));
    json_object_set_new(j, "alpha", json_real(r->alpha));
    for (int i = 0; i < s->n; i++)
        json_object_set_new(j, s->names[i], json_real(r->state[i]));
}
