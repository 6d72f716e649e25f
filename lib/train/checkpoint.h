/* Checkpoints of a training run: DIR/checkpoint-STEP.tsz, a stream of kind "checkpoint", written
 * whole or not at all. Of several processes each writes what it owns (share.h) into a part, the
 * first into the file of that name, which appears once all others, checkpoint-STEP.part-N.tsz, are
 * there; any number of processes can continue from them.
 *
 * Header: `step` (optimiser steps done), `position` (sequences taken from the data), `predictions`
 * (trained on so far), `run` (the resolved options and the ids of student, teacher and data; of a
 * run that went on after its last step also `continued`, the schedules of the legs before),
 * `model` (the spec of the model in training), hist. Records: `weights`, `m`, `v`, each f32
 * [n_values], in the order of the model's tensors; at the end what is trained but is no part of it
 * (model_add_matrix). Where there are parts, `part` and `parts` say which one it is, and `ranges`,
 * [[first, n], ...], which of these values it has.
 *
 * Every process makes the same calls; the directory is one that all see. */
#ifndef PARE_CHECKPOINT_H
#define PARE_CHECKPOINT_H

#include <jansson.h>
#include <stdint.h>

#include "share.h"

struct checkpoint {
    int64_t step, position, predictions;
    /* borrowed, as are m and v, which are in device memory; loading fills them and the model */
    struct shards *shards;
    float *m, *v;
};

/* head: header of the run's checkpoints; its step, position and predictions are replaced;
 * borrowed. */
int checkpoint_save(const char *dir, const struct checkpoint *c, const json_t *head, struct err *e);
/* Steps of the checkpoints in dir, newest first, *steps to be freed; a directory that does not
 * exist has none. Returns the count or -1. */
int64_t checkpoint_list(const char *dir, int64_t **steps, struct err *e);
/* Can `run`, the entry of this run's header, go on from the newest one whose header can be read?
 * Sets run's `continued`: the legs, or none. note: what the learning rate does between two legs, or
 * "".
 */
int checkpoint_check(const char *dir, json_t *run, char note[200], struct err *e);
/* Loads the newest intact one. 1: loaded; 0: there is none; -1: all are damaged, or it belongs to
 * another run (e says what differs from the `run` of `head`, this run's). note: sentences about
 * damaged ones that were skipped, and about another device, arithmetic or number of threads; else
 * "". After -1 the contents of the arrays are undefined. */
int checkpoint_resume(const char *dir, struct checkpoint *c, const json_t *head, char note[700],
                      struct err *e);
/* Removes the checkpoints of steps before `oldest`, and leftovers of an interrupted save. Called by
 * one process, when none is writing. */
void checkpoint_prune(const char *dir, int64_t oldest);

/* The name of a part, counted from 0; free it. */
char *checkpoint_path(const char *dir, int64_t step, int part);

#endif
