/* Models nested in a larger one: each is some rows and columns of its tensors, as it is of the
 * values of both as MODEL_TRAIN ranges (model.h). */
#ifndef PARE_NESTED_H
#define PARE_NESTED_H

#include "../../kernels/op.h"
#include "spec.h"

struct nested_model {
    char *name;    /* its shape in words, such as "hidden-size=384 intermediate-size=1024" */
    double weight; /* > 0: how often it is drawn, relative to the others */
    struct model_spec spec;
    struct gather_part *parts; /* of the larger model's values; none: it is that model */
    int64_t n_parts;
};
struct nested_list {
    struct nested_model *models;
    int64_t n;
};
void nested_list_free(struct nested_list *l);

#endif
