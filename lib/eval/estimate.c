/* See estimate.h. */
#include "estimate.h"

#include <math.h>
#include <stdlib.h>

struct estimate estimate_of(const double *values, int64_t n)
{
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++)
        sum += values[i];
    double mean = sum / (double)n;
    for (int64_t i = 0; i < n; i++)
        squares += (values[i] - mean) * (values[i] - mean);
    double error = n > 1 ? sqrt(squares / (double)n / (double)(n - 1)) : NAN;
    return (struct estimate){mean, error};
}

double quantile(const double *sorted, int64_t n, double fraction)
{
    double place = fraction * (double)(n - 1), below = floor(place);
    int64_t i = (int64_t)below;
    if (i + 1 >= n)
        return sorted[n - 1];
    return sorted[i] + (place - below) * (sorted[i + 1] - sorted[i]);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void sort_ascending(double *values, int64_t n)
{
    qsort(values, (size_t)n, sizeof *values, by_value);
}
