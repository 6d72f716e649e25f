/* The op table, the interface of kernels/. Numbers only: no files, no models. See ops.def for the
 * contract. */
#ifndef PARE_OP_H
#define PARE_OP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "../lib/base/err.h"
#include "../lib/base/mem.h"
#include "../lib/base/tensor.h"
#include "loss.h"

enum device { DEVICE_CPU, DEVICE_CUDA, DEVICE_COUNT };
enum { OP_INPUTS = 4, OP_WEIGHTS = 4 };
/* What a planner must know about an op. RERUN: cheap, so rerun in the backward pass rather than
 * kept. GRADIENTS_IN_FORWARD: the forward call adds the gradients of inputs and weights, and there
 * is no backward call. WHOLE_BATCH: called for all sequences at once, never by several threads.
 * OUT_F64: its output is f64, whatever the type of the activations. STARTS_BACKWARD: the backward
 * pass begins at it: backward reads factors from `step` instead of a gradient of the output. */
enum op_trait {
    KEEP = 0,
    RERUN = 1,
    GRADIENTS_IN_FORWARD = 2,
    WHOLE_BATCH = 4,
    OUT_F64 = 8,
    STARTS_BACKWARD = 16
};
enum {
    IS_LOSS = GRADIENTS_IN_FORWARD | WHOLE_BATCH | OUT_F64,
    IS_STATE_LOSS = STARTS_BACKWARD | OUT_F64
};
enum {
    READS_NONE = 0,
    READS_IN0 = 1,
    READS_IN1 = 2,
    READS_IN2 = 4,
    READS_IN3 = 8,
    READS_OUT = 16,
    READS_MEMO = 32
};
enum act { ACT_SILU, ACT_GELU, ACT_GELU_TANH, ACT_RELU2, ACT_COUNT };

enum op {
#define OP(name, inputs, weights, traits, reads, memo) OP_##name,
#include "ops.def"
#undef OP
    OP_COUNT
};

/* An execution handle: the device, its state, the number of threads. One per process and device; a
 * device error sticks in `err`. compute: type of activations and their gradients, DT_F32, or on a
 * CUDA device DT_BF16 (then matrices of weights are bf16 too). */
struct gpu;
struct exec {
    enum device device;
    int threads;
    enum dtype compute;
    int tf32; /* CUDA with DT_F32: products with 10 bits of fraction */
    /* the CUDA device: stream, libraries, workspaces; NULL on the CPU */
    struct gpu *gpu;
    /* called once, with a sentence, when the first matrix product is refused by the device's
     * library and computed by a plain kernel; NULL: nobody is told */
    void (*tell)(void *user, const char *what);
    void *tell_user;
    /* how matrix products are computed; NULL: as the device's library suggests first */
    const struct algorithms *algorithms;
    /* spent so far in each op, forward and backward (on a CUDA device: in launching it) */
    double seconds[OP_COUNT][2];
    struct err err;
};
/* Algorithms of matrix products by kind of product, both as text of one line; they are those of
 * exec_algorithms_for. find: the algorithm as chosen before, or NULL. chosen: takes note that it
 * was the fastest, by time, when the product first occurred; NULL: products that are not known get
 * the library's first suggestion. */
struct algorithms {
    const char *(*find)(void *user, const char *product);
    void (*chosen)(void *user, const char *product, const char *algorithm);
    void *user;
};
/* Far more threads than is useful; OpenMP ends the process if it cannot start as many as requested.
 */
enum { EXEC_THREADS = 1024 };
/* threads 0: all cores. x->threads becomes the number that parallel regions really get, which the
 * environment may limit. -1: no such device in this build or machine */
int exec_open(struct exec *x, enum device device, int threads);
void exec_close(struct exec *x);
const char *exec_device_name(const struct exec *x); /* as in --device */
/* how many threads can run calls at the same time, each with an exec of one thread; 1 on a CUDA
 * device */
int exec_workers(const struct exec *x);

/* Device memory: everything that kernels read or write. On the CPU these are mmap, memcpy and
 * memset. */
