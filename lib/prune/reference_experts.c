/* The ops of mixtures of experts in the naive forward pass: see reference_private.h. */
#include <math.h>
#include <stdlib.h>

#include "../base/mem.h"
#include "dot.h"
#include "reference_private.h"

double *naive_route(const struct naive *w, const struct slot *in)
{
    const struct model_spec *h = &w->m->spec;
    const char *mask = w->mask[AXIS_X];
    int64_t X = in->cols;
    int renormalise = model_spec_flag(h, "norm_topk_prob");
    double *out = naive_value(w, X);
    for (int64_t t = 0; t < w->T; t++) {
        const double *z = in->v + t * X;
        double *p = out + t * X, most = -INFINITY, all = 0, chosen = 0;
        for (int64_t i = 0; i < X; i++)
            most = (!mask || mask[i]) && z[i] > most ? z[i] : most;
        for (int64_t i = 0; i < X; i++)
            all += !mask || mask[i] ? exp(z[i] - most) : 0;
        for (int64_t n = 0; n < h->experts_per_token; n++) {
            int64_t best = -1;
            for (int64_t i = 0; i < X; i++)
                if ((!mask || mask[i]) && p[i] == 0 && (best < 0 || z[i] > z[best]))
                    best = i;
            p[best] = exp(z[best] - most);
            chosen += p[best];
        }
        for (int64_t i = 0; i < X; i++)
            p[i] /= renormalise ? chosen : all;
    }
    return out;
}

double *naive_experts(const struct naive *w, const struct param *p, const struct slot *in,
                      const struct slot *weights, int back)
{
    int64_t X = weights->cols, N = p->rows / X, E = p->cols;
    double *y = naive_value(w, back ? E : p->rows), *row = mem_alloc((size_t)E * sizeof *row);
    for (int64_t r = 0; r < p->rows; r++) {
        naive_row(p, r, row);
        for (int64_t t = 0; t < w->T; t++) {
            double share = weights->v[t * X + r / N];
            if (share == 0)
                continue;
            if (!back)
                y[t * p->rows + r] = dot64(row, in->v + t * E, E);
            for (int64_t i = 0; i < E && back; i++)
                y[t * E + i] += share * in->v[t * p->rows + r] * row[i];
        }
    }
    free(row);
    return y;
}

double *naive_rowgate(const struct naive *w, const struct slot *in, const struct slot *gate)
{
    double *y = naive_value(w, in->cols);
    for (int64_t i = 0; i < w->T * in->cols; i++)
        y[i] = in->v[i] / (1 + exp(-gate->v[i / in->cols]));
    return y;
}
