/* How fast a model runs: measured on tokens that are drawn, and predicted from its footprint and
 * from what the device reaches at best. */
#ifndef PARE_SPEED_H
#define PARE_SPEED_H

#include "../tape/tape.h"

struct speed_options {
    int64_t context; /* tokens of the text, at least 2 */
    double seconds; /* to measure for, at least; each measurement is repeated three times or more */
};
/* Tokens a second of one text: prefill is a forward pass over all of it at once, head included, as
 * in evaluation; decode is generation of the token that makes it `context` long. */
struct speed {
    double prefill, decode; /* medians */
    int64_t state_bytes;    /* of keys, values and all else that generation holds besides weights */
    int64_t memory;         /* speed_memory() while generating */
};
/* The model is in the memory of the device. */
int speed_measure(struct speed *s, struct exec *x, struct model *m, const struct speed_options *o,
                  struct err *e);
/* The same of a model of that shape with random values of that type (model_random), which is loaded
 * and released. -1 also: it would not fit into memory. */
int speed_measure_shape(struct speed *s, struct exec *x, const struct model_spec *shape,
                        enum dtype weights, const struct speed_options *o, struct err *e);
/* Memory in use: of the process on the CPU, else of the device. Only differences are meaningful. */
int64_t speed_memory(struct exec *x);

/* What the device reaches: FLOPs a second of a large matrix product, and bytes a second of weights
 * of that type that are read for one token; each measured for that many seconds. */
struct speed_rates {
    double flops, bytes;
};
int speed_rates(struct speed_rates *r, struct exec *x, enum dtype weights, double seconds,
                struct err *e);
/* Tokens a second if nothing but the products, or reading weights, keys and values, took any time,
 * whichever is slower (the roofline of Williams et al. 2009): prefill reads the weights once for
 * the whole context. Bounds that a model comes near to if it is large. */
void speed_predict(struct speed *s, const struct footprint *f, int64_t context,
                   const struct speed_rates *r);

#endif
