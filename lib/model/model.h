/* What a model is: its spec (everything but the numbers), where it comes from (model_in), where it
 * goes (model_out), and a model in memory.
 *
 * A MODEL operand is a Hugging Face directory, a .gguf file, a .tsz model stream, or "-". All four
 * look alike through model_in: one spec, then files (tokenizer.json, ...), then the tensors in the
 * spec's order, once, in constant memory. Tensors are canonical: split (no fused qkv), [out, in],
 * half-split rope order. Quantised GGUF arrives as f32, its Q8_0 as q8_0. */
#ifndef PARE_MODEL_H
#define PARE_MODEL_H

#include "../base/mem.h"
#include "config.h"
#include "dtypes.h"
#include "family.h"
#include "footprint.h"
#include "layout.h"
#include "nested.h"
#include "row_block.h"
#include "sink.h"
#include "source.h"
#include "spec.h"
#include "sections.h"

/* ---- a model in memory */
/* vectors: cols = 1; v and g are in device memory */
struct param {
    void *v;
    float *g;
    enum dtype dtype;
    int64_t rows, cols;
};
/* Of the trained values: n from `first` on, which some array has at `at`. */
struct model_run {
    int64_t first, n, at;
};
/* The f32 weights that one of several processes keeps where all compute with bf16 copies
 * (lib/train/share.h): n values in these runs, from m->weights.base on. Vectors, which have no
 * copies, are f32 in every process, one after the other. */
struct model_kept {
    const struct model_run *runs; /* NULL: it keeps all, as one range; borrowed */
    int64_t n_runs, n;
    float *vectors; /* set by model_move */
};
struct model {
    struct model_spec spec;
    struct param *params; /* parallel to spec.tensors, then those of model_add_matrix */
    int n_added;
    struct arena weights, grads;
    /* bf16 [n_values], if a MODEL_TRAIN model computes in bf16: AdamW updates it with the
     * weights */
    struct arena copies;
    struct model_kept kept;
    int how; /* MODEL_TRAIN or MODEL_FROZEN */
    /* entries of all params together (each range starts at its running sum: no padding) */
    int64_t n_values;
    struct exec *x; /* the device that holds weights and gradients; NULL: the host */
    /* trained in its place, see below, or NULL; borrowed */
    struct adapters *adapters;
    struct model_sections *sections; /* its values come section by section (sections.h); or NULL */
};
enum {
    MODEL_TRAIN = 1, /* all f32, one contiguous range */
    /* matrices stay bf16 / f16 / q8_0 / f32 as stored (f64 becomes f32); vectors and learned
       positions f32 */
    MODEL_FROZEN = 2
};
int model_load(struct model *m, struct model_in *in, int how, struct err *e);
/* normal(0, initializer_range 0.02), output projections by 1/sqrt(2L), norms 1, biases 0. */
int model_init_random(struct model *m, const struct model_spec *h, uint64_t seed, struct err *e);
/* MODEL_TRAIN: a matrix of zeros that is trained with the model, behind its tensors, but is no part
 * of it: the spec does not list it, and model_write leaves it out. Call it once the model is
 * loaded, before model_plan; it moves the params. */
struct param *model_add_matrix(struct model *m, int64_t rows, int64_t cols, struct err *e);
int model_params(const struct model *m); /* how many */
/* Matrices have bf16 copies, and decay; vectors (norms, biases) do not. */
int model_is_matrix(const struct model *m, int i);
int64_t model_vector_values(const struct model *m); /* of all vectors together */
/* MODEL_TRAIN: of its f32 weights, as many as are kept. */
int64_t model_f32_bytes(const struct model *m);
/* Bytes of device memory that model_move will take, for adapters too. Sets the params to their
 * types there, so that a tape can be recorded first. */
int64_t model_plan(struct model *m, const struct exec *x);
/* Copies the weights to the device, converting matrices to its compute type (q8_0 too, which stays
 * packed on the CPU only), and its adapters; does nothing on the CPU. Call before
 * model_add_grads. */
int model_move(struct model *m, struct exec *x, struct err *e);
/* MODEL_TRAIN: where the f32 weights of a run are, one that is kept or any if all are; values for
 * them, and for their copies. */
float *model_weights_of(const struct model *m, const struct model_run *r);
void model_weights_put(struct model *m, const struct model_run *r, const float *values);
/* one contiguous f32 range m->grads.base, order and length of the weights */
int model_add_grads(struct model *m, struct err *e);
/* The gradients have been overwritten with the f32 weights of all processes, and become the
 * weights, of which all are kept from now on. */
void model_weights_whole(struct model *m);
/* A MODEL_TRAIN model whose values are in memory of the caller's, on any device: opened without
 * them, so that model_plan and tape_record know its sizes, then lent f32 weights and, where the
 * device computes in bf16, copies (else NULL), and gradients; [n_values] each, as above. */
void model_open_planned(struct model *m, const struct model_spec *h);
void model_lend(struct model *m, void *weights, void *copies);
void model_lend_grads(struct model *m, float *grads);
/* A MODEL_FROZEN model whose values come and go tensor by tensor: opened without them, so that
 * model_plan and tape_record know its types and sizes; then param i is given `values` of type d, at
 * `there` in device memory of the caller's, which holds model_param_bytes of it. */
void model_open_frozen(struct model *m, const struct model_spec *h);
int64_t model_param_bytes(const struct model *m, int i);
void model_param_put(struct model *m, struct exec *x, int i, void *there, const void *values,
                     enum dtype d);
/* All values of a param, or as a param of their own some that follow each other (q8_0: whole
 * blocks), to where they are in device memory, from values of type d. */
void param_put(struct exec *x, const struct param *to, const void *from, enum dtype d);
/* bytes that loading will take */
int64_t model_memory(const struct model_spec *h, int how, int grads);
/* layer -1: outside blocks; NULL if absent */
struct param *model_param(struct model *m, int64_t layer, const char *stem_and_suffix);
void model_free(struct model *m);
/* Writes all tensors, with what adapters add, rounded to the dtypes of out's spec, and the end;
 * out's files must have been written. */
int model_write(struct model_out *out, const struct model *m);

/* ---- low-rank adapters of its matrices (LoRA; Hu et al. 2021, arXiv 2106.09685, section 4.1):
 *
 *   y = W x + scale * B (A x)        W [M,N], A [rank,N], B [M,rank], scale = alpha / rank
 *
 * They are trained in place of the model's own weights, which stay as they are, in whatever type.
 * A and B of all matrices are those of a model without tensors (model_add_matrix): so one range of
 * values, gradients and moments, as of any model in training. */
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
/* of a matrix; a module that fuses several has the sum of their ranks (lib/hf/peft.h) */
enum { ADAPTER_RANK_MOST = 4096 };

/* Is tensor i the matrix of a linear line of a block, which is what can have an adapter? Its stem
 * ("q_proj"), or NULL, also of a router, in a mixture of the MLP of a layer without experts, which
 * PEFT could not tell from them, and of the output of a Mamba mixer, which PEFT refuses. */
const char *adapters_stem(const struct model_spec *h, int i);
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

/* A, or B, on the host: f32 [rows, cols] of its param */
void adapter_values(const struct adapters *s, const struct adapter *a, int is_b, float *to);
/* row [cols] of W, += scale * (row b [rank] of B) A, A [rank, cols] */
void adapter_add_row(float *row, const float *b, const float *A, int64_t rank, int64_t cols,
                     double scale);

/* model_write of a model with adapters */
int adapters_write(struct model_out *out, const struct model *m);

/* Whose values are trained: the adapters', or the model's own if it has none. */
struct model *model_trained(struct model *m);

#endif
