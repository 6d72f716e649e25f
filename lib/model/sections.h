/* A model whose values come section by section: the tensors before the layers, those of each layer,
 * and those after the last one. Only the values of one section are in memory; and, where the
 * embeddings are the head too, those before the layers until the end. Every tensor is read once, in
 * the order of the spec, so any source will do. */
#ifndef PARE_SECTIONS_H
#define PARE_SECTIONS_H

#include "source.h"

struct exec;
struct model;

/* Sections are numbered as the layers are: SECTION_START, 0..L-1, L. */
enum { SECTION_START = -1 };
/* The section of tensor i, which comes after one of section `before`. */
int64_t model_section_of(const struct model_spec *h, int i, int64_t before);

/* Opens a frozen model without values, to be recorded on a tape, and takes the memory of the
 * largest section, in m->weights. in and x are borrowed. model_free(m) */
int model_open_sections(struct model *m, struct model_in *in, struct exec *x, struct err *e);
/* What that takes on the CPU, where matrices stay as they are stored. */
int64_t model_sections_memory(const struct model_spec *h);
/* Reads the values of the next section, in place of those of the one before; each section in turn.
 * After section L the digest of all values stands in the model's spec. */
int model_section_read(struct model *m, int64_t section, struct err *e);

#endif
