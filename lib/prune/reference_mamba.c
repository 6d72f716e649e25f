/* The ops of Mamba-2 layers in the naive forward pass: see reference_private.h. */
#include "reference_private.h"

#include <math.h>

static double silu(double x) { return x / (1 + exp(-x)); }

double *naive_conv(const struct naive *w, const struct param *p, const double *bias,
                   const struct slot *in)
{
    int64_t C = in->cols, W = p->cols;
    double *y = naive_value(w, C), *row = mem_alloc((size_t)W * sizeof *row);
    for (int64_t c = 0; c < C; c++) {
        naive_row(p, c, row);
        for (int64_t t = 0; t < w->T; t++) {
            double sum = bias ? bias[c] : 0;
            for (int64_t k = 0; k < W && k <= t; k++)
                sum += row[W - 1 - k] * in->v[(t - k) * C + c];
            y[t * C + c] = silu(sum);
        }
    }
    free(row);
    return y;
}

static double clamp(double x, double low, double high)
{
    x = x < low ? low : x;
    return x > high ? high : x;
}

/* One head: x and y [T, cols] from its first channel on, R of them; b and c [T, groups * Z] from
 * its group's first on; dt [T, heads]. */
static void scan_head(const struct naive *w, int64_t head, const double *x, const double *b,
                      const double *c, const double *dt, const double *const of[3], double *y)
{
    const struct model_spec *h = &w->m->spec;
    const struct layer *l = &h->layers[w->layer];
    int64_t R = l->mamba_head_dim, Z = l->mamba_state_size, M = l->mamba_num_heads,
            GZ = l->mamba_num_groups * Z;
    double *state = mem_alloc((size_t)(R * Z) * sizeof *state);
    for (int64_t t = 0; t < w->T; t++) {
        double step = clamp(log1p(exp(dt[t * M + head] + of[1][head])), h->dt_min, h->dt_max),
               decay = exp(-step * exp(of[0][head]));
        for (int64_t r = 0; r < R; r++) {
            double in = x[t * M * R + r], sum = of[2][head] * in;
            for (int64_t z = 0; z < Z; z++) {
                double *s = &state[r * Z + z];
                *s = decay * *s + step * in * b[t * GZ + z];
                sum += *s * c[t * GZ + z];
            }
            y[t * M * R + r] = sum;
        }
    }
    free(state);
}

double *naive_scan(const struct naive *w, const struct slot *const in[OP_INPUTS],
                   const double *const of[3])
{
    const struct layer *l = &w->m->spec.layers[w->layer];
    int64_t R = l->mamba_head_dim, Z = l->mamba_state_size, M = l->mamba_num_heads,
            each = M / l->mamba_num_groups;
    double *y = naive_value(w, in[0]->cols);
    for (int64_t m = 0; m < M; m++)
        scan_head(w, m, in[0]->v + m * R, in[1]->v + m / each * Z, in[2]->v + m / each * Z,
                  in[3]->v, of, y + m * R);
    return y;
}
