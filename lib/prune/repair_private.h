/* Inside of repair:
 *
 *   repair.c      the tensors in and out, layer by layer; memory
 *   repair_fit.c  which matrices; running a layer of either model; fitting
 */
#ifndef PARE_REPAIR_PRIVATE_H
#define PARE_REPAIR_PRIVATE_H

#include "repair.h"

/* tokens of a batch, unless a sequence is longer */
enum { BATCH = 1024, WRITERS = 2 };

/* A matrix that writes to the stream: the linear line of each kind of block whose outputs are
 * hidden channels. direct: nothing but the addition follows. */
struct writer {
    const char *stem;
    unsigned kind;
    int direct;
};

/* What a tap copies to, if not NULL: [rows of a batch, columns]. */
struct side {
    struct model m;
    struct tape *tape;
    struct arena there;                /* weights of a layer, in device memory */
    float *stream;                     /* [tokens, E] before the current layer */
    float *in[WRITERS], *out[WRITERS]; /* of the writers of the layer that runs */
};

struct repair {
    struct exec *x;
    const struct slice_plan *p;
    const struct model_spec *from; /* as stored */
    const struct repair_io *io;
    const struct repair_text *text;
    double ridge;
    struct err *e;
    struct writer writers[WRITERS];
    struct side source, slice;
    int64_t longest, at_once; /* tokens of a sequence; sequences of a batch */
    struct arena memory;
    /* [tokens, E] of the source's layer: what its attention writes, and, if a norm follows it,
     * what its MLP writes; else NULL */
    float *written[WRITERS];
    float *z, *y, *r;     /* of a batch: inputs and outputs of a matrix; what is to be fitted */
    unsigned char *whole; /* a tensor of the source */
    struct arena held;    /* tensors of a layer of the slice, */
    void **values;        /* of each tensor of the slice: where it is held */
    int next, first, end; /* tensor of the source to be read; those of the slice that are held */
    unsigned changed;     /* kinds of which the layer that is held has lost units */
    struct repair_result result;
};

/* repair_fit.c; those that can fail: 0, or -1 with the error set */
void repair_writers(const struct family *f, struct writer writers[WRITERS]);
/* tensor `what` ("weight", "bias") of a stem of a layer; -1: absent */
int repair_tensor(const struct model_spec *h, int64_t layer, const char *stem, const char *what);
int repair_taps_add(struct repair *r, struct side *s);
/* Gives a tensor its values, stored as type d; a tensor of the layer that is in memory. */
void repair_lend(struct repair *r, struct side *s, int i, const void *values, enum dtype d);
/* the source's stream before its first layer */
int repair_run_start(struct repair *r);
/* the source's layer; is_kept: keeps what the slice's layer is fitted to */
int repair_run_source(struct repair *r, int64_t layer, int is_kept);
/* Is the writer the last of the slice's layer? Then it also makes up for what is removed behind. */
int repair_is_last(const struct repair *r, int64_t layer, int w);
/* Fits writer w of the slice's layer, and changes its tensors where they are held. */
int repair_fit(struct repair *r, int64_t layer, int w);

#endif
