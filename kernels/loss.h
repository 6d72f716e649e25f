/* Losses on logits: what op loss computes. The list is losses.def, the formulas are
 * loss_formulas.h.
 *
 * At a position whose label is not negative, with logits z_s of the student and z_t of the teacher,
 * p = softmax(z / temperature), sums over the first min(V, Vt) entries of both (what a larger
 * vocabulary has beyond them is cut off before the softmax):
 *
 *   ce      -log softmax(z_s)[label], over all V entries, at temperature 1
 *   kl      sum p_t (log p_t - log p_s)    Hinton et al. 2015, arXiv 1503.02531, section 2, up to a
 *           constant; Loss of Muralidharan et al. 2024, arXiv 2407.14679, equation 5
 *   rkl     sum p_s (log p_s - log p_t)    Gu et al. 2024, arXiv 2306.08543, equation 1
 *   jsd     b sum p_t (log p_t - log m) + (1 - b) sum p_s (log p_s - log m), m = b p_t + (1 - b)
 *           p_s, b = jsd_beta              Agarwal et al. 2024, arXiv 2306.13649, equation 1
 *   mse     mean (z_s - z_t)^2             Ba and Caruana 2014, arXiv 1312.6184, equation 1
 *   cosine  1 - z_s z_t / (|z_s| |z_t|), 1 where a norm is 0
 *
 * kl, rkl, jsd, mse and cosine of logits are those compared in arXiv 2407.14679, table 15. With
 * `squared`, kl, rkl and jsd, and so their gradients, are multiplied by temperature^2 (Hinton et
 * al., section 2: gradients then keep their size when the temperature changes). */
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
    const char *name, *title;
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
