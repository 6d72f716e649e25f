/* Depth: what a model loses without each layer, or without each contiguous block of layers. The
 * layers before a block are computed once for all blocks that begin there, so L single layers cost
 * about L/2 forward passes. */
#ifndef PARE_PROBE_H
#define PARE_PROBE_H

#include "../data/data.h"
#include "../tape/tape.h"

/* By what a model without layers is judged: the mean loss, or how far its predictions are from
 * those of the whole model, KL(whole || without); both in nats. */
enum probe_by { PROBE_NLL, PROBE_KL };

struct probe {
    enum probe_by by;
    /* block lengths probed, 1 <= shortest <= longest < layers */
    int64_t layers, shortest, longest;
    int64_t predictions;
    double base; /* of the whole model */
    /* [longest, layers]: entry [n-1, i] is that without layers i..i+n-1; 0 where not probed or
     * i+n > layers */
    double *without;
};
typedef void probe_progress(void *user, int64_t done, int64_t rows);
/* batch_size: windows per batch; 0: as many as make about 1024 tokens */
int probe_run(struct probe *p, struct exec *x, struct model *m, const struct windows *w,
              int64_t batch_size, probe_progress *progress, void *user, struct err *e);
/* A layer's score, [layers]: the increase without it; with shortest == longest > 1, the
 * smallest increase among the blocks that contain it, so that the layers ranked last are the best
 * block. */
void probe_scores(const struct probe *p, double *scores);
void probe_close(struct probe *p);

#endif
