/* Calibration: forward passes without the head, whose taps feed the sums of acts.h. One rule, in
 * terms of axes, serves every family: axis F is scored at the inputs of the linear lines whose
 * input axis is F (neuron_in2) and at the outputs of those whose output axis is F (neuron_first);
 * heads and KV groups at the inputs of those whose input axis is HD; hidden channels at every slot
 * that linear lines read as E. */
#ifndef PARE_CALIBRATE_H
#define PARE_CALIBRATE_H

#include "acts.h"
#include "../tape/tape.h"

/* n_seq, seq_len: the largest batch; block_size: the longest contiguous block to measure, 1..L.
 * Model and exec are borrowed. */
struct calibration;
struct calibration *calibrate_open(struct exec *x, struct model *m, int64_t n_seq, int64_t seq_len,
                                   int64_t block_size, struct err *e);
int64_t calibrate_bytes(const struct calibration *c); /* memory in addition to the model's */
/* Each sequence is one sample; the sums are made by the first of several processes (turns.h). Of a
 * model that comes section by section, batches are kept until calibrate_run. */
int calibrate_batch(struct calibration *c, const struct batch *b, struct err *e);
/* After all of them, once: for the memory of what enters the last block_size blocks
 * (lib/tape/batches.h). Borrowed; NULL: error */
struct batches *calibrate_batches(struct calibration *c, struct err *e);
/* Then runs those that were kept. done: sections. progress may be NULL. */
typedef void calibrate_progress(void *user, int64_t done, int64_t of);
int calibrate_run(struct calibration *c, calibrate_progress *progress, void *user, struct err *e);
/* borrowed; samples and positions so far */
struct acts *calibrate_acts(struct calibration *c);
void calibrate_close(struct calibration *c);
/* The name of the sums (acts.h) of the channels that a linear line of a layer's block reads. */
void calibrate_input_name(const struct model_spec *h, const struct family_line *line, int64_t layer,
                          char name[64]);

#endif
