/* Losses on hidden states as options of a training run: --states and what belongs to it. Formulas:
 * struct tape_state, kernels/op.h. */
#ifndef PARE_TRAIN_STATES_H
#define PARE_TRAIN_STATES_H

#include <jansson.h>

#include "../tape/tape.h"

/* L = losses on logits + alpha * states, states = the weighted sum of the terms, each a mean over
 * all tokens of the optimiser step, padding left out. alpha is `weight`, or with `balanced` the
 * weighted sum of those losses that compare with a teacher, as they enter the step's total, over
 * the sum of the states: a constant of the backward pass (Muralidharan et al. 2024, arXiv
 * 2407.14679, retraining: alpha = L_logits / L_is). Each micro-batch has an alpha of its own, from
 * its own forward pass, so both sums weigh the same in each; the log has that of the whole step,
 * their mean weighted by states.
 *
 * It is at most STATES_ALPHA_MOST, since gradients of states that differ in their last bits alone
 * (embeddings that a cut has left as they were) are noise, and 0 where they do not differ at all.
 */
enum { STATES_ALPHA_MOST = 1000000 };

struct train_states {
    struct tape_state terms[TAPE_STATES];
    char names[TAPE_STATES][40]; /* as they were typed, without weights */
    int n;                       /* 0: none */
    const char *text;            /* the sum, as it was typed; borrowed */
    enum state_loss loss;
    int is_raw, balanced;
    double weight;
    /* train_states_check: states of different widths are compared */
    int needs_lift;
    /* what the lift begins with, [channels of the teacher, of the student], and its digest; NULL:
     * random values */
    float *lift;
    char lift_id[ST_DIGEST];
};

/* --states and the options that go with it, as typed; NULL: not given */
struct states_options {
    const char *sum, *loss, *norm, *weight, *lift;
};

/* Rows as in options.h, and what --help says of states. */
#define STATES_OPTIONS(ROW) \
    ROW("states", OPT_TEXT, typed.states.sum, "SUM", \
        "add losses on hidden states: a weighted sum of emb, block:T:S, mlp_in:T:S and qkv:T:S, " \
        "which compare block T of the teacher with block S of the student (listed above)", \
        OPT_UNSET) \
    ROW("states-loss", OPT_TEXT, typed.states.loss, "cosine|mse", \
        "1 - cosine similarity, or mean squared error, of emb, block and mlp_in; cosine if not " \
        "given", \
        OPT_UNSET) \
    ROW("states-norm", OPT_TEXT, typed.states.norm, "next|none", \
        "take emb and block after the norm that reads them, or as they are; next if not given", \
        OPT_UNSET) \
    ROW("states-weight", OPT_TEXT, typed.states.weight, "auto|X", \
        "weight of that sum; auto, if not given: as much as makes it equal to the losses on the " \
        "teacher's logits in every forward pass", \
        OPT_UNSET) \
    ROW("lift", OPT_PATH, typed.states.lift, "FILE", \
        "safetensors file whose tensor \"lift\", [teacher's width, student's width], the lift " \
        "begins with; random values if not given", \
        OPT_UNSET)
#define STATES_HELP \
    "\n\nStates, of which --states takes a weighted sum; blocks are numbered from 0, or from the " \
    "end as -1, -2:\n- emb: what enters the first block\n- block:T:S: what leaves a block; " \
    "block:-3:-3 is the choice of the papers\n- mlp_in:T:S: what the MLP of a block reads\n- " \
    "qkv:T:S: relations among the queries, keys and values of a block (MiniLM)\nIf the models " \
    "differ in width, one matrix, the lift, is trained with the student and widens its states; " \
    "it is kept in checkpoints, but is not part of the model that is written."

/* "block:-3:-3", "emb+0.5*block:7:3+qkv:-1:-1"; cosine or mse; next or none; auto or a number. Sets
 * the defaults of options that are not given, if there is a sum; refuses them without one. */
int train_states_resolve(struct train_states *s, struct states_options *o, struct err *e);
/* Counts negative blocks from the end, and refuses those that the models do not have; sets
 * needs_lift. lift: NULL, or a safetensors file whose tensor "lift" it begins with, refused where
 * none is needed. */
int train_states_check(struct train_states *s, const struct model_spec *student,
                       const struct model_spec *teacher, const char *lift, struct err *e);
/* Appends the lift to what is trained of the student, if one is needed; its param or NULL. */
struct param *train_states_add_lift(const struct train_states *s, struct model *student,
                                    const struct model_spec *teacher, int64_t seed, struct err *e);
/* Adds the settings by their command-line names. */
void train_states_to_json(const struct train_states *s, json_t *run);

#endif
