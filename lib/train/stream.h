/* A teacher that comes as a stream of logits (lib/data/logits_in.h) in place of a model. */
#ifndef PARE_TRAIN_STREAM_H
#define PARE_TRAIN_STREAM_H

#include "../data/data.h"
#include "step.h"

struct train_stream {
    struct logits_in in;
    struct loss_teacher form;
    char *data; /* what op loss reads of the tokens of a batch */
    /* of a pipe that several processes share: the windows that this one has of a step, one behind
     * the other; bytes of them, and how many are used */
    unsigned char *taken;
    int64_t taken_bytes, used_bytes;
};
/* in: opened with tool_in. rest: what becomes of the probability that the largest entries leave:
 * auto (bin if the stream has it, else drop), bin, renormalise, drop. */
int train_stream_open(struct train_stream *s, struct st_in *in, const char *rest, struct err *e);
/* How the losses are made of it: logits, terms, top or rest (enum teacher_form). */
const char *train_stream_form(const struct train_stream *s);
/* A pipe is read once, in its own order, which o gets if none was asked for. Refuses another order,
 * and more than one epoch. */
int train_stream_order(const struct train_stream *s, struct train_options *o, struct err *e);
/* Refuses a stream of another vocabulary, text or temperature than training has, of another
 * tokenizer than the student's, whose name is given unless any will do, and losses that cannot be
 * had from it. */
int train_stream_check(const struct train_stream *s, const struct train_options *o,
                       const struct data_sources *data, const struct model_spec *student,
                       const char *name, struct err *e);
/* s may be NULL in the next three, and in train_stream_bytes. How the data is cut for training,
 * which must be as the stream's was. asked: by an option, 0: not.
 */
int64_t train_stream_length(const struct train_stream *s, int64_t asked);
int train_stream_check_windows(const struct train_stream *s, const struct windows *w,
                               const struct window_options *cut, struct err *e);
/* for steps of sequences of at most n tokens, of which this process has its own */
void train_stream_room(struct train_stream *s, const struct train_rows *own, int64_t n);
int64_t train_stream_bytes(const struct train_stream *s, const struct train_rows *own, int64_t n);
/* Before a step, each of its sequences in turn, and whether this process has it: of a pipe that
 * several processes share, all read every window. */
int train_stream_take(struct train_stream *s, const struct data_row *row, int is_own,
                      struct err *e);
/* Adds the teacher of a batch, which has these rows. */
int train_stream_fill(struct train_stream *s, struct data_batch *b, const struct data_row *rows,
                      struct err *e);

#endif
