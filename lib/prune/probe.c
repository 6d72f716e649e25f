/* Layer probes: see probe.h. */
#include "probe.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "walk.h"

const struct probe_way probe_ways[PROBE_WAYS] = {
    [PROBE_NLL] = {"loss", "nats/token", "nll"}, [PROBE_KL] = {"kl", "KL", "kl"}};

int probe_way_find(const char *name)
{
    for (int i = 0; i < PROBE_WAYS; i++)
        if (!strcmp(name, probe_ways[i].name))
            return i;
    return -1;
}

static double sum_of(const struct probe *p, const struct walk_sums *s)
{
    return p->by == PROBE_KL ? s->kl : s->nll;
}

static int probe_from(struct probe *p, struct walk *k, int64_t layer, struct err *e)
{
    struct walk_sums sums;
    for (int64_t n = p->shortest; n <= p->longest && layer + n <= p->layers; n++) {
        if (walk_skip(k, layer + n, &sums, e))
            return -1;
        p->without[(n - 1) * p->layers + layer] += sum_of(p, &sums);
    }
    return walk_pass(k, layer, e);
}

static int probe_batch(struct probe *p, struct walk *k, int64_t first, struct err *e)
{
    struct walk_sums sums;
    if (walk_begin(k, first, &sums, e))
        return -1;
    p->predictions += k->predictions;
    p->base += sum_of(p, &sums);
    for (int64_t l = 0; l < p->layers; l++)
        if (probe_from(p, k, l, e))
            return -1;
    return 0;
}

static void probe_means(struct probe *p)
{
    p->base /= (double)p->predictions;
    for (int64_t i = 0; i < p->longest * p->layers; i++)
        p->without[i] /= (double)p->predictions;
}

int probe_run(struct probe *p, struct model *m, const struct probe_text *on, struct err *e)
{
    struct walk k;
    enum tape_end end = p->by == PROBE_KL ? TAPE_LOGITS : TAPE_LOSS;
    p->layers = m->spec.num_hidden_layers;
    p->without = mem_alloc((size_t)(p->longest * p->layers) * sizeof *p->without);
    int failed = walk_plan(&k, on->x, m, on->w, on->batch_size, end, e);
    k.reference = p->whole;
    failed = failed || walk_open(&k, e);
    for (int64_t done = 0; !failed && done < on->w->n; done += k.batch.b.n_seq) {
        failed = probe_batch(p, &k, done, e);
        if (!failed && on->progress)
            on->progress(on->user, done + k.batch.b.n_seq, on->w->n);
    }
    probe_means(p);
    walk_close(&k);
    return failed ? -1 : 0;
}

void probe_scores(const struct probe *p, double *scores)
{
    int64_t n = p->shortest;
    for (int64_t l = 0; l < p->layers; l++) {
        scores[l] = INFINITY;
        for (int64_t i = l - n + 1 < 0 ? 0 : l - n + 1; i <= l && i + n <= p->layers; i++)
            scores[l] = fmin(scores[l], p->without[(n - 1) * p->layers + i] - p->base);
    }
}

void probe_close(struct probe *p)
{
    free(p->without);
    *p = (struct probe){0};
}
