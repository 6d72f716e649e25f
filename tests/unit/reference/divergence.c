/* How far two models' logits are apart, in double precision, one position after the other. */
#include "reference.h"

#include <math.h>
#include <string.h>

/* log of the sum of e^z */
static double log_sum(const float *z, int64_t n)
{
    double max = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++)
        max = fmax(max, (double)z[i]);
    for (int64_t i = 0; i < n; i++)
        sum += exp((double)z[i] - max);
    return max + log(sum);
}

/* Is entry v among the k largest of n? */
static int among(const float *z, int64_t n, int64_t v, int64_t k)
{
    int64_t before = 0;
    for (int64_t u = 0; u < n; u++)
        before += z[u] > z[v] || (z[u] == z[v] && u < v);
    return before < k;
}

static void reference_row(const float *zs, int64_t V, const float *zt, int64_t Vt, int64_t label,
                          double want[DIVERGENCE_COLUMNS])
{
    int64_t n = V < Vt ? V : Vt;
    double log_s = log_sum(zs, n), log_t = log_sum(zt, n), kl = 0;
    for (int64_t v = 0; v < n; v++) {
        double p = exp((double)zt[v] - log_t);
        kl += p > 0 ? p * ((double)zt[v] - log_t - ((double)zs[v] - log_s)) : 0;
    }
    want[DIVERGENCE_KL] = kl;
    want[DIVERGENCE_NLL] = log_sum(zs, V) - (double)zs[label];
    want[DIVERGENCE_TEACHER_NLL] = label < Vt ? log_sum(zt, Vt) - (double)zt[label] : INFINITY;
    for (int i = 0; i < AGREEMENTS; i++) {
        int64_t k = agreement_ranks[i] < n ? agreement_ranks[i] : n, same = 0;
        for (int64_t v = 0; v < n; v++)
            same += among(zs, n, v, k) && among(zt, n, v, k);
        want[DIVERGENCE_SAME + i] = (double)same / (double)k;
    }
}

/* Logits of one model, in the type of activations, or of the teacher in f32 as they come from a
 * file; the values are rounded to it. step: the last entries are far larger than the others. */
static float *draw(struct trial *t, struct operand *o, int64_t cols, int is_given, int step)
{
    int64_t n = t->call.rows * cols;
    float *z = test_buffer(t, (size_t)n * sizeof *z);
    *o = test_operand(t->call.rows, cols);
    test_fill(t, z, n, t->number % 5 ? 3 : 30);
    for (int64_t i = 0; i < n; i++) {
        if (t->number % 4 < 2) /* many equal ones */
            z[i] = roundf(z[i]);
        if (step && i % cols > cols / 4 * 3)
            z[i] += 60;
    }
    o->dtype = is_given ? DT_F32 : t->call.x->compute;
    o->v = o->dtype == DT_BF16 ? test_narrow(t, z, n) : z;
    return z;
}

static const char *compare(const double *got, const double *want)
{
    for (int i = 0; i < DIVERGENCE_COLUMNS; i++) {
        int exact = i >= DIVERGENCE_SAME || isinf(want[i]);
        if (exact ? got[i] != want[i] : !(fabs(got[i] - want[i]) <= 1e-6 * (1 + fabs(want[i]))))
            return (const char *[]){
                "the divergence differs",        "the student's loss differs",
                "the teacher's loss differs",    "the most probable token differs",
                "the five most probable differ", "the ten most probable differ"}[i];
    }
    return NULL;
}

/* A model does not differ from itself, and what is no number does not get lost. */
static const char *same_and_nan(struct trial *t)
{
    struct op_args *c = &t->call;
    const double *out = c->out.v;
    struct operand teacher = c->in[1];
    c->in[1] = c->in[0];
    test_call(t, c, 0);
    for (int64_t i = 0; i < c->rows; i++, out += DIVERGENCE_COLUMNS)
        if (c->batch->labels[i] >= 0 && (out[DIVERGENCE_KL] != 0 || out[DIVERGENCE_SAME + 2] != 1))
            return "a model differs from itself";
    c->in[1] = teacher;
    from_f32(c->in[0].v, c->in[0].dtype, &(float){NAN}, 1);
    test_call(t, c, 0);
    out = c->out.v;
    return c->batch->labels[0] < 0 || (isnan(out[DIVERGENCE_KL]) && isnan(out[DIVERGENCE_NLL]))
               ? NULL
               : "a NaN leaves no trace";
}

static const char *divergence_whole(struct trial *t)
{
    int64_t V = t->large ? 3001 : test_size(t, 1, 600), Vt = V;
    if (t->number % 3 == 1)
        Vt += test_size(t, 1, 20);
    if (t->number % 3 == 2)
        V += test_size(t, 1, 20);
    test_rows(t, 1, test_size(t, 1, 9), 0);
    struct op_args *c = &t->call;
    float *zs = draw(t, &c->in[0], V, 0, t->number == 7),
          *zt = draw(t, &c->in[1], Vt, t->number % 2, t->number == 9);
    int32_t *labels = test_buffer(t, (size_t)c->rows * sizeof *labels);
    for (int64_t i = 0; i < c->rows; i++)
        labels[i] = rng_below(&t->rng, 4) ? (int32_t)rng_below(&t->rng, (uint64_t)V)
                                          : LABEL_UNCOUNTED;
    t->batch.labels = labels;
    c->out = test_operand(c->rows, DIVERGENCE_COLUMNS);
    c->out.dtype = DT_F64;
    c->out.v = test_buffer(t, (size_t)(c->rows * DIVERGENCE_COLUMNS) * sizeof(double));
    test_call(t, c, 0);
    for (int64_t i = 0; i < c->rows; i++) {
        double want[DIVERGENCE_COLUMNS] = {0};
        if (labels[i] >= 0)
            reference_row(zs + i * V, V, zt + i * Vt, Vt, labels[i], want);
        const char *wrong = compare((double *)c->out.v + i * DIVERGENCE_COLUMNS, want);
        if (wrong)
            return wrong;
    }
    return same_and_nan(t);
}

const struct op_test divergence_test = {.whole = divergence_whole};