/* as arena_open, on the device; zeros */
int exec_arena(struct exec *x, struct arena *a, size_t bytes, struct err *e);
void exec_put(struct exec *x, void *there, const void *here, size_t bytes); /* host to device */
/* device to host, after all earlier calls */
void exec_get(struct exec *x, void *here, const void *there, size_t bytes);
void exec_zero(struct exec *x, void *there, size_t bytes);
/* within the device */
void exec_copy(struct exec *x, void *to, const void *from, size_t bytes);
/* A pointer through which the host can read the memory `there` after all earlier calls: `there`
 * itself, or a copy in *here, which grows as needed (free it). */
const void *exec_view(struct exec *x, void **here, const void *there, size_t bytes);
/* bytes that exec_arena can still give; INT64_MAX: unknown before trying */
int64_t exec_available(struct exec *x);
/* What has slowed down matrix products so far: the first size that did, and what it should be a
 * multiple of, or 0; and how many kinds of product the device's library refused. */
struct slow_products {
    int64_t size, multiple, refused;
};
struct slow_products exec_slow_products(const struct exec *x);
/* The library, its release and the device that algorithms are of: "cuBLASLt 130100 on NVIDIA H100".
 * NULL: there is no choice. */
const char *exec_algorithms_for(const struct exec *x);
/* memory of the matrix library besides operands: packed panels and generated code; measured with
 * oneDNN 2.6 */
int64_t exec_library_bytes(const struct exec *x);
/* e.g. "oneDNN 2.6.3", for provenance */
const char *exec_math_library(void);

/* Graphs: after exec_capture, calls, exec_zero and exec_copy are recorded instead of run, until
 * exec_captured returns them as a graph. Anything that differs between replays must be in memory
 * that the calls read; of generation also the number of pieces of KEY_PIECE keys, the last one
 * maybe shorter, must be the same. exec_capture returns 0 if the device cannot capture: calls then
 * run as usual. */
enum { KEY_PIECE = 128 };
struct exec_graph;
int exec_capture(struct exec *x);
struct exec_graph *exec_captured(struct exec *x); /* NULL after an error */
void exec_replay(struct exec *x, struct exec_graph *g);
void exec_graph_free(struct exec *x, struct exec_graph *g);

/* Several processes (lib/base/world.h): can their devices exchange data without the host? 1, 0, or
 * -1: error. If they can, every rank makes these calls in the same order; they follow what was
 * called before, and run beside what is called after, until exec_exchanged.
 * exec_reduce, exec_spread: as world_reduce and world_spread, in device memory. */
int exec_join(struct exec *x);
void exec_reduce(struct exec *x, float *values, int64_t n);
void exec_spread(struct exec *x, void *values, int64_t n, size_t size);
/* Later calls see what was exchanged. */
void exec_exchanged(struct exec *x);

/* One operand: rows of `cols` values (activations: of type exec.compute, row stride = cols).
 * Weights: [rows, cols] or [rows, 1]; f32, or frozen in bf16, f16, on the CPU q8_0 (cols a multiple
 * of 32) where the op says so (linear, embed, position, loss; vectors are always f32). g: gradient,
 * same shape, or NULL; f32, but for activations of type bf16, whose gradients are bf16 too. */
struct operand {
    void *v;
    float *g;
    enum dtype dtype;
    int64_t rows, cols;
    /* g is uninitialised: a kernel that says `sets` overwrites it instead of adding to it */
    int overwrite;
};

/* Negative labels: a token whose prediction is not counted, and what is no token at all, but fills
 * up a sequence that is shorter than others of its batch. */
enum label { LABEL_UNCOUNTED = -100, LABEL_PADDING = -101 };

/* The rows of a call: n_seq sequences of seq_len tokens, one after the other. Token j of a sequence
 * is at place pos0 + j, and that, less where its document starts, is its position. With kv_len > 0
 * (generation) the k and v operands of attention hold kv_len rows a sequence, of which the first
 * pos0 + seq_len are valid, and this call's rows were just written at pos0. */
