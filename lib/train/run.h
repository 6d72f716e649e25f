/* A training run: optimiser steps with their log, evaluations and checkpoints, and how an
 * interrupted run is resumed. */
#ifndef PARE_TRAIN_RUN_H
#define PARE_TRAIN_RUN_H

#include "../base/usage.h"
#include "checkpoint.h"
#include "held_out.h"
#include "log.h"
#include "settings.h"
#include "step.h"

struct train_run {
    struct trainer trainer;     /* opened by the caller */
    struct held_out held_out;   /* opened by the caller, where there is such text; closed */
    const char *dir, *log_path; /* NULL: no checkpoints, no log */
    const char *output;         /* the model's name, which must not be the log's */
    /* 0: after the last step only; save_steps -1: every tenth of the run and every ten minutes */
    int64_t save_steps, eval_steps, logging_steps; /* the last is for the caller */
    int resume, overwrite;
    json_t *settings; /* settings_of this run, set by the caller; freed */
    /* descriptor of dir, locked against a second run there; 0: none yet */
    int lock;
    json_t *head; /* of checkpoints, set by the caller: train_run_meta with id and hist */
    struct train_log *log;
    /* the first line of the log, and the checkpoint of this step, if they could not be written; the
     * training goes on */
    struct err log_err, save_err;
    int64_t last_saved; /* step of the newest whole checkpoint, -1 none */
    double saved_at;    /* when it was written, or this run begun */
    /* seconds of the steps below, saving and evaluating included */
    double spent;
    int64_t steps, predictions; /* of this process */
    double *first_loss;         /* of each model trained, in this process; 0: none yet */
    int rise_told;
};

/* Rows as in options.h, of the fields of train_run. */
#define TRAIN_RUN_OPTIONS(ROW) \
    ROW("eval-steps", OPT_INT, eval_steps, "N", "evaluate every N steps, and after the last", \
        OPT_SILENT_ID | OPT_FROM_0) \
    ROW("log", OPT_PATH, log_path, "FILE", \
        "write one JSON object per step to FILE (default: log.jsonl in --output-dir); -: to " \
        "standard output, if the model goes elsewhere", \
        OPT_SILENT_ID) \
    ROW("logging-steps", OPT_INT, logging_steps, "N", \
        "print a line every N steps; 0: a terminal shows the last step, a file gets a line after " \
        "a second, then one a minute, or one for every hundredth of the run that takes at least " \
        "ten seconds", \
        OPT_SILENT_ID | OPT_FROM_0) \
    ROW("output-dir", OPT_PATH, dir, "DIR", \
        "directory for checkpoints, and for model.tsz and log.jsonl if -o and --log are not " \
        "given", \
        OPT_SILENT_ID) \
    ROW("save-steps", OPT_INT, save_steps, "N", \
        "write a checkpoint every N steps, and after the last; -1: every tenth of the run and " \
        "every ten minutes; the last two are kept", \
        OPT_SILENT_ID) \
    ROW("resume", OPT_FLAG, resume, NULL, \
        "continue from the newest checkpoint in --output-dir, also a finished run with more " \
        "--max-steps; with the same numbers of threads and processes the result has the same " \
        "bits", \
        OPT_SILENT_ID) \
    ROW("overwrite", OPT_FLAG, overwrite, NULL, \
        "replace the run in --output-dir; otherwise a directory that holds one is refused", \
        OPT_SILENT_ID)
/* Refuses options that contradict each other. output is set. */
int train_run_options_check(const struct train_run *r, int has_eval_data, struct err *e);

/* Refuses a file for the log that is not a log, and an output directory that cannot be created, is
 * in use by another run, or holds one: with `resume` another one than this, or one without
 * checkpoints; else any unless `overwrite` is set. Needs no models: call it before loading them.
 * note: as checkpoint_check's. */
int train_run_check(struct train_run *r, char note[200], struct err *e);
/* The entries of a checkpoint's header: how far the run is, its settings, and the student's spec.
 * Adds the digests of the models' values to the settings. New reference */
json_t *train_run_meta(const struct train_run *r);
/* After train_run_check. Loads the newest checkpoint if `resume` is set, and truncates the log to
 * its step; removes checkpoints if `overwrite` is. note: a message for the user, or "". */
int train_run_open(struct train_run *r, char note[900], struct err *e);
/* One step, its line in the log (evaluation included), and its checkpoint when one is due. 1: done;
 * 0: stopped before the step was complete; -1: error. */
int train_run_step(struct train_run *r, const volatile sig_atomic_t *stop, struct train_record *rec,
                   struct err *e);
/* Saves a checkpoint of the last completed step, unless there is one already. */
int train_run_save(struct train_run *r, struct err *e);
/* Log, evaluation, trainer. -1: the log lacks lines */
int train_run_close(struct train_run *r, struct err *e);

enum { TRAIN_PARTS = 8 };
/* what the run will take; models are loaded */
void train_run_memory(const struct train_run *r, struct memory_part parts[TRAIN_PARTS]);
/* For people: "loss 2.3456, held out 2.4567, learning rate 0.0001, 1234 tokens/s". */
void train_run_describe(const struct train_run *r, const struct train_record *rec, char text[300]);
/* 1, once in a run: the loss is ten times that of the first step; says so. */
int train_run_rises(struct train_run *r, const struct train_record *rec, char text[200]);
/* The spec of the trained model: the student's, in the dtypes chosen, without id, with the
 * teacher's tokenizer and files where the student has none. Returns the model they come from. */
struct model_in *train_result_spec(struct model_spec *spec, struct model_in *student,
                                   struct model_in *teacher, struct dtype_choice dtype);

#endif
