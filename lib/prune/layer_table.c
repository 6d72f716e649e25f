/* Layer scores side by side: see layer_table.h. */
#include "layer_table.h"

#include <math.h>
#include <string.h>

/* Twice the rank of a value, counted from its list's lowest; equal ones share the mean. */
static int64_t twice_rank(const double *x, int64_t n, int64_t i)
{
    int64_t lower = 0, equal = 0;
    for (int64_t j = 0; j < n; j++) {
        lower += x[j] < x[i];
        equal += x[j] == x[i];
    }
    return 2 * lower + equal + 1;
}

double agreement_spearman(const double *a, const double *b, int64_t n)
{
    double both = 0, squares_a = 0, squares_b = 0;
    for (int64_t i = 0; i < n; i++) {
        double x = (double)(twice_rank(a, n, i) - (n + 1)),
               y = (double)(twice_rank(b, n, i) - (n + 1));
        both += x * y;
        squares_a += x * x;
        squares_b += y * y;
    }
    return both / sqrt(squares_a * squares_b);
}

static int sign(double x) { return (x > 0) - (x < 0); }

double agreement_kendall(const double *a, const double *b, int64_t n)
{
    double both = 0, ordered_a = 0, ordered_b = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < i; j++) {
            int x = sign(a[i] - a[j]), y = sign(b[i] - b[j]);
            both += x * y;
            ordered_a += x * x;
            ordered_b += y * y;
        }
    return both / sqrt(ordered_a * ordered_b);
}

/* When rank removes a layer: of equal scores, the last one goes first. */
static int64_t place(const double *x, int64_t n, int64_t i)
{
    int64_t before = 0;
    for (int64_t j = 0; j < n; j++)
        before += x[j] < x[i] || (x[j] == x[i] && j > i);
    return before + 1;
}

enum { WIDTH = 14 };

static void print_names(FILE *f, const char *first, const struct layer_column *columns, int n,
                        int what)
{
    fprintf(f, "%-5s", first);
    for (int k = 0; k < n; k++) {
        const char *s = what ? columns[k].what : columns[k].name;
        size_t length = strlen(s);
        fprintf(f, " %*s", WIDTH, length > WIDTH ? s + length - WIDTH : s);
    }
    putc('\n', f);
}

static void print_agreement(FILE *f, const struct layer_column *a, const struct layer_column *b,
                            int64_t layers)
{
    double rho = agreement_spearman(a->scores, b->scores, layers),
           tau = agreement_kendall(a->scores, b->scores, layers);
    if (isnan(rho))
        fprintf(f, "%s and %s: no agreement, one of them scores all layers alike\n", a->name,
                b->name);
    else
        fprintf(f, "%s and %s: Spearman's rho %.2f, Kendall's tau %.2f\n", a->name, b->name, rho,
                tau);
}

void layer_table_print(FILE *f, const struct layer_column *columns, int n, int64_t layers)
{
    print_names(f, "", columns, n, 0);
    print_names(f, "layer", columns, n, 1);
    for (int64_t l = 0; l < layers; l++) {
        fprintf(f, "%5lld", (long long)l);
        for (int k = 0; k < n; k++) {
            char at[24];
            snprintf(at, sizeof at, "(%lld)", (long long)place(columns[k].scores, layers, l));
            fprintf(f, " %*.4g %5s", WIDTH - 6, columns[k].scores[l], at);
        }
        putc('\n', f);
    }
    for (int k = 0; k < n; k++)
        for (int j = 0; j < k; j++)
            print_agreement(f, &columns[j], &columns[k], layers);
}