struct batch {
    int64_t n_seq, seq_len, pos0, kv_len;
    /* pos0 in device memory, where calls that are captured read it, so that they can be replayed
     * for another; NULL: it is only here */
    const int32_t *pos0_there;
    const int32_t *ids; /* [n_seq * seq_len] */
    /* [n_seq * seq_len], negative: not counted (enum label); only for losses */
    const int32_t *labels;
    /* [n_seq * seq_len]: where in its sequence the document of each token begins, ascending and at
     * most the token's own place; NULL: 0 everywhere. Attention does not cross the beginning of a
     * document, and positions count from it. */
    const int32_t *starts;
    /* [n_seq * seq_len][token_bytes]: other data that a loss reads per token, or NULL and 0 */
    const void *token_data;
    int64_t token_bytes;
    /* [n_seq] on the host: tokens of each sequence without its padding, or, where it is read piece
     * by piece, all that are known; NULL: pos0 + seq_len. Rope tables go by it. */
    const int64_t *lengths;
};

/* plus1: 0 or 1, added to the weight */
struct norm_params {
    int64_t groups;
    float eps, plus1;
};
/* cos, sin: f32 [positions, dims/2], times the table's factor. Halves (i, i + dims/2) rotate
 * together, or neighbours (2i, 2i+1) if interleaved. */
struct rope_params {
    int64_t heads, dims, positions;
    int interleaved;
    const float *cos, *sin;
};
/* window: how many keys a query sees, up to its own; 0: all of them. cap 0: none. alibi: scores get
 * what is due to the key's position in its document (alibi.h); not with a window or cap */
struct attention_params {
    int64_t heads, kv_heads, head_dim, window;
    float scale, cap;
    int alibi;
};
/* channels, and tokens that an output is made of, the token's own included */
struct conv_params {
    int64_t channels, width;
};
/* Heads of head_dim channels in groups of as many heads, each with its own B and C; state: values
 * that a channel keeps from token to token. The step of a head lies in dt_min .. dt_max. */
struct scan_params {
    int64_t heads, head_dim, groups, state;
    float dt_min, dt_max;
};
struct act_params {
    enum act f;
};
/* route, experts, mixture and what looks at its inputs: of the experts, `top` work for a token.
 * expert_stats: outputs as those of seq_stats, f64 [n_seq, X*N], none NULL */
struct route_params {
    int64_t top;
    int renormalise; /* route */
    double *out_mean, *out_l2, *out_var;
};
/* embed, add (scale), softcap */
struct scale_params {
    float scale, cap;
};

/* loss: output head and losses of the logits in one (losses.def): in0 = student's normed hidden
 * [T,E], in1 = teacher's [T,Et] (v NULL without one); w0 = student's head [V,E], w1 = its bias [V]
 * or absent, w2 = teacher's head [Vt,Et], w3 = its bias. out: f64 [T, loss_columns(set)], 0 where
 * the label is negative. step: LOSS_STEP floats. Gradients of step[LOSS_SCALE] * the sum over
 * positions and losses of weight * loss are ADDED to in0.g, w0.g, w1.g where not NULL. Long sums
 * are f64. */
struct loss_params {
    struct loss_kind kind;
    /* where it is not a model, in1, w2 and w3 are absent and batch.token_data is read */
    struct loss_teacher teacher;
    /* as softcap: cap 0 means scale only */
    float logit_scale, logit_cap, teacher_logit_scale, teacher_logit_cap;
    /* tokens at a time; scratch with gradients or jsd: chunk * (V + min(V,Vt)) floats and little
     * more (listings: chunk * V), else a few MB */
    int64_t chunk;
    int gradients; /* 0: losses only */
};

/* Losses on hidden states: what the gradient of a position's loss is multiplied with is weight *
 * step[STATE_SCALE] * step[STATE_WEIGHT], where the step values are shared by all of them: 1 /
 * tokens of the whole optimiser step, and the weight of their sum in the total loss. */
