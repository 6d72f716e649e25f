/* What a shape costs, as a JSON object and as a row of a table. */
#ifndef PARE_SHAPE_REPORT_H
#define PARE_SHAPE_REPORT_H

#include <stdio.h>

#include "../model/model.h"

struct shape_report {
    struct footprint source; /* of the model, at these dtypes and context */
    struct footprint_options at;
    double bandwidth, flops; /* of a machine, bytes and FLOPs a second; 0: not known */
};

/* Sizes (per-layer ones that differ as text for options), counts, bytes and FLOPs of the footprint;
 * how much faster than the source it should be: prefill_speedup by FLOPs, decode_speedup by the
 * bytes that a token reads at the end of the context (weights and keys and values); tokens a second
 * where the machine is known, in decoding the lower of what bandwidth and FLOPs allow (roofline,
 * Williams et al. 2009), for one sequence; hf_export_refuses if it would, and why; `options` of
 * slice-model. New reference. shape: sizes and layers; its config and tensors may be the
 * source's. */
json_t *shape_json(const struct shape_report *r, const struct model_spec *shape,
                   const struct footprint *f, const char *options);
/* 80 columns; speeds are those of shape_json relative to the source. */
void shape_table_head(FILE *to);
void shape_table_row(FILE *to, const struct shape_report *r, const struct model_spec *shape,
                     const struct footprint *f);

#endif
