/* Losses on logits: what op loss computes. The list, with each one's formula and its source, is
 * losses.def; how they are computed is in loss_formulas.h. */
#ifndef PARE_LOSS_KINDS_H
#define PARE_LOSS_KINDS_H

enum loss {
#define LOSS(name, softmaxes, sums, n, own, teacher, title) LOSS_##name,
#include "losses.def"
#undef LOSS
    LOSS_COUNT
};
#define LOSS_BIT(name) (1u << LOSS_##name)

/* Which losses, a set of LOSS_BIT, and what shapes them. temperature > 0; 0 < jsd_beta < 1. */
struct loss_kind {
    unsigned set;
    float temperature, jsd_beta;
    int squared;
};

struct loss_info {
    const char *name;
    int needs_teacher, has_temperature;
};
extern const struct loss_info loss_table[LOSS_COUNT];

/* Values that op loss gives for a position: those of the set, in the order of losses.def. */
int loss_columns(unsigned set);
int loss_column(unsigned set, enum loss loss);

/* What op loss reads from its device slot (struct op_args, step): a factor of all gradients, 1 /
 * counted predictions of the whole optimiser step; then the weight of each loss. */
enum { LOSS_SCALE, LOSS_WEIGHTS, LOSS_STEP = LOSS_WEIGHTS + LOSS_COUNT };

#endif