enum state_loss { STATE_cosine, STATE_mse, STATE_LOSS_COUNT };
enum { STATE_SCALE, STATE_WEIGHT, STATE_STEP };
struct state_params {
    float weight;
    enum state_loss loss;
};
/* heads: relation heads, into which the columns of in0 and of in1 are divided evenly */
struct relation_params {
    float weight;
    int64_t heads;
};

/* p, m and v are updated in place from g. step, a device slot: the learning rate, 1/(1-beta1^t),
 * 1/(1-beta2^t), and the clip factor, by which g is multiplied first. Then
 *
 *   m = beta1 m + (1-beta1) g
 *   v = beta2 v + (1-beta2) g^2
 *   p = p - step[0] decay p - step[0] (m step[1]) / (sqrt(v step[2]) + eps)
 *
 * with the old p on the right. decay is weight_decay at edges[0] .. edges[1]-1, edges[2] ..
 * edges[3]-1 and so on, else 0; n_edges 0: weight_decay everywhere. edges: in device memory,
 * ascending, the last one n. copy: bf16 [n], set to the new p in the same pass, or NULL. */
struct adamw_params {
    float *p, *m, *v;
    const float *g;
    int64_t n;
    float beta1, beta2, eps, weight_decay;
    const float *step;
    void *copy;
    const int64_t *edges;
    int64_t n_edges;
};
struct sumsq_params {
    double *out;
};
struct column_sum_params {
    double *out;
};
/* in0: f64 [1, n]; over, under: [n] */
struct ratio_params {
    const float *over, *under;
    float most;
    float *out;
};
/* in0: [n_seq*seq_len, units * width]. norm 0: s = each of the units*width channels; norm 1: s = L2
 * over the `width` channels of a unit. out_mean/out_l2/out_var: f64 [n_seq, channels] (channels =
 * units*width or units), NULL = not wanted. */
struct seq_stats_params {
    int64_t units, width;
    int norm;
    double *out_mean, *out_l2, *out_var;
};
/* in0: a ring of `slots` activations [in0.rows, N]; see row_cosine.c. out: f64 [to -
 * from][back][T], entries of points that do not exist untouched. */
struct row_cosine_params {
    int64_t slots, from, to, back;
    double *out;
};

/* gather: out has the values of in0 in rectangles of rows x cols values, each of which begins at
 * value `from` of in0 and at value `to` of out, its rows so many values apart. None overlaps
 * another in in0 or in out. Both are f32 or both bf16; gradients are f32. parts: in device memory;
 * most: the largest rows * cols. */
struct gather_part {
    int64_t from, to, rows, cols, from_stride, to_stride;
};
struct gather_params {
    const struct gather_part *parts;
    int64_t n_parts, most;
};
/* in0: logits [T,V]. out: for each row a listing of n entries (loss.h) at the temperature: the n
 * largest, of equal ones those of lower ids, and the mass of the rest; or, with uniform [T,n] in
 * device memory, ascending numbers of [0,1), the n entries whose shares of the cumulated
 * distribution these fall into, with their shares of the draws, and as mass of the rest 0. Where a
 * logit is no number, the mass of the rest is none either. */
struct pick_params {
    int64_t n; /* <= V, unless drawn */
    float temperature;
    const double *uniform; /* NULL: the largest */
    void *out;
};

/* divergence, of a position: KL(teacher || student) over the min(V, Vt) entries that both
 * vocabularies have (the others are dropped before the softmax, as in losses.def); the negative
 * log-likelihood of its label under each, over all entries of its own, infinity where it has no
 * such entry; and for each k of agreement_ranks the share of the teacher's k most probable tokens
 * that are among the student's k (of equal logits, the lower id comes first; k at most min(V, Vt)).
 */
enum { AGREEMENTS = 3, AGREEMENT_MOST = 10 };
enum divergence {
    DIVERGENCE_KL,
    DIVERGENCE_NLL,
    DIVERGENCE_TEACHER_NLL,
    DIVERGENCE_SAME,
    DIVERGENCE_COLUMNS = DIVERGENCE_SAME + AGREEMENTS
};
extern const int agreement_ranks[AGREEMENTS]; /* 1, 5, 10 */

