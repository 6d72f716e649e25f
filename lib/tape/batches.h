/* Many batches through a tape: each through all of it before the next; or, where the values of the
 * model come section by section (lib/model/sections.h), all of them through a section before the
 * next is read. The numbers are the same. Between sections the hidden states of all batches are
 * kept. */
#ifndef PARE_BATCHES_H
#define PARE_BATCHES_H

#include "../../kernels/op.h"
#include "../base/spill.h"

struct tape;

struct batches {
    struct tape *tape; /* open, forward only */
    int64_t n;
    /* Batch i, until the next call: the same one before every section. NULL: error */
    const struct batch *(*fill)(void *user, int64_t i, struct err *e);
    /* Lines of sections from..to (SECTION_START, layers, L) have run on batch i; in a section
     * batches come in order. What the tape gives after a run it has once `to` is L; before that,
     * what enters the next section (tape_boundary). 0 or -1 */
    int (*done)(void *user, int64_t i, int64_t from, int64_t to, struct err *e);
    /* Batch i is another process's (turns.h): called instead. May be NULL. */
    int (*left)(void *user, int64_t i, int64_t from, int64_t to, struct err *e);
    /* After every batch: how many of n are done; or after every section, how many of L + 2. May be
     * NULL. */
    void (*progress)(void *user, int64_t done, int64_t of);
    void *user;
    int64_t earlier; /* sections: what enters so many of those before the next is kept too */

    int64_t bytes; /* of this process's hidden states, once planned; 0 if there are none to keep */
    int in_file;   /* keep them in a file; the caller may set it */
    /* private */
    int64_t *at; /* [n + 1]: where those of a batch are */
    struct spill states;
    void *host;
};

/* Of b, what the caller states: the rest zeros. Fills every batch once if states must be kept. */
int batches_plan(struct batches *b, struct err *e);
/* Once, if the model comes section by section. */
int batches_run(struct batches *b, struct err *e);
/* In `done`: what entered `section`, the one that has run or one of the `earlier` before it, on
 * batch i; on the host, of type exec.compute, until the next call. NULL: error */
const void *batches_states(struct batches *b, int64_t i, int64_t section, struct err *e);
void batches_close(struct batches *b);

#endif
