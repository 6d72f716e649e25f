/* Scores of the layers from several sources side by side, and how far they agree. */
#ifndef PARE_LAYER_TABLE_H
#define PARE_LAYER_TABLE_H

#include <stdint.h>
#include <stdio.h>

/* Correlation of the orders of n values, from -1 to 1; NAN if all of one list are equal. Spearman's
 * rho: the correlation of ranks, equal values sharing the mean of theirs. Kendall's tau-b: pairs in
 * the same order less pairs in opposite order, over the geometric mean of the pairs that each list
 * orders (Kendall 1945, The treatment of ties in ranking problems). */
double agreement_spearman(const double *a, const double *b, int64_t n);
double agreement_kendall(const double *a, const double *b, int64_t n);

struct layer_column {
    const char *name, *what; /* of the file; what it measures */
    const double *scores;    /* [layers] */
};
/* A line for each layer with its scores and, in brackets, when rank would have it removed: 1 is
 * first. Then the agreement of every two columns. */
void layer_table_print(FILE *f, const struct layer_column *columns, int n, int64_t layers);

#endif