struct op_args {
    struct exec *x;
    const struct batch *batch;
    struct operand in[OP_INPUTS], w[OP_WEIGHTS], out;
    float *memo; /* [T, memo floats] */
    /* [n_seq, op_state floats]: what the op keeps of each sequence between calls (generation). Read
     * where pos0 > 0, and left as it is after the call's last token. NULL: nothing is kept */
    float *state;
    void *scratch; /* op_scratch() bytes, 64-byte aligned, contents undefined */
    /* a device slot with the values that change from step to step, or NULL */
    const float *step;
    int64_t rows; /* T = n_seq * seq_len */
    union {
        struct norm_params norm;
        struct rope_params rope;
        struct attention_params attention;
        struct conv_params conv;
        struct scan_params scan;
        struct act_params act;
        struct route_params route;
        struct scale_params scale;
        struct loss_params loss;
        struct state_params state;
        struct relation_params relation;
        struct adamw_params adamw;
        struct sumsq_params sumsq;
        struct column_sum_params column_sum;
        struct ratio_params ratio;
        struct seq_stats_params seq_stats;
        struct row_cosine_params row_cosine;
        struct gather_params gather;
        struct pick_params pick;
    } p;
};

typedef void op_fn(const struct op_args *c);

/* What a device offers of an op. Each kernel file defines one: kernels/cpu/NAME.c is NAME_cpu,
 * kernels/cuda/NAME.cu is NAME_cuda. */
struct kernel {
    op_fn *forward, *backward; /* NULL: the device lacks it */
    /* bytes of op_args.scratch; reads sizes, exec and params, no data. NULL: none */
    size_t (*scratch)(const struct op_args *c);
    /* -1 and a sentence if the call is more than the device can do; reads what scratch reads. NULL:
     * it can do everything */
    int (*check)(const struct op_args *c, struct err *e);
    /* an operand's `overwrite` is honoured; else its gradient must be zeroed before */
    int sets;
};

struct op_info {
    const char *name;
    int inputs, weights;
    unsigned traits, reads;
};
extern const struct op_info ops[OP_COUNT];

/* never NULL; an empty one where the device has no kernel */
const struct kernel *op_kernel(const struct exec *x, enum op op);
int64_t op_memo(enum op op, const struct op_args *c);  /* floats a row */
int64_t op_state(enum op op, const struct op_args *c); /* floats a sequence; 0: it keeps nothing */
size_t op_scratch(enum op op, const struct op_args *c);
int op_check(enum op op, const struct op_args *c, struct err *e);
void op_forward(enum op op, const struct op_args *c);
void op_backward(enum op op, const struct op_args *c);

/* The chunk of tokens for loss, by the sizes of student and teacher (0: none): as many as are worth
 * the memory of their logits. */
int64_t loss_chunk(const struct exec *x, int64_t vocabulary, int64_t teacher_vocabulary,
                   int64_t hidden);

/* Matrix products on the CPU (oneDNN's C interface by default; BLAS=... at build time). Row-major,
 * f32. C[M,N] = op(A)[M,K] op(B)[K,N], added to C if `add`; ta, tb: 'N' or 'T'. mm_share is called
 * by all threads of a parallel region; each computes its share, without a barrier. mm computes the
 * whole product on the calling thread. */
void mm(char ta, char tb, int64_t M, int64_t N, int64_t K, const float *A, int64_t lda,
        const float *B, int64_t ldb, int add, float *C, int64_t ldc);
void mm_share(char ta, char tb, int64_t M, int64_t N, int64_t K, const float *A, int64_t lda,
              const float *B, int64_t ldb, int add, float *C, int64_t ldc);
/* Where share i of `shares` of n things begins, in whole units. */
int64_t mm_share_start(int64_t n, int64_t unit, int64_t shares, int64_t i);

#ifdef __cplusplus
}
#endif
#endif
