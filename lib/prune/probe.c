/* Layer probes: see probe.h. */
#include "probe.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../base/minmax.h"
#include "../base/turns.h"
#include "../eval/eval.h"
#include "walk.h"

const struct probe_way probe_ways[PROBE_WAYS] = {
    [PROBE_NLL] = {"loss", "nats/token", "nll", 1},
    [PROBE_KL] = {"kl", "KL", "kl", 1},
    [PROBE_ACCURACY] = {"accuracy", "accuracy", "acc", -1}};

int probe_way_find(const char *name)
{
    for (int i = 0; i < PROBE_WAYS; i++)
        if (!strcmp(name, probe_ways[i].name))
            return i;
    return -1;
}

double probe_harm(enum probe_by by, double value, double base)
{
    return probe_ways[by].harm * (value - base);
}

/* ---- on windows */

static double sum_of(const struct probe *p, const struct walk_sums *s)
{
    return p->by == PROBE_KL ? s->kl : s->nll;
}

/* Sums of a batch: without the blocks that begin at `layer`. */
static int probe_from(const struct probe *p, struct walk *k, int64_t layer, double *without,
                      struct err *e)
{
    struct walk_sums sums;
    for (int64_t n = p->shortest; n <= p->longest && layer + n <= p->layers; n++) {
        if (walk_skip(k, layer + n, &sums, e))
            return -1;
        without[(n - 1) * p->layers + layer] = sum_of(p, &sums);
    }
    return walk_pass(k, layer, e);
}

/* batch: [1 + longest * layers], zeros: the sum of the whole model, then as in p->without. */
static int probe_batch(const struct probe *p, struct walk *k, int64_t first, double *batch,
                       struct err *e)
{
    struct walk_sums sums;
    if (walk_begin(k, first, &sums, e))
        return -1;
    batch[0] = sum_of(p, &sums);
    for (int64_t l = 0; l < p->layers; l++)
        if (probe_from(p, k, l, batch + 1, e))
            return -1;
    return 0;
}

/* Sums of all batches, in their order, whoever has run them. */
static int probe_means(struct probe *p, double *sums, int64_t batches, struct err *e)
{
    int64_t n = p->longest * p->layers;
    if (turns_join(sums, batches * (1 + n), e))
        return -1;
    for (int64_t b = 0; b < batches; b++, sums += 1 + n) {
        p->base += sums[0];
        for (int64_t i = 0; i < n; i++)
            p->without[i] += sums[1 + i];
    }
    p->base /= (double)p->predictions;
    for (int64_t i = 0; i < n; i++)
        p->without[i] /= (double)p->predictions;
    return 0;
}

/* sums: of each batch, see probe_batch */
static int probe_batches(struct probe *p, struct walk *k, const struct probe_text *on, double *sums,
                         struct err *e)
{
    int64_t batch = 0, each = k->spec.n_seq;
    for (int64_t done = 0; done < on->w->n; done += each, batch++) {
        double *of = sums + batch * (1 + p->longest * p->layers);
        if (turn_is_mine(batch) && probe_batch(p, k, done, of, e))
            return -1;
        if (on->progress)
            on->progress(on->user, min64(done + each, on->w->n), on->w->n);
    }
    return probe_means(p, sums, batch, e);
}

static int run_windows(struct probe *p, struct model *m, const struct probe_text *on, struct err *e)
{
    struct walk k;
    double *sums = NULL;
    enum tape_end end = p->by == PROBE_KL ? TAPE_LOGITS : TAPE_LOSS;
    int failed = walk_plan(&k, on->x, m, on->w, on->batch_size, end, e);
    k.reference = p->whole;
    p->predictions = on->w->predictions;
    if (on->progress)
        on->progress(on->user, 0, on->w->n);
    if (!failed && !(failed = walk_open(&k, e))) {
        int64_t batches = (on->w->n + k.spec.n_seq - 1) / k.spec.n_seq;
        sums = mem_alloc((size_t)(batches * (1 + p->longest * p->layers)) * sizeof *sums);
        failed = probe_batches(p, &k, on, sums, e);
    }
    free(sums);
    walk_close(&k);
    return failed ? -1 : 0;
}

/* ---- on items */

struct item_progress {
    const struct probe_text *on;
    int64_t runs, all;
};

static void on_items(void *user, int64_t done, int64_t tokens)
{
    const struct item_progress *i = user;
    if (i->on->progress)
        i->on->progress(i->on->user, i->runs * tokens + done, i->all * tokens);
}

static int accuracy(double *to, struct model *m, int64_t first, int64_t without,
                    struct item_progress *i, struct err *e)
{
    struct choice_run o = {i->on->batch_size, without, first};
    struct choice_scores s;
    if (choices_run(i->on->choices, i->on->x, m, &o, on_items, i, e))
        return -1;
    choices_scores(i->on->choices, NULL, &s);
    *to = s.acc[BY_SUM].mean;
    i->runs++;
    return 0;
}

static int run_items(struct probe *p, struct model *m, const struct probe_text *on, struct err *e)
{
    struct item_progress progress = {.on = on, .all = 1};
    for (int64_t n = p->shortest; n <= p->longest; n++)
        progress.all += p->layers - n + 1;
    if (accuracy(&p->base, m, 0, 0, &progress, e))
        return -1;
    for (int64_t n = p->shortest; n <= p->longest; n++)
        for (int64_t i = 0; i + n <= p->layers; i++)
            if (accuracy(&p->without[(n - 1) * p->layers + i], m, i, n, &progress, e))
                return -1;
    return 0;
}

int probe_run(struct probe *p, struct model *m, const struct probe_text *on, struct err *e)
{
    p->layers = m->spec.num_hidden_layers;
    p->without = mem_alloc((size_t)(p->longest * p->layers) * sizeof *p->without);
    return p->by == PROBE_ACCURACY ? run_items(p, m, on, e) : run_windows(p, m, on, e);
}

void probe_scores(const struct probe *p, double *scores)
{
    int64_t n = p->shortest;
    for (int64_t l = 0; l < p->layers; l++) {
        scores[l] = INFINITY;
        for (int64_t i = l - n + 1 < 0 ? 0 : l - n + 1; i <= l && i + n <= p->layers; i++)
            scores[l] = fmin(scores[l],
                             probe_harm(p->by, p->without[(n - 1) * p->layers + i], p->base));
    }
}

void probe_close(struct probe *p)
{
    free(p->without);
    *p = (struct probe){0};
}
