/* The config.json of an exported directory. */
#ifndef PARE_HF_CONFIG_H
#define PARE_HF_CONFIG_H

#include "../model/model.h"

/* Rewrites h->config (h: the exporter's own copy) so that transformers' class for it computes this
 * model. Where the class is narrower than the function, the same function is written as a twin:
 * another model_type, h->family then being the family that stores the tensors, and `note` says so.
 * dtype: of the weights. Refused, naming the shapes that would work: models that no class can say.
 */
int hf_config_write(struct model_spec *h, enum dtype dtype, char note[400], struct err *e);

#endif
