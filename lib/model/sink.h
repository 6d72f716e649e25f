/* Writing a model stream: the frame of the tool writes the header (model_spec_to_json),
 * model_write_files the files as records, then come the tensors in the spec's order. */
#ifndef PARE_SINK_H
#define PARE_SINK_H

#include "source.h"

int model_write_files(struct st_out *out, const struct model_spec *h, struct model_in *files_from);
/* Every tensor of `in` as it is, after its header and files. 0 or -1. */
int model_copy(struct st_out *out, struct model_in *in);

#endif
