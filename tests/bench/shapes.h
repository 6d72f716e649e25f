/* The models of the bench's rows. */
#ifndef PARE_SHAPES_H
#define PARE_SHAPES_H

#include "../../lib/model/model.h"

/* A Llama or, with blocks, a Nemotron-H whose layers these letters name (hybrid_override_pattern).
 * B sequences of T tokens; on a device B_gpu of T_gpu, 0: the same. */
struct shape {
    const char *name;
    int64_t E, L, H, K, D, F, V, B, T, B_gpu, T_gpu, untied;
    const char *blocks;
};

/* NULL: there is none of this name */
const struct shape *shape_find(const char *name);
int shape_spec(struct model_spec *h, const struct shape *s, struct err *e);

#endif
