/* Low-rank adapters of a model's matrices (LoRA; Hu et al. 2021, arXiv 2106.09685, section 4.1):
 *
 *   y = W x + scale * B (A x)        W [M,N], A [rank,N], B [M,rank], scale = alpha / rank
 *
 * They are trained in place of the model's own weights, which stay as they are, in whatever type.
 * A and B of all matrices are those of a model without tensors (model_add_matrix): so one range of
 * values, gradients and moments, as of any model in training. */
#ifndef PARE_ADAPTERS_H
#define PARE_ADAPTERS_H

#include "model.h"

struct adapter {
    int64_t rank; /* 0: the matrix has none */
    double scale;
    int at; /* A among values.params, B behind it */
};
struct adapters {
    struct model values;
    struct adapter *of; /* by tensor of the model, [n] */
    int n;
};

/* None yet: the caller sets rank and scale of each, then allocates them. */
void adapters_open(struct adapters *s, const struct model_spec *h);
/* Zeros for every A and B, in the order of the tensors. */
int adapters_allocate(struct adapters *s, const struct model_spec *h, struct err *e);
/* A uniform within 1 / sqrt(N) of 0, as PEFT has it; B stays 0, so that the model is unchanged. */
void adapters_draw(struct adapters *s, uint64_t seed);
void adapters_close(struct adapters *s);

/* That of a matrix of the model; NULL: it has none. */
const struct adapter *adapter_of(const struct model *m, const struct param *p);
/* A and B of an adapter. */
struct param *adapter_params(const struct adapters *s, const struct adapter *a);

/* row [cols] of W, += scale * (row b [rank] of B) A, A [rank, cols] */
void adapter_add_row(float *row, const float *b, const float *A, int64_t rank, int64_t cols,
                     double scale);

/* Whose values are trained: the adapters', or the model's own if it has none. */
struct model *model_trained(struct model *m);

#endif
