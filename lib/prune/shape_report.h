/* What a shape costs, as a JSON object and as a row of a table. */
#ifndef PARE_SHAPE_REPORT_H
#define PARE_SHAPE_REPORT_H

#include <stdio.h>

#include "../eval/eval.h"
#include "../model/model.h"

struct shape_report {
    struct footprint source; /* of the model, at these dtypes and context */
    struct footprint_options at;
    struct speed_rates rates; /* of the machine that will run it; 0: not known */
    struct speed measured;    /* of the shape; 0: not measured */
    int vocab;                /* does the table show the vocabulary? */
};

/* Sizes (per-layer ones that differ as text for options), counts, bytes and FLOPs of the footprint;
 * how much faster than the source it should be: prefill_speedup by FLOPs, decode_speedup by the
 * bytes that a token reads at the end of the context (weights and keys and values); tokens a second
 * predicted where the machine is known (speed_predict), and measured; hf_export_refuses if it
 * would, and why; `options` of slice-model. New reference. shape: sizes and layers; its config and
 * tensors may be the source's. */
json_t *shape_json(const struct shape_report *r, const struct model_spec *shape,
                   const struct footprint *f, const char *options);
/* 80 columns, and a column for the vocabulary if it is shown, and for each axis of mixtures of
 * experts and of Mamba layers that the family has; speeds are tokens a second if they are measured
 * or else predicted, marked /s, or how many times those of the source, marked x. */
void shape_table_head(FILE *to, const struct shape_report *r, const struct model_spec *h);
void shape_table_row(FILE *to, const struct shape_report *r, const struct model_spec *shape,
                     const struct footprint *f);

#endif
