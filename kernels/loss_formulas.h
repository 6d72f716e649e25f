/* The formulas of losses.def, the same for both devices. Each loss NAME has four functions:
 *
 * NAME_terms(entry, kind): what an entry of the vocabulary adds to the loss's sums.
 * NAME_finish(row, sums, w, mix, own): the loss of a position from its sums; adds w times its
 *   gradient to `mix`, or stores in `own` what NAME_gradient needs.
 * NAME_gradient(entry, kind, own): the part of the gradient with respect to an entry's logit of the
 *   student that `mix` does not hold.
 * NAME_bin(bin, kind): where the teacher lists some entries only (enum teacher_form), what one of
 *   them adds to the loss.
 *
 * The includer defines FORMULA, how a function is declared, and formula_log, the logarithm of an
 * f32. */
#ifndef PARE_LOSS_FORMULAS_H
#define PARE_LOSS_FORMULAS_H

#include <math.h>
#include <stdint.h>

#include "loss.h"

enum { NO, YES };
enum { OF_ALL = 1, OF_STUDENT = 2, OF_TEACHER = 4 };
enum { WITH_NOTHING, WITH_STUDENT, WITH_TEACHER, WITH_BOTH };
enum { LOSS_SUMS = 3, LOSS_OWN = 2 };

/* Logits of student and teacher; s, t: their exponentials if the loss's sums are weighted with one
 * of them; in the gradient and for WITH_BOTH their probabilities. */
struct loss_entry {
    float zs, zt, s, t;
};
struct loss_terms {
    float a, b, c;
};

/* Sum of the exponentials of a softmax, relative to some base, and the logarithm of the true sum.
 */
struct loss_softmax {
    double sum, log_sum;
};

/* A position: softmaxes at temperature 1 over all entries of the student, and at the temperature
 * over the entries that both have; the student's logit of the label. */
struct loss_row {
    struct loss_softmax all, student, teacher;
    double inv_temperature, label;
    int64_t entries; /* that both have */
    struct loss_kind kind;
};

/* A gradient that is linear in the softmaxes: factors of their exponentials; and what is added at
 * the label. */
struct loss_mix {
    float all, student, teacher, label;
};

/* An entry that the teacher lists, or all others as one: probabilities of student and teacher, t >
 * 0, and their logarithms. */
struct loss_bin {
    double s, log_s, t, log_t;
};
/* What it adds to the loss, and the derivative of that with respect to s, times s. With M the sum
 * of these slopes, the gradient with respect to the logit of a listed entry is (slope - s M) /
 * temperature. */
struct loss_bin_terms {
    double value, slope;
};

#ifdef FORMULA

FORMULA struct loss_bin_terms bin_terms_of(double value, double slope)
{
    struct loss_bin_terms terms = {value, slope};
    return terms;
}

FORMULA struct loss_terms terms_of(float a, float b, float c)
{
    struct loss_terms terms = {a, b, c};
    return terms;
}

/* ---- ce: gradient softmax(z_s)[v] - [v = label] */

FORMULA struct loss_terms ce_terms(struct loss_entry v, struct loss_kind kind)
{
    (void)v, (void)kind;
    return terms_of(0, 0, 0);
}

FORMULA double ce_finish(const struct loss_row *r, const double *sums, double w,
                         struct loss_mix *mix, float *own)
{
    (void)sums, (void)own;
    mix->all += (float)(w / r->all.sum);
    mix->label -= (float)w;
    return r->all.log_sum - r->label;
}

FORMULA float ce_gradient(struct loss_entry v, struct loss_kind kind, const float *own)
{
    (void)v, (void)kind, (void)own;
    return 0;
}

FORMULA struct loss_bin_terms ce_bin(struct loss_bin v, struct loss_kind kind)
{
    (void)v, (void)kind;
    return bin_terms_of(0, 0); /* it is not the teacher's */
}

/* ---- kl: gradient (p_s - p_t) / temperature */

FORMULA struct loss_terms kl_terms(struct loss_entry v, struct loss_kind kind)
{
    (void)kind;
    return terms_of(v.t * (v.zt - v.zs), 0, 0);
}

FORMULA double kl_finish(const struct loss_row *r, const double *sums, double w,
                         struct loss_mix *mix, float *own)
{
    (void)own;
    mix->student += (float)(w * r->inv_temperature / r->student.sum);
    mix->teacher -= (float)(w * r->inv_temperature / r->teacher.sum);
    return sums[0] / r->teacher.sum * r->inv_temperature - r->teacher.log_sum + r->student.log_sum;
}

FORMULA float kl_gradient(struct loss_entry v, struct loss_kind kind, const float *own)
{
    (void)v, (void)kind, (void)own;
    return 0;
}

FORMULA struct loss_bin_terms kl_bin(struct loss_bin v, struct loss_kind kind)
{
    (void)kind;
    return bin_terms_of(v.t * (v.log_t - v.log_s), -v.t);
}

/* ---- rkl: gradient p_s (log p_s - log p_t - rkl) / temperature */

FORMULA struct loss_terms rkl_terms(struct loss_entry v, struct loss_kind kind)
{
    (void)kind;
    return terms_of(v.s * (v.zs - v.zt), 0, 0);
}

