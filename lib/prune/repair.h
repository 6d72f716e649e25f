/* Repair of a cut without training: the matrices whose outputs are added to the hidden state
 * (o_proj, down_proj, the matrices of experts) are refitted by least squares on calibration text,
 * layer by layer.
 *
 * Each layer of the slice is run on the uncut model's hidden states before it. For a matrix W of
 * it, with inputs z, and y what the uncut model adds there, the change D of W (and of its bias, c)
 * minimises
 *
 *   sum |y - (W + D) z - c|^2 + lambda |D|^2      (least_squares.h)
 *
 * over the tokens. Where only inputs of W were removed, y = V x for the uncut matrix V and its
 * inputs x, and with G = sum x x^T + lambda I this is W + D = V G[:,kept] G[kept,kept]^-1: the
 * closed form of Optimal Brain Surgeon that SlimGPT (Ling et al. 2024, arXiv 2412.18110) and FASP
 * (Hu et al. 2025, arXiv 2501.09412) use. The ridge draws towards the cut matrix, not towards zero.
 * The last matrix of a layer behind which layers were removed, or that lost a half, is fitted to
 * all that the uncut model adds before the next layer of the slice begins, as in ReplaceMe
 * (Shopkhoev et al. 2025, arXiv 2505.02819), whose linear map T makes up for removed blocks as T W
 * in place of W; here D is any matrix, which is no worse and takes no other path than a cut. Biases
 * exist where the family has them; with D = 0, c would be the compensation of FLAP (An et al. 2023,
 * arXiv 2312.11983).
 *
 * Of a mixture of experts, y is what all experts together write of a token, and D is one for each:
 * experts_fit in repair_private.h. So the experts that stay are fitted to what removed ones wrote
 * of the tokens that now come to them.
 *
 * Only matrices whose layer and half lost units are refitted: sorting loses none. Where a norm
 * follows them (Gemma 2 and 3, OLMo 2) or an expert that works for every token is gated
 * (Qwen2-MoE), what is added does not depend linearly on them: they are fitted to their own outputs
 * in the uncut model, and nothing makes up for removed layers; nor does anything for layers removed
 * before the first that stays. With a smaller hidden size, the kept outputs are refitted;
 * embeddings, norms and the matrices that read the hidden state stay as they were cut. Fitted
 * matrices are rounded to the dtypes of the slice. */
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
    int64_t fitted;          /* matrices; those of a mixture of experts count as one */
    double tokens_per_input; /* of the matrix with the fewest */
    double left;             /* what is left of the squared differences, mean of the matrices */
};

struct repair;
/* All but e are borrowed. Tokens are checked against the vocabulary. */
struct repair *repair_open(struct exec *x, const struct slice_plan *p,
                           const struct model_spec *source, const struct repair_text *text,
                           double ridge, struct err *e);
struct repair_memory {
    int64_t device;  /* a layer of both models and its activations */
    int64_t host;    /* tensors as they are stored, the sums of a matrix */
    int64_t states;  /* hidden states of all tokens, on the host */
    int64_t experts; /* what the experts of a layer do with all tokens, on the host */
};
struct repair_memory repair_memory(const struct repair *r);
/* All tensors, each once: 0, or -1 with the error set. read: tensor i of the source, in order, into
 * `whole`, and what the plan keeps of it into `kept` (NULL: its layer is dropped); write: tensor i
 * of the slice, in order. */
struct repair_io {
    int (*read)(void *user, int i, void *whole, void *kept);
    int (*write)(void *user, int i, const void *values);
    void *user;
};
int repair_run(struct repair *r, const struct repair_io *io, struct repair_result *result);
void repair_close(struct repair *r);

#endif
