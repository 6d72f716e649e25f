/* The model as a recorded straight tape: a family's lines become an array of calls; forward runs it
 * 0..n, backward n..0. All memory is planned from liveness before the first step: record, check
 * tape_bytes, then tape_open.
 *
 * A training step is one tape: teacher lines without gradients, student lines, the loss. In the
 * backward pass the cheap lines are rerun instead of kept; with `recompute` whole blocks are. A
 * tape recorded for seq_len tokens runs for any shorter batch of the same n_seq or fewer. */
#ifndef PARE_TAPE_H
#define PARE_TAPE_H

#include "../model/model.h"
#include "batches.h"

/* A loss line: head and losses of the logits (kernels/losses.def). weights: of the gradients, until
 * tape_loss_weights changes them. */
struct tape_loss {
    struct loss_kind kind; /* temperature, jsd_beta: 0 = 1, 0.5 */
    float weights[LOSS_COUNT];
};
enum { TAPE_LOSSES = 4 };

/* A loss on hidden states: how far the student's are from the teacher's, after a forward pass of
 * both over the same tokens (Muralidharan et al. 2024, arXiv 2407.14679, table 17). Blocks are
 * numbered from 0. Of the first three places, `loss` (kernels/op.h) compares the channels of each
 * token; of qkv, the relations among the queries, among the keys and among the values that
 * attention reads are compared head by head, or, where the numbers of heads differ, in as many
 * relation heads as divide both (op relation); their three losses are added up. */
enum state_place {
    STATE_NONE,
    STATE_EMB,    /* what enters block 0 */
    STATE_BLOCK,  /* what leaves the block */
    STATE_MLP_IN, /* what the MLP's first matrix reads */
    STATE_QKV,
    STATE_PLACES
};
struct tape_state {
    enum state_place place;
    int64_t teacher, student; /* blocks; of STATE_EMB none */
    float weight;             /* in the sum of all states */
};
enum { TAPE_STATES = 8 };

/* TAPE_LOGITS: of all tokens, after the losses, if there are any */
enum tape_end { TAPE_NO_HEAD, TAPE_LOGITS, TAPE_LOSS };

struct tape_spec {
    struct model *model, *teacher; /* teacher: only with TAPE_LOSS; NULL without */
    int64_t n_seq, seq_len;        /* the largest batch */
    /* > 0: k and v are kept between calls for that many places of each sequence (generation), and
     * the states of ops that have one; forward only. Then a batch begins anywhere up to where the
     * last one ended, or, in a model with states, at its end or at 0 */
    int64_t kv_len;
    int marks; /* tape_mark is called */
    enum tape_end end;
    /* tape_forward_range runs blocks only, of the range 0, 0 the start lines, and of L, L the end
     * lines; forward only, for a model whose weights are in memory block by block. Set for one that
     * comes section by section. */
    int blocks_apart;
    /* compute gradients of every parameter of `model` (call model_add_grads first) */
    int train;
    int recompute;
    struct tape_loss losses[TAPE_LOSSES]; /* up to the first empty set */
    int64_t loss_chunk;                   /* 0: chosen */
    /* with a teacher, and training; up to the first STATE_NONE */
    struct tape_state states[TAPE_STATES];
    enum state_loss state_loss;
    /* STATE_EMB and STATE_BLOCK: take x itself, not the output of the norm that reads it */
    int raw_states;
    /* [channels of the teacher, of the student]: a trained matrix that the student's states are
     * multiplied by first, those of STATE_QKV not; NULL: none, the widths are equal */
    struct param *lift;
    /* with TAPE_LOSS and without `teacher`: how the teacher comes with the tokens, if it does */
    struct loss_teacher given;
    int64_t token_bytes; /* of each token in batch.token_data; 0: none, or what `given` takes */
};

struct tape;
/* NULL on error, e.g. an op that the device lacks, by name */
struct tape *tape_record(struct exec *x, const struct tape_spec *spec, struct err *e);
/* size of the arena that tape_open allocates */
int64_t tape_bytes(const struct tape *t);
/* of that, values and gradients of lines; most of the rest is the logits of a chunk */
int64_t tape_activation_bytes(const struct tape *t);
int tape_open(struct tape *t, struct err *e);
/* Of tape_bytes, what holds nothing from one step to the next; two tapes that never run at the same
 * time can share it: as tape_open, but in that memory of `other`, which is open and has as much. */
int64_t tape_working_bytes(const struct tape *t);
int tape_open_beside(struct tape *t, const struct tape *other, struct err *e);
void tape_close(struct tape *t);

