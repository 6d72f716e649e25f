/* Options of training: how a student is trained, as a command line says it, and the checks of all
 * that can be judged without models and data. */
#ifndef PARE_TRAIN_OPTIONS_H
#define PARE_TRAIN_OPTIONS_H

#include <math.h>

#include "../tape/tape.h"
#include "lora.h"
#include "schedule.h"
#include "states.h"

struct train_stream;
struct train_options {
    struct schedule schedule;
    int64_t batch_size, accumulation, seed;
    int64_t seq_length; /* longer sequences are cut; 0: as window_length_of() says */
    /* max_grad_norm 0: no clipping */
    double weight_decay, beta1, beta2, epsilon, max_grad_norm, temperature;
    double jsd_beta;            /* NaN: not given */
    double weights[LOSS_COUNT]; /* 0: not in the sum */
    struct train_states states;
    struct train_lora lora;
    const char *loss_on; /* as in data/loss_on.h, by which the data's flags are read already */
    int temperature_squared, shuffled, recompute;
    struct nested_list nested;   /* models to train instead of the whole student; borrowed */
    struct train_stream *stream; /* a teacher in place of a model (stream.h), or NULL; borrowed */
    /* what train_options_parse makes the weights, the states, the kind of schedule and `shuffled`
     * of; order: NULL if none is asked for */
    struct {
        const char *loss, *schedule, *order;
        struct states_options states;
    } typed;
};

#define TRAIN_DEFAULTS \
    { \
        .schedule = {.warmup_steps = -1, \
                     .decay_steps = -1, \
                     .learning_rate = 1e-4, \
                     .min_learning_rate = -1}, \
        .batch_size = 8, .accumulation = 1, .weight_decay = 0.1, .beta1 = 0.9, .beta2 = 0.95, \
        .epsilon = 1e-8, .max_grad_norm = 1, .temperature = 1, .jsd_beta = NAN, \
        .lora = {.alpha = NAN}, .loss_on = "completion", .typed = { \
            .loss = "kl", \
            .schedule = "cosine" \
        } \
    }

/* The options as ROW(name, type, field of train_options, argument, help, flags), for a tool's table
 * of options (lib/tool/options.h), under a heading each. */
#define TRAIN_LOSS_OPTIONS(ROW) \
    ROW("loss", OPT_TEXT, typed.loss, "SUM", \
        "a loss, or a weighted sum of several such as kl+0.5ce (listed above)", 0) \
    ROW("loss-on", OPT_TEXT, loss_on, "completion|all", \
        "whether the tokens of prompts count too, where the data has conversations", 0) \
    ROW("temperature", OPT_REAL, temperature, "X", \
        "softmax temperature of teacher and student; ce and losses of logits have none", 0) \
    ROW("temperature-squared", OPT_FLAG, temperature_squared, NULL, \
        "multiply the losses that have the temperature by its square, so that their gradients " \
        "keep their size", \
        0) \
    ROW("jsd-beta", OPT_REAL, jsd_beta, "B", \
        "weight of the teacher in the mixture that jsd compares both models with; 0.5 if not " \
        "given", \
        OPT_UNSET)
#define TRAIN_STEP_OPTIONS(ROW) \
    ROW("max-steps", OPT_INT, schedule.max_steps, "N", "number of optimiser steps; required", \
        OPT_FROM_1) \
    ROW("batch-size", OPT_INT, batch_size, "N", "sequences per forward pass", OPT_FROM_1) \
    ROW("gradient-accumulation-steps", OPT_INT, accumulation, "N", \
        "forward passes per optimiser step", OPT_FROM_1) \
    ROW("seq-length", OPT_INT, seq_length, "N", \
        "cut longer sequences into pieces of N tokens; 0: N is that of the rows, or 2048 for " \
        "documents, but no more than max_position_embeddings", \
        0) \
    ROW("order", OPT_TEXT, typed.order, "shuffled|sequential", \
        "order within an epoch; if not given, shuffled, or sequential for LOGITS from a pipe", 0) \
    ROW("seed", OPT_INT, seed, "N", \
        "seed of the shuffle, of random weights, and of the --widths drawn (default 0)", 0) \
    ROW("recompute", OPT_FLAG, recompute, NULL, \
        "keep only the inputs of blocks and recompute the rest; saves memory, costs up to a " \
        "third more time", \
        OPT_SILENT_ID)
#define TRAIN_OPTIMISER_OPTIONS(ROW) \
    ROW("learning-rate", OPT_REAL, schedule.learning_rate, "X", "peak learning rate", 0) \
    ROW("min-learning-rate", OPT_REAL, schedule.min_learning_rate, "X", \
        "learning rate at the end of the decay; -1: a tenth of the peak for cosine, else 0", 0) \
    ROW("schedule", OPT_TEXT, typed.schedule, "cosine|linear|wsd|constant", \
        "how the learning rate decays; wsd: linearly, after a stable phase", 0) \
    ROW("decay-steps", OPT_INT, schedule.decay_steps, "N", \
        "steps of the decay, which ends the run; -1: all after the warm-up, for wsd a fifth of " \
        "all", \
        0) \
    ROW("warmup-steps", OPT_INT, schedule.warmup_steps, "N", \
        "steps of linear warmup; -1: a twentieth of all steps", 0) \
    ROW("weight-decay", OPT_REAL, weight_decay, "X", \
        "weight decay of matrices; norms and biases have none", 0) \
    ROW("adam-beta1", OPT_REAL, beta1, "X", "decay rate of the first moment", 0) \
    ROW("adam-beta2", OPT_REAL, beta2, "X", "decay rate of the second moment", 0) \
    ROW("adam-epsilon", OPT_REAL, epsilon, "X", "added to the root of the second moment", 0) \
    ROW("max-grad-norm", OPT_REAL, max_grad_norm, "X", \
        "clip the norm of the gradient to X; 0: no clipping", 0)

/* "kl", "ce", "kl+0.5ce", "0.9*kl+0.1*rkl": the weight of each loss. */
int train_parse_loss(const char *text, double weights[LOSS_COUNT], struct err *e);
/* What was typed: refuses words that mean nothing. */
int train_options_parse(struct train_options *o, struct err *e);
int train_needs_teacher(const struct train_options *o);
/* Is there one teacher, a model or a stream of logits (names, or NULL), where the losses need it,
 * and none where not? rest: as it was given. */
int train_teacher_check(const struct train_options *o, const char *model, const char *logits,
                        const char *rest, struct err *e);
/* The losses to compute: those with a weight, and ce, which is always in the log. */
unsigned train_loss_set(const struct train_options *o);
/* Sets the defaults of the schedule and of jsd_beta (0.5, if jsd is in the sum), and refuses
 * invalid values. */
int train_options_resolve(struct train_options *o, struct err *e);
/* The options that shape the trajectory, by their command-line names; the caller adds the ids of
 * models and data. New reference. */
json_t *train_options_json(const struct train_options *o);

#endif
