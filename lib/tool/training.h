/* The text that a training learns from, and that it is evaluated on, as a tool opens it: streams
 * are parents of what is made, and are checked with both models before those are loaded. */
#ifndef PARE_TOOL_TRAINING_H
#define PARE_TOOL_TRAINING_H

#include "../train/train.h"
#include "options.h"

struct tool;
struct training_text {
    /* --data, --eval-data (NULL: none), --any-tokenizer */
    struct opt_list names;
    const char *held_out_name;
    int any_tokenizer;
    struct data_sources data;
    struct tokens held_out;
};
/* The models of a training, as they were opened, and their names; teacher: NULL, there is none. */
struct training_models {
    struct model_in *student, *teacher;
    const char *student_name, *teacher_name;
};

/* What --data names. */
void tool_training_sources(struct tool *t, struct training_text *x);
/* Opens every stream. How many sequences of each source will be drawn is known before. */
void tool_training_open(struct tool *t, struct training_text *x, const struct train_options *o,
                        const struct training_models *m);
/* Cuts it into rows, with notes on how, and what of it will be drawn. */
void tool_training_cut(struct tool *t, struct training_text *x, const struct train_options *o,
                       const struct training_models *m);

#endif
