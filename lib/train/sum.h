/* Terms of the weighted sums that --loss and --states take: "0.5ce", "0.5*ce", or "ce" for 1. */
#ifndef PARE_TRAIN_SUM_H
#define PARE_TRAIN_SUM_H

#include <stdlib.h>

/* Where the name begins behind a weight; NULL: the weight is not from 1e-6 to 1e6. */
static inline const char *sum_term(const char *text, double *weight)
{
    char *name;
    *weight = strtod(text, &name);
    if (name == text)
        *weight = 1;
    else if (*name == '*')
        name++;
    return *weight >= 1e-6 && *weight <= 1e6 ? name : NULL;
}

#endif
