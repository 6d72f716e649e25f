/* What both devices' divergence kernels make of a row's sums. FORMULA is defined by what includes
 * this. */
#ifndef PARE_DIVERGENCE_FORMULAS_H
#define PARE_DIVERGENCE_FORMULAS_H

#include "op.h"

/* difference: the mean of z_t - z_s under the teacher; then the logarithms of the sums of e^z. */
FORMULA double divergence_kl(double difference, double log_student, double log_teacher)
{
    double kl = difference + log_student - log_teacher;
    return kl < 0 ? 0 : kl; /* by rounding only */
}

/* The share of the teacher's first k ids that are among the student's, best first. */
FORMULA double divergence_same(const int32_t *student, const int32_t *teacher, int k)
{
    int same = 0;
    for (int i = 0; i < k; i++)
        for (int j = 0; j < k; j++)
            same += teacher[i] == student[j];
    return (double)same / (double)k;
}

#endif
