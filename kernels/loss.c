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

int loss_possible(enum loss loss, enum teacher_form form)
{
    static const enum loss_needs gives[] = {[TEACHER_MODEL] = NEEDS_LOGITS,
                                            [TEACHER_LOGITS] = NEEDS_LOGITS,
                                            [TEACHER_TERMS] = NEEDS_TERMS,
                                            [TEACHER_TOP] = NEEDS_BINS,
                                            [TEACHER_REST] = NEEDS_BINS};
    return loss_table[loss].needs_teacher <= gives[form];
}

int loss_is_listing(struct loss_teacher t) { return t.form >= TEACHER_TERMS; }

int64_t loss_token_bytes(struct loss_teacher t)
{
    int64_t listing = 4 * t.n + 4 * (t.n + 1);
    if (t.form == TEACHER_MODEL)
        return 0;
    return t.form == TEACHER_LOGITS ? 4 * t.n : listing;
}
