/* Inside of the naive forward pass: reference.c, and beside it the ops of mixtures of experts
 * (reference_experts.c) and of Mamba layers (reference_mamba.c). */
#ifndef PARE_REFERENCE_PRIVATE_H
#define PARE_REFERENCE_PRIVATE_H

#include <stdlib.h>

#include "../base/mem.h"
#include "slice.h"

enum { SLOTS = 24 };

struct slot {
    const char *name;
    enum axis axis;
    int64_t cols;
    double *v;
};
struct naive {
    const struct model *m;
    const struct slice_plan *plan;
    const uint32_t *ids;
    int64_t T, layer; /* layer of m; -1 outside the blocks */
    unsigned kinds;   /* of that layer's, the kinds that stay */
    struct slot slots[SLOTS];
    char *mask[AXIS_COUNT]; /* of an axis' channels, 1 = kept; NULL without a plan */
    struct err *e;
};

/* Row of a matrix as f64. */
static inline void naive_row(const struct param *p, int64_t row, double *out)
{
    float *x = mem_alloc((size_t)p->cols * sizeof *x);
    to_f32(x, (const char *)p->v + row * dtype_bytes(p->dtype, p->cols), p->dtype, p->cols);
    for (int64_t i = 0; i < p->cols; i++)
        out[i] = x[i];
    free(x);
}

/* Zeros, [T, cols]; free() it. */
static inline double *naive_value(const struct naive *w, int64_t cols)
{
    return mem_alloc((size_t)(w->T * cols) * sizeof(double));
}

/* reference_experts.c: new values. Slots of neurons hold those of all experts, [T, X N].
 * route: weights of the experts, of those that are kept: the softmax of their logits, 0 for all but
 * the largest, of equal ones the lower. experts: the rows of the matrices of the experts that work
 * for a token times x; `back`: the sum of those rows, times the entries of x and the weights. */
double *naive_route(const struct naive *w, const struct slot *in);
double *naive_experts(const struct naive *w, const struct param *p, const struct slot *in,
                      const struct slot *weights, int back);
double *naive_rowgate(const struct naive *w, const struct slot *in, const struct slot *gate);

/* reference_mamba.c: new values, as the ops of the same names. of: A_log, dt_bias, D */
double *naive_conv(const struct naive *w, const struct param *p, const double *bias,
                   const struct slot *in);
double *naive_scan(const struct naive *w, const struct slot *const in[OP_INPUTS],
                   const double *const of[3]);

#endif
