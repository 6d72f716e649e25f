/* The config.json of an exported directory. */
#ifndef PARE_HF_CONFIG_H
#define PARE_HF_CONFIG_H

#include "../model/model.h"

/* Rewrites h->config (h: the exporter's own copy) so that transformers' class for it computes this
 * model. Where the class is too narrow, the model is written as a twin, another model_type that
 * computes the same function; h->family becomes the family that stores the tensors, and `note` says
 * so. dtype: of the weights. Models that no class can express are refused, with the shapes that
 * would work. */
int hf_config_write(struct model_spec *h, enum dtype dtype, char note[400], struct err *e);

#endif
