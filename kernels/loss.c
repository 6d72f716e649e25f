/* The table of losses: see loss.h. */
#include "loss_formulas.h"

const struct loss_info loss_table[LOSS_COUNT] = {
#define LOSS(name, softmaxes, sums, n, own, teacher, title) \
    {#name, teacher, ((softmaxes) & (OF_STUDENT | OF_TEACHER)) != 0},
#include "losses.def"
#undef LOSS
};

int loss_columns(unsigned set) { return __builtin_popcount(set); }
int loss_column(unsigned set, enum loss loss) { return loss_columns(set & ((1u << loss) - 1)); }
