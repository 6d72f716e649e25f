/* See divergence.h. */
#include "divergence.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../base/mem.h"

/* ---- rows of logits */

static size_t labels_bytes(int64_t rows) { return arena_round((size_t)rows * sizeof(int32_t)); }
static size_t out_bytes(int64_t rows)
{
    return (size_t)(rows * DIVERGENCE_COLUMNS) * sizeof(double);
}

int64_t comparison_bytes(int64_t rows)
{
    return (int64_t)(labels_bytes(rows) + arena_round(out_bytes(rows)));
}

int comparison_open(struct comparison *c, struct exec *x, int64_t rows, struct err *e)
{
    *c = (struct comparison){.x = x};
    if (exec_arena(x, &c->arena, (size_t)comparison_bytes(rows), e))
        return -1;
    c->labels = arena_take(&c->arena, labels_bytes(rows));
    c->out = arena_take(&c->arena, out_bytes(rows));
    return 0;
}

const double *comparison_run(struct comparison *c, const struct operand *student,
                             const struct operand *teacher, const int32_t *labels, int64_t rows)
{
    struct batch b = {.n_seq = 1, .seq_len = rows, .labels = c->labels};
    struct op_args a = {.x = c->x, .batch = &b, .in = {*student, *teacher}, .rows = rows};
    a.out = (struct operand){
        .v = c->out, .dtype = DT_F64, .rows = rows, .cols = DIVERGENCE_COLUMNS};
    exec_put(c->x, c->labels, labels, (size_t)rows * sizeof *labels);
    op_forward(OP_divergence, &a);
    return exec_view(c->x, &c->host, c->out, out_bytes(rows));
}

void comparison_close(struct comparison *c)
{
    arena_close(&c->arena);
    free(c->host);
    *c = (struct comparison){0};
}

/* ---- predictions */

static void make_room(struct divergences *d, int64_t n)
{
    if (d->n + n > d->room)
        d->of = mem_grow(d->of, (size_t)(d->room = 2 * d->n + n) * sizeof *d->of);
}

void divergences_add(struct divergences *d, const double *values, const int32_t *labels,
                     int64_t rows)
{
    make_room(d, rows);
    for (int64_t t = 0; t < rows; t++)
        if (labels[t] >= 0)
            memcpy(d->of[d->n++], values + t * DIVERGENCE_COLUMNS, sizeof *d->of);
}

void divergences_add_zeros(struct divergences *d, int64_t n)
{
    make_room(d, n);
    memset(d->of + d->n, 0, (size_t)n * sizeof *d->of);
    d->n += n;
}

void divergences_mean(const struct divergences *d, int64_t from, int64_t to,
                      double mean[DIVERGENCE_COLUMNS])
{
    memset(mean, 0, sizeof *d->of);
    for (int64_t i = from; i < to; i++)
        for (int k = 0; k < DIVERGENCE_COLUMNS; k++)
            mean[k] += d->of[i][k] / (double)(to - from);
}

void divergences_free(struct divergences *d)
{
    free(d->of);
    *d = (struct divergences){0};
}

/* ---- figures */

static struct estimate column_estimate(const struct divergences *d, int column, double *values)
{
    for (int64_t i = 0; i < d->n; i++)
        values[i] = d->of[i][column];
    return estimate_of(values, d->n);
}

/* By how much the losses differ, and how far they vary together. */
static void compare_losses(struct divergence_figures *f, const struct divergences *d,
                           double *values)
{
    double products = 0;
    for (int64_t i = 0; i < d->n; i++) {
        double a = d->of[i][DIVERGENCE_NLL], b = d->of[i][DIVERGENCE_TEACHER_NLL];
        products += (a - f->nll.mean) * (b - f->teacher_nll.mean);
        values[i] = a - b;
    }
    f->log_ratio = estimate_of(values, d->n);
    f->correlation = products / (double)d->n / (double)(d->n - 1) /
                     (f->nll.error * f->teacher_nll.error);
}

/* sqrt of the mean square, whose error follows from that of the mean square. */
static struct estimate root_mean_square(const double *x, int64_t n, double *values)
{
    for (int64_t i = 0; i < n; i++)
        values[i] = x[i] * x[i];
    struct estimate square = estimate_of(values, n);
    double root = sqrt(square.mean);
    return (struct estimate){root, root > 0 ? square.error / (2 * root) : 0};
}

void divergence_figures(struct divergence_figures *f, const struct divergences *d)
{
    size_t bytes = (size_t)d->n * sizeof(double);
    double *kl = mem_alloc(bytes), *delta = mem_alloc(bytes), *values = mem_alloc(bytes);
    *f = (struct divergence_figures){.sorted_kl = kl, .sorted_delta_p = delta, .n = d->n};
    f->nll = column_estimate(d, DIVERGENCE_NLL, values);
    f->teacher_nll = column_estimate(d, DIVERGENCE_TEACHER_NLL, values);
    for (int i = 0; i < AGREEMENTS; i++)
        f->same[i] = column_estimate(d, DIVERGENCE_SAME + i, values);
    compare_losses(f, d, values);
    for (int64_t i = 0; i < d->n; i++)
        delta[i] = exp(-d->of[i][DIVERGENCE_NLL]) - exp(-d->of[i][DIVERGENCE_TEACHER_NLL]);
    f->delta_p = estimate_of(delta, d->n);
    f->delta_p_rms = root_mean_square(delta, d->n, values);
    f->kl = column_estimate(d, DIVERGENCE_KL, kl);
    sort_ascending(kl, d->n);
    sort_ascending(delta, d->n);
    free(values);
}

void divergence_figures_free(struct divergence_figures *f)
{
    free(f->sorted_kl);
    free(f->sorted_delta_p);
    *f = (struct divergence_figures){0};
}
