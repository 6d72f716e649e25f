/* Perplexities by the conventions of published figures (enum convention): their windows, and what
 * each makes of the losses. */
#ifndef PARE_PUBLISHED_H
#define PARE_PUBLISHED_H

#include <jansson.h>

#include "loss.h"

/* The windows of a convention. context: 0: 2048, or 512 of llama.cpp, but no more than the model's
 * positions; stride: 0: 512, or half of a shorter context. -1: rows, which are no whole documents;
 * no prefix is known that harness could put before them. */
int published_windows(struct window_options *o, enum convention c, int64_t context, int64_t stride,
                      const struct tokens *t, const struct model_spec *h, struct err *e);
/* Adds to a record, after a run with these windows: convention, bos, documents, and
 *
 *   hf-stride  ppl_published: each window but the first weighs one token less, as in the published
 *              code
 *   harness    words, text_bytes, word_perplexity, byte_perplexity and its bits_per_byte
 *   llama.cpp  ppl_error, as if predictions were independent
 *
 * size: of the original text, or NULL: then its bytes are those of the tokens, and its words are
 * not known. */
void published_record(json_t *j, const struct window_options *o, const struct eval *v,
                      const struct tokens *t, const struct eval_sums *s,
                      const struct text_size *size, struct err *e);

#endif
