/* Repair of a cut without training: the matrices that write to the residual stream (o_proj,
 * down_proj) are refitted on calibration text by least squares, layer by layer, so that the stream
 * after each of them is as near as it can be to that of the uncut model at the same place; where
 * layers or half-layers were removed behind it, to that after these.
 *
 * For such a matrix W of the slice, with inputs z and the stream x before it, both computed by the
 * slice as repaired so far, and the uncut model's stream s after it, the change D of W minimises
 *
 *   sum |s - x - (W + D) z|^2 + lambda |D|^2      (least_squares.h)
 *
 * over the tokens. Where inputs of W were removed, this is the closed form of SlimGPT (Ling et al.
 * 2024, arXiv 2412.18110) and FASP (Hu et al. 2025, arXiv 2501.09412), W' = W G[:,kept]
 * (G[kept,kept]
 * + lambda I)^-1 for G = X X^T + lambda I, here with the slice's own inputs and the error that came
 * from the layers before; the ridge draws towards the cut matrix, not towards zero. Where layers
 * were removed behind W it is ReplaceMe (Shopkhoev et al. 2025, arXiv 2505.02819, equation 4): a
 * linear map in their place, folded into the down-projection before them. A bias, where the family
 * has one, takes up what is left in the mean (FLAP, An et al. 2023, arXiv 2312.11983).
 *
 * Where a norm follows the matrix (Gemma 2 and 3, OLMo 2), the stream does not depend linearly on
 * it: then its own output is fitted to that of the uncut model, and removed layers are not
 * replaced. Nothing else is changed: with a smaller hidden size, embeddings, norms and the matrices
 * that read the stream stay as they were cut. */
#ifndef PARE_PRUNE_REPAIR_H
#define PARE_PRUNE_REPAIR_H

#include "../tape/tape.h"
#include "slice.h"

/* Calibration text: sequences one after the other. */
struct repair_text {
    int32_t *ids;
    int64_t tokens, n_seq, *lengths; /* [n_seq] */
};
/* The first sequences of a token stream, up to `most` tokens in all. */
int repair_text_read(struct repair_text *text, struct st_in *in, int64_t most,
                     const struct model_spec *h, struct err *e);
void repair_text_free(struct repair_text *text);

struct repair_result {
    int64_t fitted; /* matrices */
    int64_t fewest; /* the smallest number of tokens for an input of a matrix */
    double left;    /* what is left of the squared differences, mean of the matrices */
};

struct repair;
/* Fitted matrices must be written in f32 where they are stored as q8_0: changes the plan's spec, so
 * call it before the header of the slice is written. */
void repair_plan(struct slice_plan *p);
/* The others are borrowed. Tokens are checked against the vocabulary. */
struct repair *repair_open(struct exec *x, const struct slice_plan *p,
                           const struct model_spec *source, const struct repair_text *text,
                           double ridge, struct err *e);
/* of the device and of the host: models, one layer at a time; activations and sums; the streams */
int64_t repair_bytes(const struct repair *r, int64_t *streams);
/* Reads all tensors of the source, layer by layer, and writes those of the slice. */
typedef int repair_write(void *user, int tensor, const void *values);
int repair_run(struct repair *r, struct model_in *in, repair_write *write, void *user,
               struct repair_result *result);
void repair_close(struct repair *r);

#endif
