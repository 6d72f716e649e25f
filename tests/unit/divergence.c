/* Divergence of a student from a teacher, and figures of many predictions: numbers worked out by
 * hand. */
#include <math.h>
#include <string.h>

#include "../../lib/eval/eval.h"
#include "check.h"

static int near(double a, double b) { return fabs(a - b) <= 1e-6; }

/* Probabilities 1/2 1/4 1/4 of the teacher, 1/4 1/4 1/2 of the student: KL = 1/2 ln 2 - 1/4 ln 2.
 */
static const float teacher[3] = {0.69314718f, 0, 0}, student[3] = {0, 0, 0.69314718f};

static struct operand logits(const float *z, int64_t rows, int64_t cols)
{
    return (struct operand){.v = (void *)(uintptr_t)z, .rows = rows, .cols = cols};
}

static void check_rows(struct comparison *c)
{
    float z[2][6], zt[2][6];
    const int32_t labels[] = {0, LABEL_UNCOUNTED};
    for (int i = 0; i < 6; i++) {
        z[i / 3][i % 3] = student[i % 3];
        zt[i / 3][i % 3] = teacher[i % 3] + 5; /* the same distribution */
    }
    struct operand s = logits(z[0], 1, 3), t = logits(zt[0], 1, 3);
    const double *got = comparison_run(c, &s, &t, labels, 1);
    CHECK(near(got[DIVERGENCE_KL], 0.25 * M_LN2), "KL is %g", got[DIVERGENCE_KL]);
    CHECK(near(got[DIVERGENCE_NLL], 2 * M_LN2), "loss is %g", got[DIVERGENCE_NLL]);
    CHECK(near(got[DIVERGENCE_TEACHER_NLL], M_LN2), "teacher's is %g", got[DIVERGENCE_TEACHER_NLL]);
    CHECK(got[DIVERGENCE_SAME] == 0 && got[DIVERGENCE_SAME + 1] == 1, "of three, all are the same");
    memset(z, 0, sizeof z);
    s = logits(z[0], 2, 6);
    t = logits(zt[0], 2, 6);
    got = comparison_run(c, &s, &t, labels, 2) + DIVERGENCE_COLUMNS;
    for (int i = 0; i < DIVERGENCE_COLUMNS; i++)
        CHECK(got[i] == 0, "what does not count is 0");
}

/* The teacher's order of twelve tokens is 0, 1, ..., the student's 11, 10, ... */
static void check_agreement(struct comparison *c)
{
    float z[12], zt[12];
    const int32_t label = 3;
    for (int i = 0; i < 12; i++) {
        z[i] = (float)i;
        zt[i] = -(float)i;
    }
    struct operand s = logits(z, 1, 12), t = logits(zt, 1, 12);
    const double *same = comparison_run(c, &s, &t, &label, 1) + DIVERGENCE_SAME;
    CHECK(same[0] == 0 && same[1] == 0 && same[2] == 0.8, "%g, %g, %g of 1, 5, 10", same[0],
          same[1], same[2]);
    z[2] = 8.5f; /* now 11, 10, 9, 2, 8 */
    same = comparison_run(c, &s, &t, &label, 1) + DIVERGENCE_SAME;
    CHECK(same[1] == 0.2 && same[2] == 0.8, "%g of 5, %g of 10", same[1], same[2]);
}

static void check_quantiles(void)
{
    const double x[] = {0, 1, 2, 4}, want[][2] = {{0, 0}, {0.5, 1.5}, {0.99, 3.94}, {1, 4}};
    for (int i = 0; i < 4; i++)
        CHECK(near(quantile(x, 4, want[i][0]), want[i][1]), "quantile %g is %g", want[i][0],
              quantile(x, 4, want[i][0]));
    CHECK(quantile(x + 3, 1, 0.5) == 4, "of one value");
    struct estimate e = estimate_of(x, 4);
    /* mean of squares 21/4, mean 7/4: variance 35/16, error sqrt(35/48) */
    CHECK(near(e.mean, 1.75) && near(e.error, sqrt(35. / 48)), "mean %g, error %g", e.mean,
          e.error);
    CHECK(isnan(estimate_of(x, 1).error), "one value has no error");
}

static void check_figures(void)
{
    const double values[3][DIVERGENCE_COLUMNS] = {{0.2, M_LN2, 2 * M_LN2, 1, 1, 0.8},
                                                  {9, 9, 9, 9, 9, 9},
                                                  {0.4, 3 * M_LN2, 3 * M_LN2, 0, 0.6, 1}};
    const int32_t labels[3] = {5, LABEL_PADDING, 0};
    struct divergences d = {0};
    struct divergence_figures f;
    double mean[DIVERGENCE_COLUMNS];
    divergences_add(&d, values[0], labels, 3);
    divergences_mean(&d, 0, 2, mean);
    CHECK(d.n == 2 && near(mean[DIVERGENCE_KL], 0.3) && near(mean[DIVERGENCE_SAME + 1], 0.8),
          "means are of what counts");
    divergences_mean(&d, 1, 2, mean);
    CHECK(near(mean[DIVERGENCE_KL], 0.4), "of the second one");
    divergence_figures(&f, &d);
    CHECK(near(f.kl.mean, 0.3) && near(f.kl.error, 0.1), "KL %g +- %g", f.kl.mean, f.kl.error);
    CHECK(near(f.sorted_kl[0], 0.2) && near(f.sorted_kl[1], 0.4), "sorted");
    CHECK(near(f.same[0].mean, 0.5) && near(f.same[0].error, 0.5), "same %g", f.same[0].mean);
    /* differences of the loss are -ln 2 and 0; the losses rise together */
    CHECK(near(f.log_ratio.mean, -M_LN2 / 2) && near(f.log_ratio.error, M_LN2 / 2), "ratio %g %g",
          f.log_ratio.mean, f.log_ratio.error);
    CHECK(near(f.correlation, 1), "correlation %g", f.correlation);
    /* probabilities 1/2 after 1/4, and 1/8 after 1/8 */
    CHECK(near(f.delta_p.mean, 0.125) && near(f.delta_p.error, 0.125), "change %g", f.delta_p.mean);
    /* squares 1/16 and 0: mean 1/32, error 1/32 */
    CHECK(near(f.delta_p_rms.mean, sqrt(1. / 32)) &&
              near(f.delta_p_rms.error, 1. / 64 / sqrt(1. / 32)),
          "rms %g %g", f.delta_p_rms.mean, f.delta_p_rms.error);
    divergence_figures_free(&f);
    divergences_free(&d);
}

int main(void)
{
    struct exec x;
    struct comparison c;
    struct err e = {0};
    CHECK(!exec_open(&x, DEVICE_CPU, 2) && !comparison_open(&c, &x, 2, &e), "open");
    check_rows(&c);
    check_agreement(&c);
    comparison_close(&c);
    exec_close(&x);
    check_quantiles();
    check_figures();
    return check_report();
}
