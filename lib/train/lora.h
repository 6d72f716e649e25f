/* Training of low-rank adapters in place of the weights (struct adapters, lib/model/model.h), as
 * options of a run. */
#ifndef PARE_TRAIN_LORA_H
#define PARE_TRAIN_LORA_H

#include <jansson.h>

#include "../model/model.h"

struct train_lora {
    /* as typed; NULL, alpha NaN: not given */
    const char *rank_text, *targets, *from;
    double alpha;
    int64_t rank;            /* 0 without --lora */
    char from_id[ST_DIGEST]; /* digest of the adapters of `from` */
};

/* Rows as in options.h. */
#define TRAIN_LORA_OPTIONS(ROW) \
    ROW("lora", OPT_TEXT, lora.rank_text, "R", \
        "train adapters of rank R for the matrices of all blocks, and leave the weights as they " \
        "are (see above)", \
        OPT_UNSET) \
    ROW("lora-alpha", OPT_REAL, lora.alpha, "X", \
        "multiply what adapters add by X / R; X is R if not given, so that the learning rate " \
        "alone sets the pace", \
        OPT_UNSET) \
    ROW("lora-targets", OPT_TEXT, lora.targets, "LIST", \
        "matrices that get an adapter, such as q_proj,v_proj; all of the blocks if not given", \
        OPT_UNSET) \
    ROW("lora-from", OPT_PATH, lora.from, "DIR", \
        "continue from the adapters of a PEFT directory, of its ranks, factors and matrices, in " \
        "place of --lora", \
        OPT_UNSET)
#define TRAIN_LORA_HELP \
    "\n\nWith --lora R, a matrix W of a block becomes W + alpha/R B A, of which only A, with R " \
    "rows, and B, with R columns, are trained (LoRA). Gradients, moments and checkpoints are " \
    "those of the adapters alone, and the student stays in the dtype it is stored in. The model " \
    "that is written has the sums; --adapter writes the adapters by themselves, as a directory " \
    "that PEFT loads and hf-export --merge adds. Norms, biases, embeddings, experts and the head " \
    "are not trained. Adapters want three to ten times the learning rate of weights."

int train_lora_is_on(const struct train_lora *l);
/* What was typed. */
int train_lora_resolve(struct train_lora *l, struct err *e);
/* Refuses what adapters cannot be combined with, and --adapter without them. adapter, widths: the
 * values of --adapter and --widths, or NULL. */
int train_lora_check(const struct train_lora *l, const char *adapter, int random_init,
                     const char *widths, struct err *e);
/* Adapters for a student of this spec: drawn from the seed, or read. Refuses targets that it does
 * not have, and a directory that does not fit it. */
int train_lora_open(struct train_lora *l, struct adapters *s, const struct model_spec *h,
                    int64_t seed, struct err *e);
/* Adds the settings by their command-line names, if there are adapters. */
void train_lora_to_json(const struct train_lora *l, json_t *run);

#endif
