/* Fitting a mixture of experts, on arrays in memory: see experts_fit in repair_private.h. */
#include <string.h>

#include "../base/minmax.h"
#include "repair_private.h"

/* ---- memory */

int64_t experts_bytes(const struct experts *x)
{
    int64_t T = x->tokens, changes = x->count * x->hidden * x->neurons,
            floats[] = {T * x->count, T * x->top * x->neurons, T * x->hidden, x->batch * x->neurons,
                        x->batch * x->hidden};
    size_t bytes = arena_round((size_t)changes * sizeof *x->change) +
                   arena_round((size_t)x->batch * sizeof *x->taken);
    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++)
        bytes += arena_round((size_t)floats[i] * sizeof(float));
    return x->count ? (int64_t)bytes : 0;
}

static void *take(struct experts *x, int64_t n, size_t width)
{
    return arena_take(&x->memory, (size_t)n * width);
}

int experts_open(struct experts *x, struct err *e)
{
    if (!x->count)
        return 0;
    if (arena_open(&x->memory, (size_t)experts_bytes(x), e))
        return -1;
    x->weights = take(x, x->tokens * x->count, sizeof *x->weights);
    x->inputs = take(x, x->tokens * x->top * x->neurons, sizeof *x->inputs);
    x->missing = take(x, x->tokens * x->hidden, sizeof *x->missing);
    x->z = take(x, x->batch * x->neurons, sizeof *x->z);
    x->r = take(x, x->batch * x->hidden, sizeof *x->r);
    x->change = take(x, x->count * x->hidden * x->neurons, sizeof *x->change);
    x->taken = take(x, x->batch, sizeof *x->taken);
    return 0;
}

void experts_close(struct experts *x) { arena_close(&x->memory); }

/* ---- tokens of an expert */

/* How many of a token's experts come before this one. Where fewer than `top` have a weight (others
 * were rounded to 0), the first without one make up the number, as in op route. Weights that are
 * NaN, which the solution refuses, name no more than that either. */
static int64_t place_of(const struct experts *x, const float *weights, int64_t expert)
{
    int64_t spare = x->top, place = 0;
    for (int64_t i = 0; i < x->count; i++)
        spare -= weights[i] != 0;
    for (int64_t i = 0; i < expert; i++)
        place += weights[i] != 0 || spare-- > 0;
    return min64(place, x->top - 1);
}

/* What the expert does with a token: its neurons times its weight go to row n of z, and what is
 * missing there to row n of r. 0: it does not work for the token. */
static int take_token(const struct experts *x, int64_t expert, int64_t token, int64_t n)
{
    const float *weights = x->weights + token * x->count;
    float *z = x->z + n * x->neurons;
    if (weights[expert] == 0)
        return 0;
    const float *from = x->inputs + (token * x->top + place_of(x, weights, expert)) * x->neurons;
    for (int64_t i = 0; i < x->neurons; i++)
        z[i] = weights[expert] * from[i];
    memcpy(x->r + n * x->hidden, x->missing + token * x->hidden, (size_t)x->hidden * sizeof *x->r);
    return 1;
}

/* Its next tokens from *token on, a batch at most; 0: no more. */
static int64_t take_batch(const struct experts *x, int64_t expert, int64_t *token)
{
    int64_t n = 0;
    for (; *token < x->tokens && n < x->batch; ++*token)
        if (take_token(x, expert, *token, n))
            x->taken[n++] = *token;
    return n;
}

static float output_of(const double *change, const float *z, int64_t n)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++)
        sum += change[i] * z[i];
    return (float)sum;
}

/* missing += sign * what the expert's change writes */
static void add_output(const struct experts *x, int64_t expert, float sign)
{
    const double *change = x->change + expert * x->hidden * x->neurons;
    for (int64_t token = 0, n; (n = take_batch(x, expert, &token));) {
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < x->hidden; i++)
            for (int64_t t = 0; t < n; t++)
                x->missing[x->taken[t] * x->hidden + i] += sign * output_of(change + i * x->neurons,
                                                                            x->z + t * x->neurons,
                                                                            x->neurons);
    }
}

/* ---- fitting */

/* Its change becomes the best while those of the others stay. */
static int fit_expert(struct experts *x, int64_t expert, double ridge, struct err *e)
{
    int64_t n = x->hidden * x->neurons;
    struct least_squares sums;
    if (least_squares_open(&sums, x->neurons, x->hidden, 0, e))
        return -1;
    for (int64_t token = 0, k; (k = take_batch(x, expert, &token));)
        least_squares_add(&sums, x->z, x->r, k);
    double scale = least_squares_scale(&sums);
    if (sums.rows && !least_squares_solve(&sums, scale > 0 ? ridge * x->scale / scale : 0, e)) {
        memcpy(x->change + expert * n, sums.cross, (size_t)n * sizeof *x->change);
        add_output(x, expert, -1);
        x->fewest = min64(x->fewest, sums.rows);
    }
    least_squares_close(&sums);
    return e->set ? -1 : 0;
}

static double squares(const float *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    return sum;
}

/* least_squares_scale of the inputs of all experts together */
static double scale_of_all(const struct experts *x)
{
    double sum = 0;
    for (int64_t expert = 0; expert < x->count; expert++)
        for (int64_t token = 0, n; (n = take_batch(x, expert, &token));)
            sum += squares(x->z, n * x->neurons);
    return sum / (double)(x->count * x->neurons);
}

int experts_fit(struct experts *x, double ridge, struct err *e)
{
    struct err why = {0};
    memset(x->change, 0, (size_t)(x->count * x->hidden * x->neurons) * sizeof *x->change);
    x->fewest = x->tokens;
    x->squares = x->left = squares(x->missing, x->tokens * x->hidden);
    if (!x->squares)
        return 0;
    x->scale = scale_of_all(x);
    for (int i = 0; i < EXPERT_SWEEPS; i++)
        for (int64_t expert = 0; expert < x->count; expert++) {
            if (i)
                add_output(x, expert, 1);
            if (fit_expert(x, expert, ridge, &why))
                return err_set(e, "expert %lld: %s", (long long)expert, why.msg);
        }
    x->left = squares(x->missing, x->tokens * x->hidden);
    return 0;
}
