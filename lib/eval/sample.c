/* Sampling: see sample.h. */
#include "sample.h"

#include <stdlib.h>

#include "../base/mem.h"

struct sample_entry {
    double p;
    int64_t id;
};

void sample_open(struct sampler *s, double temperature, double top_p, int64_t top_k, int64_t n)
{
    *s = (struct sampler){.temperature = temperature, .top_p = top_p, .top_k = top_k, .n = n};
    s->entries = mem_alloc((size_t)n * sizeof *s->entries);
}

void sample_close(struct sampler *s)
{
    free(s->entries);
    s->entries = NULL;
}

static int64_t largest(const float *logits, int64_t n)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (logits[i] > logits[best] || (isnan(logits[best]) && !isnan(logits[i])))
            best = i;
    return best;
}

/* Most probable first, equal ones by id. */
static int compare_entries(const void *a, const void *b)
{
    const struct sample_entry *x = a, *y = b;
    if (x->p != y->p)
        return x->p < y->p ? 1 : -1;
    return (x->id > y->id) - (x->id < y->id);
}

/* The entries that may be drawn, *mass their total probability; returns how many. */
static int64_t sample_candidates(const struct sampler *s, const float *logits, double *mass)
{
    struct sample_entry *p = s->entries;
    double best = logits[largest(logits, s->n)], total = 0;
    for (int64_t i = 0; i < s->n; i++) {
        p[i] = (struct sample_entry){
            isnan(logits[i]) ? 0 : exp((logits[i] - best) / s->temperature), i};
        total += p[i].p;
    }
    *mass = total;
    if (s->top_p >= 1 && !s->top_k)
        return s->n;
    qsort(p, (size_t)s->n, sizeof *p, compare_entries);
    int64_t keep = s->top_k && s->top_k < s->n ? s->top_k : s->n, n = 0;
    total = 0;
    for (int64_t i = 0; i < keep; i++)
        total += p[i].p;
    for (*mass = 0; n < keep && *mass < s->top_p * total; n++)
        *mass += p[n].p;
    return n;
}

int64_t sample_token(const struct sampler *s, struct rng *rng, const float *logits)
{
    if (s->temperature <= 0)
        return largest(logits, s->n);
    double mass;
    int64_t n = sample_candidates(s, logits, &mass), i = 0;
    for (double left = rng_uniform(rng) * mass; i < n - 1; i++) {
        left -= s->entries[i].p;
        if (left < 0)
            break;
    }
    return s->entries[i].id;
}
