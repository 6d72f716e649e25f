/* What a model costs to hold and to run, from its spec alone: sizes and the kinds of its layers.
 * Neither weights nor the list of tensors are needed, so a shape can be judged before it is made.
 *
 * Formulas, for a token of a model with layers l, and n positions of context:
 *   attended(l)     min(n, window of l): the keys that the last of n positions attends to
 *   kv_bytes        sum over layers with attention of 2 K D attended(l) values: keys and values of
 *                   the KV heads (Shazeer 1911.02150; grouped: Ainslie et al. 2305.13245); and over
 *                   Mamba-2 layers of 4 bytes for each of the M R Z values of the states and of the
 *                   W - 1 last inputs of the convolution, of M R + 2 G Z channels (Dao and
 *                   Gu 2405.21060)
 *   decode_flops    2 for each entry of a matrix that multiplies the token, and in layers with
 *                   attention 4 H D attended(l), for q k and for the mixture of v (Kaplan et
 *                   al. 2001.08361, table 1); in
 *                   Mamba-2 layers 5 M R Z, for decay, update and reading of the states
 *   prefill_flops   the same, with the mean of attended(l) over the positions 1..n: with
 *                   w = attended(l), (w (w + 1) / 2 + (n - w) w) / n
 * A multiplication with its addition is 2 FLOPs. Norms, activations, rotations and the softmax are
 * left out, as in the paper. Every token passes the output head, as in evaluation and training; a
 * server that needs only the last token's logits does less. A training step takes three times
 * prefill_flops. */
#ifndef PARE_FOOTPRINT_H
#define PARE_FOOTPRINT_H

#include "spec.h"

/* The longest context, so that no sum exceeds 63 bits. */
enum { FOOTPRINT_CONTEXT = 1 << 24 };

struct footprint_options {
    /* f64, f32, f16, bf16, or q8_0: then matrices whose rows are whole blocks of 32 take 34 bytes a
     * block, other matrices are f16, vectors f32 (dtypes.h) */
    enum dtype weights;
    /* of keys and values, the same choice; q8_0: each head in blocks of its own */
    enum dtype cache;
    int64_t context; /* 1..FOOTPRINT_CONTEXT positions */
};

struct footprint {
    /* tied embeddings count once */
    int64_t parameters;
    /* without tables that have a row for every token or position: embeddings, an untied head */
    int64_t non_embedding;
    /* those that take part in one token: of a table that is only looked up (embeddings whose head
     * is untied, positions) one row, of the matrices of experts those of as many as work for a
     * token, of anything else all */
    int64_t active;
    int64_t weight_bytes, active_bytes; /* of parameters and active */
    int64_t kv_bytes;                   /* of one sequence at the whole context */
    double prefill_flops, decode_flops; /* a token: mean over the context; at its end */
};

/* How many of a tensor's rows take part in one token: one of a table that is only looked up; of
 * experts, those of as many as work for a token. */
int64_t footprint_rows_used(const struct model_spec *h, const struct family_tensor *t,
                            int64_t layer, int64_t rows);
struct footprint model_footprint(const struct model_spec *h, const struct footprint_options *o);

#endif
