/* How far a student's predictions are from a teacher's: op divergence (kernels/op.h) on rows of
 * logits, a batch at a time, and figures of many predictions. */
#ifndef PARE_DIVERGENCE_H
#define PARE_DIVERGENCE_H

#include "../../kernels/op.h"
#include "estimate.h"

/* Compares rows of logits in device memory, at most `rows` at a time. */
struct comparison {
    struct exec *x;
    struct arena arena;
    int32_t *labels; /* in device memory, as is out */
    double *out;
    void *host;
};
int64_t comparison_bytes(int64_t rows); /* of device memory */
int comparison_open(struct comparison *c, struct exec *x, int64_t rows, struct err *e);
/* [rows][DIVERGENCE_COLUMNS], on the host, until the next call; 0 where the label is negative.
 * student [rows, V], teacher [rows, Vt]: as tape_logits_there() gives them, or a copy of these;
 * labels [rows]: on the host, below V. */
const double *comparison_run(struct comparison *c, const struct operand *student,
                             const struct operand *teacher, const int32_t *labels, int64_t rows);
void comparison_close(struct comparison *c);

/* The predictions of a text, in order: 48 bytes each. Begins as zeros. */
struct divergences {
    double (*of)[DIVERGENCE_COLUMNS];
    int64_t n, room;
};
/* Adds those of `rows` rows whose labels are not negative. */
void divergences_add(struct divergences *d, const double *values, const int32_t *labels,
                     int64_t rows);
void divergences_add_zeros(struct divergences *d, int64_t n);
/* Means of the predictions from .. to - 1, of which there must be one. */
void divergences_mean(const struct divergences *d, int64_t from, int64_t to,
                      double mean[DIVERGENCE_COLUMNS]);
void divergences_free(struct divergences *d);

/* The figures of llama-perplexity --kl-divergence (tools/perplexity in llama.cpp), by its
 * formulas. delta_p: the student's probability of the token that follows, less the teacher's. */
struct divergence_figures {
    struct estimate kl, nll, teacher_nll, delta_p, delta_p_rms, same[AGREEMENTS];
    /* nll - teacher_nll, whose errors are correlated */
    struct estimate log_ratio;
    double correlation;
    double *sorted_kl, *sorted_delta_p; /* [n] */
    int64_t n;
};
void divergence_figures(struct divergence_figures *f, const struct divergences *d);
void divergence_figures_free(struct divergence_figures *f);

#endif
