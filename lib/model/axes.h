/* The axes of a model, from the rows of axes.def. */
#ifndef PARE_AXES_H
#define PARE_AXES_H

#include <stddef.h>
#include <stdint.h>

enum axis {
    AXIS_NONE,
    AXIS_P,     /* positions: a dimension of tensors, but not a size of the architecture */
    AXIS_ONE,   /* a dimension of one entry */
    MODEL_AXES, /* the first of those of the model; those of layers follow up to AXIS_COUNT */
    AXIS_BEFORE_MODEL = MODEL_AXES - 1,
#define MODEL_AXIS(letter, ...) AXIS_##letter,
#include "axes.def"
    LAYER_AXES,
    AXIS_BEFORE_LAYERS = LAYER_AXES - 1,
#define LAYER_AXIS(letter, ...) AXIS_##letter,
#include "axes.def"
    AXIS_COUNT,
    /* dimensions of tensors, each with the axis that its units belong to */
    DIM_NONE = AXIS_NONE,
    DIM_P = AXIS_P,
    DIM_ONE = AXIS_ONE,
#define MODEL_AXIS(letter, dimension, ...) DIM_##dimension = AXIS_##letter,
#define LAYER_AXIS(letter, dimension, ...) DIM_##dimension = AXIS_##letter,
#include "axes.def"
};

/* A row; the columns are described in axes.def. */
struct axis_row {
    const char *letter, *name;
    size_t offset; /* of the field in struct model_spec or struct layer */
    int64_t most;
    enum axis inside;
    int each; /* its size counts the units in one of `inside`, not in all of them */
    enum axis width;
    int place; /* -1: never cut */
    const char *brief, *option, *help;
};
extern const struct axis_row axis_rows[AXIS_COUNT];

/* May a layer have size 0 along it? Every layer has sizes of attention, even one without it. */
static inline int axis_may_lack(enum axis axis)
{
    return axis >= LAYER_AXES && axis != AXIS_D && axis_rows[axis].width != AXIS_D;
}

#endif
