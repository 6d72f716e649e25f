/* How activation sums (acts.h) become scores. */
#ifndef PARE_IMPORTANCE_H
#define PARE_IMPORTANCE_H

#include "acts.h"
#include "weighted.h"

struct score_opts {
    enum aggregate batch, seq;
    const char *neuron; /* neuron_in2, neuron_first, neuron_first_gate, neuron_first_up */
    /* of Mamba heads: mamba_first_x, what is scanned before its convolution (Minitron-SSM,
     * Taghibakhshi et al. 2504.11409); mamba_first_z; mamba_in2. With weights, always mamba_in2 */
    const char *mamba;
    /* 1: L2 over a head's channels at each position (the paper); 0: per channel, then L2 over them
     * (NVIDIA's code) */
    int head_norm;
    /* 1: the final norm is among the norms summed for hidden_size */
    int with_final;
    /* experts: 0: mean, over the positions that one works for, of its weight times the L2 norm of
     * what it gives (REAP, Lasby et al. 2510.13999); 1: the share of those positions */
    int expert_frequency;
    /* what the activations of channels are multiplied by; NULL: nothing */
    const struct column_sums *weights;
};
/* Every axis; layers by block importance 1 - mean cosine. */
int scores_from_acts(struct scores *s, const struct acts *a, const struct score_opts *o,
                     const char *path, struct err *e);
/* blocks first..first+n-1, 1 <= n <= block_size */
double acts_block_importance(const struct acts *a, int64_t first, int64_t n);

#endif
