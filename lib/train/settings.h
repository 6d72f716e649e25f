/* What shapes the trajectory of a run: the entry `run` of its checkpoints' headers, which a resumed
 * run must share. */
#ifndef PARE_TRAIN_SETTINGS_H
#define PARE_TRAIN_SETTINGS_H

#include "step.h"

/* The options, how the student was initialised, the ids of models and data; teacher may be "".
 * Digests of the models' values are added once they are known. New reference */
json_t *settings_of(const struct train_options *o, const struct data_sources *data,
                    const char *init, const char *student, const char *teacher);
/* A run that has come to its end can go on with more --max-steps. Where its schedule depends on the
 * end, it then has several legs: the schedules before the present one, in order, as `continued`,
 * [{max-steps, warmup-steps, decay-steps}, ...]. NULL: none. Borrowed */
const json_t *settings_legs(const json_t *run);

/* head: of the checkpoint at `path`. Refuses settings `now` that differ from its `run`, but where a
 * schedule goes on, or in digests that one of both lacks. */
int settings_check(const char *path, const json_t *head, const json_t *now, struct err *e);
/* Sets the legs of `now`, which is to go on from there, and checks. note: what the learning rate
 * does between the legs, or "". */
int settings_follow(const char *path, const json_t *head, json_t *now, char note[200],
                    struct err *e);
/* What may change the last bits of a result but does not make it another run. note: "" before */
void settings_note(const json_t *was, const json_t *now, char note[700]);

#endif
