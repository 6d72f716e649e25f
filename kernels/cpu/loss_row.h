/* A position's losses: sums over its logits, values, and the gradient with respect to them. For
 * loss.c, which passes the vocabulary range by range and piece by piece.
 *
 * Exponentials are f32 and relative to a base near the maximum so far, sums of them f32 over a run
 * of entries and f64 beyond (the online softmax of Milakov and Gimelshein 2018; a base that may
 * stay HEADROOM below the maximum saves the walk that would look for it first). */
#ifndef PARE_LOSS_ROW_H
#define PARE_LOSS_ROW_H

#include "../op.h"
#include "vecmath.h"

#define FORMULA static inline __attribute__((always_inline))
#define formula_log vec_log
#include "../loss_formulas.h"

enum { ALL, STUDENT, TEACHER, SOFTMAXES }; /* 1 << them: OF_ALL, OF_STUDENT, OF_TEACHER */

/* Shared by the positions of a call. */
struct row_plan {
    struct loss_kind kind;
    struct loss_teacher teacher;
    const float *step;                  /* scale and weights */
    unsigned softmaxes;                 /* to sum up */
    unsigned weights;                   /* of those, whose exponentials weight the sums of a loss */
    int student;                        /* STUDENT, or ALL where one softmax serves as both */
    int second_walk;                    /* a loss needs one */
    int64_t shared;                     /* entries that both vocabularies have */
    float inv_temperature, slope, gain; /* 1 / cap or 0, and scale of the student's logits */
};

/* Of entries so far: the sum of e^(z * inv_temperature - base), where no exponent is beyond
 * HEADROOM. base -infinity: none yet. */
struct soft {
    double sum;
    float base, inv_temperature;
};

struct row {
    struct soft soft[SOFTMAXES];
    float label; /* the student's logit of the label, where the range has it */
    double sums[LOSS_COUNT][LOSS_SUMS];
    /* once ended: the gradient, and those losses that have a part of their own in it */
    struct loss_mix mix;
    unsigned own_set;
    float own[LOSS_COUNT][LOSS_OWN];
};

struct row_plan row_plan(const struct loss_params *p, int64_t vocabulary, int64_t shared);
/* is a second pass over the logits needed for values? */
int row_second_walk(const struct loss_params *p);

/* In this order: each range begins its own row and adds its logits (finished; zt NULL where the
 * teacher has none), rows of the ranges are merged into the first one's; where a second walk is
 * needed each range adds to its own row once more, and those sums are joined. */
void row_begin(const struct row_plan *k, struct row *r);
void row_add(const struct row_plan *k, struct row *r, const float *z, const float *zt, int64_t n);
void row_merge(const struct row_plan *k, struct row *r, const struct row *other);
void row_add_second(const struct row_plan *k, struct row *r, const struct row *merged,
                    const float *z, const float *zt, int64_t n);
void row_merge_second(const struct row_plan *k, struct row *r, const struct row *other);
FORMULA struct loss_softmax softmax_of(const struct soft *s)
{
    return (struct loss_softmax){s->sum, (double)s->base + log(s->sum)};
}
/* values: loss_columns(set) */
void row_end(const struct row_plan *k, struct row *r, double *values);
/* n logits become d loss / d (x w^T); at: where the label is among them, outside of 0 .. n - 1 if
 * it is not */
void row_gradient(const struct row_plan *k, const struct row *r, int64_t at, float *z,
                  const float *zt, int64_t n);

#endif
