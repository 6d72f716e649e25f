/* What a model says of windows of tokens, as a stream of logits (lib/data/logits.h). */
#ifndef PARE_EVAL_DUMP_H
#define PARE_EVAL_DUMP_H

#include "../data/data.h"
#include "../tape/tape.h"

struct dump;
/* Of the windows s->first on, s->count of them; of s, what describes model, tokens and windows is
 * filled in. Model and tokens are borrowed, and so is s. seq_length: asked for, 0: not. batch_size:
 * windows at a time, 0: as many as make about 1024 tokens. max_tokens: ends before the window that
 * would exceed so many, 0: no limit. count 0: all. -1: nothing is left. */
struct dump *dump_open(struct exec *x, struct model *m, const struct tokens *tokens,
                       struct logits_spec *s, int64_t seq_length, int64_t batch_size,
                       int64_t max_tokens, struct err *e);
int64_t dump_bytes(const struct dump *d); /* of device memory, besides the model */
/* What it runs, for the memory of hidden states (lib/tape/batches.h); borrowed. */
struct batches *dump_batches(struct dump *d);
/* done: windows, or, of a model that comes section by section, sections */
typedef void dump_progress(void *user, int64_t done, int64_t of);
/* Writes the records, once. progress may be NULL. */
int dump_run(struct dump *d, struct st_out *out, dump_progress *progress, void *user,
             struct err *e);
void dump_close(struct dump *d);

#endif
