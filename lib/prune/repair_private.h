/* Inside of repair:
 *
 *   repair.c          the tensors in and out, layer by layer; memory
 *   repair_fit.c      which matrices; running a layer of either model; fitting
 *   repair_experts.c  fitting the matrices of a mixture of experts
 */
#ifndef PARE_REPAIR_PRIVATE_H
#define PARE_REPAIR_PRIVATE_H

#include "least_squares.h"
#include "repair.h"

/* tokens of a batch, unless a sequence is longer; matrices of a family that are fitted */
enum { BATCH = 1024, WRITERS = 4 };

/* The experts of a layer of the slice, and what they do with the text. What they write for a token
 * is linear in the matrices of all that work for it, so these are fitted together: to minimise
 *
 *   sum over tokens |missing - sum over experts of p D h|^2 + sum over experts of lambda |D|^2
 *
 * with p an expert's weight, h its neurons, D [hidden, neurons] its change, and lambda as in
 * least_squares.h, of the inputs p h of all experts, so that one with few tokens changes little.
 * One expert is fitted after the other while the changes of the others stay, EXPERT_SWEEPS times
 * (block coordinate descent). An expert that works for no token stays as it is. */
enum { EXPERT_SWEEPS = 2 };
struct experts {
    int64_t count, top, neurons, hidden, tokens;
    float *weights;       /* [tokens, count]; 0: the expert does not work for the token */
    float *inputs;        /* [tokens, top * neurons]: h of a token's experts, in ascending order */
    float *missing;       /* [tokens, hidden]: becomes what the changes leave of it */
    double *change;       /* [count, hidden, neurons] */
    double squares, left; /* of `missing`, before and after */
    double scale;         /* of the inputs of all experts */
    int64_t fewest;       /* tokens of the expert that works for the fewest but not for none */
    int64_t batch;        /* working memory for that many tokens: */
    float *z, *r;         /* [batch, neurons], [batch, hidden] */
    int64_t *taken;       /* [batch] */
    struct arena memory;
};
/* What a tap copies to, if not NULL: [rows of a batch, columns]. */
struct side {
    struct model m;
    struct tape *tape;
    struct arena there;                /* weights of a layer, in device memory */
    float *stream;                     /* [tokens, E] before the current layer */
    float *in[WRITERS], *out[WRITERS]; /* of the writers of the layer that runs */
    float *weights;                    /* of the experts: [rows, X] */
};

struct repair {
    struct exec *x;
    const struct slice_plan *p;
    const struct model_spec *from; /* as stored */
    const struct repair_io *io;
    const struct repair_text *text;
    double ridge;
    struct err *e;
    /* The lines of a block that write hidden channels by a matrix: linear ones, and mixtures. */
    const struct family_line *writers[WRITERS];
    int n_writers;
    struct side source, slice;
    int64_t longest, at_once; /* tokens of a sequence; sequences of a batch */
    struct arena memory;
    /* [tokens, E] of the source's layer: what its attention writes, and what others do that are
     * fitted to it; else NULL */
    float *written[WRITERS];
    float *z, *y, *r; /* of a batch: inputs and outputs of a matrix; what is to be fitted */
    struct experts experts;
    unsigned char *whole; /* a tensor of the source */
    struct arena held;    /* tensors of a layer of the slice, */
    void **values;        /* of each tensor of the slice: where it is held */
    int next, first, end; /* tensor of the source to be read; those of the slice that are held */
    unsigned changed;     /* kinds of which the layer that is held has lost units */
    struct repair_result result;
};

/* repair_fit.c; those that can fail: 0, or -1 with the error set */
void repair_find_writers(struct repair *r);
int repair_has_writer(const struct repair *r, const struct model_spec *h, int64_t layer, int w);
/* Is it the last of the slice's layer, and nothing but the addition to the stream follows? Then it
 * is fitted to all that the uncut model adds before the slice's next layer begins. */
int repair_makes_up(const struct repair *r, int64_t layer, int w);
/* tensor `what` ("weight", "bias") of a stem of a layer; -1: absent */
int repair_tensor(const struct model_spec *h, int64_t layer, const char *stem, const char *what);
int repair_taps_add(struct repair *r, struct side *s);
/* Gives a tensor its values, stored as type d; a tensor of the layer that is in memory. */
void repair_lend(struct repair *r, struct side *s, int i, const void *values, enum dtype d);
/* the source's stream before its first layer */
int repair_run_start(struct repair *r);
/* the source's layer; is_kept: keeps what the slice's layer is fitted to */
int repair_run_source(struct repair *r, int64_t layer, int is_kept);
/* Fits writer w of the slice's layer, and changes its tensors where they are held. */
int repair_fit(struct repair *r, int64_t layer, int w);

/* repair_experts.c. Sizes are given: the largest there will be. */
int64_t experts_bytes(const struct experts *x);
int experts_open(struct experts *x, struct err *e);
void experts_close(struct experts *x);
/* change, squares, left, fewest and what is left of `missing`, from the rest. -1: as
 * least_squares_solve, naming the expert. */
int experts_fit(struct experts *x, double ridge, struct err *e);

#endif
