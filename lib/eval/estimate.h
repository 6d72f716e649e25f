/* Statistics of values: a mean with its error, and quantiles. */
#ifndef PARE_ESTIMATE_H
#define PARE_ESTIMATE_H

#include <stdint.h>

/* A mean of n values with its standard error, as if they were independent: sqrt((mean of squares -
 * square of the mean) / (n - 1)); NAN for one value. */
struct estimate {
    double mean, error;
};
struct estimate estimate_of(const double *values, int64_t n);
void sort_ascending(double *values, int64_t n);
/* Of n > 0 ascending values, linear between the two nearest: the value at place fraction * (n - 1)
 */
double quantile(const double *sorted, int64_t n, double fraction);

#endif
