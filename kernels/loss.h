/* Losses on logits: what op loss computes. The list, with each one's formula and its source, is
 * losses.def; how they are computed is in loss_formulas.h. */
#ifndef PARE_LOSS_KINDS_H
#define PARE_LOSS_KINDS_H

#include <stdint.h>

/* Where the teacher's distribution comes from: from a model beside the student (or there is none),
 * or with each token of the batch (struct batch, token_data), all of it or some entries. Of those
 * the losses are made in one of three ways: */
enum teacher_form {
    TEACHER_MODEL,
    /* f32 [n], the logits */
    TEACHER_LOGITS,
    /* The terms of these entries, nothing for the others, of what is then no divergence. For
     * entries drawn n times from the teacher, with their shares of the draws as probabilities, the
     * gradient of kl has the expectation of kl's own: Anshumann et al. 2025, arXiv 2503.16870,
     * section 4. */
    TEACHER_TERMS,
    /* Both distributions are renormalised over these entries: nothing is asked of the mass of the
     * others. */
    TEACHER_TOP,
    /* One more entry stands for all others together: the loss of coarser distributions, which for
     * kl, rkl and jsd is at most that of the full ones (data processing inequality). */
    TEACHER_REST
};
/* n: entries; of a listing at most, for each token */
struct loss_teacher {
    enum teacher_form form;
    int64_t n;
};
/* What token_data holds of a token under a listing, the last three forms: the ids, ascending, below
 * the student's vocabulary, INT32_MAX where there are fewer than n; the natural logarithms of their
 * probabilities at the temperature, -INFINITY for 0; and that of the mass of all others, read by
 * TEACHER_REST. */
struct loss_listing {
    const int32_t *ids; /* [n] */
    const float *log_p; /* [n + 1] */
};
int loss_is_listing(struct loss_teacher t);
int64_t loss_token_bytes(struct loss_teacher t);

/* The least that a loss needs of a teacher, in ascending order: terms of single entries, a
 * partition of the vocabulary, the logits. */
enum loss_needs { NEEDS_NOTHING, NEEDS_TERMS, NEEDS_BINS, NEEDS_LOGITS };

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
    enum loss_needs needs_teacher;
    int has_temperature;
};
extern const struct loss_info loss_table[LOSS_COUNT];
/* Can the loss be had from a teacher of that form? */
int loss_possible(enum loss loss, enum teacher_form form);

/* Values that op loss gives for a position: those of the set, in the order of losses.def. */
int loss_columns(unsigned set);
int loss_column(unsigned set, enum loss loss);

/* What op loss reads from its device slot (struct op_args, step): a factor of all gradients, 1 /
 * counted predictions of the whole optimiser step; then the weight of each loss. */
enum { LOSS_SCALE, LOSS_WEIGHTS, LOSS_STEP = LOSS_WEIGHTS + LOSS_COUNT };

#endif