FORMULA double rkl_finish(const struct loss_row *r, const double *sums, double w,
                          struct loss_mix *mix, float *own)
{
    double mean = sums[0] / r->student.sum * r->inv_temperature; /* of (z_s - z_t) / temperature */
    (void)mix;
    own[0] = (float)(w * r->inv_temperature * r->inv_temperature);
    own[1] = (float)(-w * r->inv_temperature * mean);
    return mean - r->student.log_sum + r->teacher.log_sum;
}

FORMULA float rkl_gradient(struct loss_entry v, struct loss_kind kind, const float *own)
{
    (void)kind;
    return v.s * (own[0] * (v.zs - v.zt) + own[1]);
}

FORMULA struct loss_bin_terms rkl_bin(struct loss_bin v, struct loss_kind kind)
{
    double of_s = v.s == 0 ? 0 : v.s * (v.log_s - v.log_t);
    (void)kind;
    return bin_terms_of(of_s, of_s + v.s);
}

/* ---- jsd: gradient (1 - b) p_s (log(p_s / m) - sum p_s log(p_s / m)) / temperature */

/* log(p / m), anything finite where p is 0: it is multiplied by p. */
FORMULA float log_ratio(float p, float m)
{
    const float tiny = 1e-35f;
    return formula_log((p + tiny) / (m + tiny));
}

FORMULA float jsd_middle(struct loss_entry v, struct loss_kind kind)
{
    return kind.jsd_beta * v.t + (1 - kind.jsd_beta) * v.s;
}

FORMULA struct loss_terms jsd_terms(struct loss_entry v, struct loss_kind kind)
{
    float m = jsd_middle(v, kind);
    return terms_of(v.t * log_ratio(v.t, m), v.s * log_ratio(v.s, m), 0);
}

FORMULA double jsd_finish(const struct loss_row *r, const double *sums, double w,
                          struct loss_mix *mix, float *own)
{
    double b = (double)r->kind.jsd_beta;
    (void)mix;
    own[0] = (float)(w * (1 - b) * r->inv_temperature);
    own[1] = (float)sums[1];
    return b * sums[0] + (1 - b) * sums[1];
}

FORMULA float jsd_gradient(struct loss_entry v, struct loss_kind kind, const float *own)
{
    return own[0] * v.s * (log_ratio(v.s, jsd_middle(v, kind)) - own[1]);
}

FORMULA struct loss_bin_terms jsd_bin(struct loss_bin v, struct loss_kind kind)
{
    double b = (double)kind.jsd_beta, log_m = log(b * v.t + (1 - b) * v.s);
    double of_s = v.s == 0 ? 0 : (1 - b) * v.s * (v.log_s - log_m);
    return bin_terms_of(b * v.t * (v.log_t - log_m) + of_s, of_s);
}

/* ---- mse: gradient 2 (z_s - z_t) / entries */

FORMULA struct loss_terms mse_terms(struct loss_entry v, struct loss_kind kind)
{
    (void)kind;
    return terms_of((v.zs - v.zt) * (v.zs - v.zt), 0, 0);
}

FORMULA double mse_finish(const struct loss_row *r, const double *sums, double w,
                          struct loss_mix *mix, float *own)
{
    (void)mix;
    own[0] = (float)(2 * w / (double)r->entries);
    return sums[0] / (double)r->entries;
}

FORMULA float mse_gradient(struct loss_entry v, struct loss_kind kind, const float *own)
{
    (void)kind;
    return own[0] * (v.zs - v.zt);
}

FORMULA struct loss_bin_terms mse_bin(struct loss_bin v, struct loss_kind kind)
{
    (void)v, (void)kind;
    return bin_terms_of(0, 0); /* it cannot be had from them */
}

/* ---- cosine: gradient cos z_s / |z_s|^2 - z_t / (|z_s| |z_t|) */

FORMULA struct loss_terms cosine_terms(struct loss_entry v, struct loss_kind kind)
{
    (void)kind;
    return terms_of(v.zs * v.zt, v.zs * v.zs, v.zt * v.zt);
}

FORMULA double cosine_finish(const struct loss_row *r, const double *sums, double w,
                             struct loss_mix *mix, float *own)
{
    double norms = sqrt(sums[1] * sums[2]), cosine = norms > 0 ? sums[0] / norms : 0;
    (void)r, (void)mix;
    own[0] = norms > 0 ? (float)(w * cosine / sums[1]) : 0;
    own[1] = norms > 0 ? (float)(w / norms) : 0;
    /* a NaN is not lost */
    return norms > 0 ? 1 - cosine : 1 + 0 * sums[0];
}

FORMULA float cosine_gradient(struct loss_entry v, struct loss_kind kind, const float *own)
{
    (void)kind;
    return own[0] * v.zs - own[1] * v.zt;
}

FORMULA struct loss_bin_terms cosine_bin(struct loss_bin v, struct loss_kind kind)
{
    (void)v, (void)kind;
    return bin_terms_of(0, 0); /* it cannot be had from them */
}

#endif
#endif
