/* How far apart vectors are. */
#ifndef PARE_TEST_DISTANCE_H
#define PARE_TEST_DISTANCE_H

#include <math.h>
#include <stdint.h>

/* |a - b| / |b|, in the Euclidean norm; 1 where a or b has values that are not finite */
static inline double distance(const float *a, const float *b, int64_t n)
{
    double difference = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        difference += pow((double)a[i] - (double)b[i], 2);
        norm += pow((double)b[i], 2);
    }
    return isfinite(difference) ? sqrt(difference / norm) : 1;
}

#endif