/* ids and labels are in host memory. Without labels, a tape with losses runs up to the input of its
 * head, which is all that a piece of a text with nothing to predict needs. Positions beyond the
 * learned ones or ids >= vocab_size: -1 naming the value, and nothing is run. */
int tape_forward(struct tape *t, const struct batch *b, struct err *e);
/* after tape_forward of the same batch; adds to the parameters' gradients */
int tape_backward(struct tape *t, const struct batch *b, struct err *e);
/* From the next backward pass on, until it is called with NULL: fn is called once a pass for each
 * parameter, by its number, as soon as nothing more is added to its gradient. The pass is then not
 * captured as a graph. */
typedef void tape_final_fn(void *user, int param);
void tape_on_final(struct tape *t, tape_final_fn *fn, void *user);
/* clears the parameters' gradients; call before the first pass of a step */
void tape_clear_gradients(struct tape *t);
/* Gradients are those of scale * the weighted sum of all losses; scale is 1 / counted predictions
 * of the whole optimiser step. Scale and weights are in device memory and may change before any
 * pass. */
void tape_loss_scale(struct tape *t, float scale);
void tape_loss_weights(struct tape *t, int line, const float weights[LOSS_COUNT]);

/* [T][loss_columns(set)]: the losses of each position in one loss line, 0 where the label is
 * negative */
const double *tape_losses(struct tape *t, int line);
/* The step values of all states (enum in kernels/op.h): scale is 1 / tokens of the whole optimiser
 * step, weight that of the sum of all states in the total loss; 1 and 1 until set. */
void tape_state_step(struct tape *t, float scale, float weight);
/* where that weight is, in device memory: it may be computed there between forward and backward */
float *tape_state_weight(struct tape *t);
/* sums, one for each loss of each line in turn, then one for each state, in device memory: += the
 * losses of all positions; does not synchronise */
void tape_add_losses(struct tape *t, const struct batch *b, double *sums);
/* [rows, V] from row `first` on, TAPE_LOGITS; until the next call */
const float *tape_logits(struct tape *t, int64_t first, int64_t rows);
/* the first rows of them in device memory */
struct operand tape_logits_there(const struct tape *t, int64_t rows);

/* Sequence `to` gets what the cache holds of sequence `from`. */
void tape_move_cache(struct tape *t, int64_t to, int64_t from);

/* Remembers the states of all sequences, or returns to those remembered: a batch may then begin
 * where the last one had ended when they were. Nothing to do, and correct, without states. */
void tape_mark(struct tape *t);
void tape_rewind(struct tape *t);

/* Runs blocks from..to-1 only (0 <= from <= to <= L); from 0 includes the start lines, to == L the
 * end lines and head / loss. The input of block `from` must be in tape_boundary(t, from). For
 * layer probes: skip a block by copying boundary l to l+1. Forward-only tapes. */
int tape_forward_range(struct tape *t, const struct batch *b, int64_t from, int64_t to,
                       struct err *e);
/* [T,E], device memory, of type exec.compute: input of block (block == L: of the end lines);
 * valid from when it is written until that block has run */
void *tape_boundary(struct tape *t, int64_t block);

/* Taps: called after the line that fills the slot has run in a forward pass (never in a rerun), for
 * all sequences of the batch at once, or by several threads at a time, each for sequences of its
 * own, whose values are then in that thread's cache. */
enum tap {
    TAP_INPUT_OF,
    TAP_OUTPUT_OF, /* of the linear line with weight `stem` ("down_proj", "o_proj", "q_proj",
                    * "gate_proj", "up_proj"), or the mixture ("experts_down_proj"), in `layer`;
                    * "lm_head" with layer -1: the final norm's output. Not in a training step,
                    * where a residual sum is part of the line */
    /* x entering block `layer` (layer == L: leaving the last block); stem NULL */
    TAP_BLOCK_INPUT
};
struct tapped {
    struct exec *x;        /* to compute with */
    const struct batch *b; /* the sequences, */
    /* number of sequences of the whole batch before them, */
    int64_t first;
    /* and [b->n_seq * b->seq_len, cols], in device memory */
    const struct operand *values;
    const struct op_args *call; /* of the line, for these sequences */
};
typedef void tap_fn(void *user, const struct tapped *t);
/* before tape_open */
int tape_tap(struct tape *t, enum tap what, int64_t layer, const char *stem, tap_fn *fn, void *user,
             struct err *e);

#endif
