/* pick: entries of a distribution, one row of logits after the other: struct pick_params. The row
 * is cut into runs. Its exponentials are walked once, for the sums of the runs; a draw then looks
 * only into its own run. Of the largest entries the smallest so far is a bar, and runs without a
 * logit above it are passed over. Sums of a run are f32, of runs f64. */
#include <math.h>
#include <stdlib.h>

#include "../../lib/base/minmax.h"
#include "../op.h"
#include "vecmath.h"

enum { RUN = 512 };

/* A row: e^(z * inv_temperature - base), summed up to the end of each run. out: a listing. */
struct pick {
    const float *z;
    int64_t V, n;
    float inv_temperature, base;
    double *ends, total;
    const double *uniform;
    int32_t *ids;
    float *log_p;
};

static int64_t runs_of(int64_t V) { return (V + RUN - 1) / RUN; }

/* Exponentials of a run, from entry v on; how many. */
static int64_t run_at(const struct pick *p, int64_t v, float e[RUN])
{
    int64_t n = min64(RUN, p->V - v);
    const float *z = p->z + v;
    float inv_temperature = p->inv_temperature, base = p->base;
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        e[i] = vec_exp_normal(FMA(z[i], inv_temperature, -base));
    return n;
}

/* Sums of all runs; the entries in skipped [n], ascending, do not count. */
static void sum_runs(struct pick *p, const int32_t *skipped, int64_t n)
{
    float e[RUN];
    p->total = 0;
    for (int64_t v = 0, at = 0; v < p->V; v += RUN) {
        int64_t width = run_at(p, v, e);
        float sum = 0;
        for (; at < n && skipped[at] < v + width; at++)
            e[skipped[at] - v] = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < width; i++)
            sum += e[i];
        p->ends[v / RUN] = p->total += (double)sum;
    }
}

/* ---- drawn entries */

/* The entry that the share u of the total falls into; run: where to look first. */
static int32_t entry_at(const struct pick *p, double u, int64_t *run)
{
    float e[RUN];
    double target = u * p->total;
    while (*run < runs_of(p->V) - 1 && p->ends[*run] <= target)
        ++*run;
    double end = *run ? p->ends[*run - 1] : 0;
    int64_t n = run_at(p, *run * RUN, e), i = 0, last = 0;
    for (; i < n && end <= target; i++) {
        end += (double)e[i];
        last = e[i] > 0 ? i : last; /* rounding may leave the target behind the end of the run */
    }
    return (int32_t)(*run * RUN + last);
}

static void draw(struct pick *p)
{
    int64_t run = 0, n = 0;
    sum_runs(p, NULL, 0);
    for (int64_t i = 0, count = 0; i < p->n; i++) {
        int32_t id = entry_at(p, p->uniform[i], &run);
        int is_new = !n || p->ids[n - 1] != id;
        count = is_new ? 1 : count + 1;
        n += is_new;
        p->ids[n - 1] = id;
        p->log_p[n - 1] = (float)log((double)count / (double)p->n);
    }
    for (int64_t i = n; i < p->n; i++) {
        p->ids[i] = INT32_MAX;
        p->log_p[i] = -INFINITY;
    }
    p->log_p[p->n] = isfinite(p->total) ? -INFINITY : NAN;
}

/* ---- the largest entries */

/* a before b: larger, or as large with a lower id */
static int is_before(const float *z, int32_t a, int32_t b)
{
    return a < b ? z[a] >= z[b] : z[a] > z[b];
}

/* Makes a heap of heap [n], the last of the order on top, whole again below `at`. */
static void sift(const float *z, int32_t *heap, int64_t n, int64_t at)
{
    for (int64_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && is_before(z, heap[child], heap[child + 1]))
            child++;
        if (!is_before(z, heap[at], heap[child]))
            return;
        int32_t swap = heap[at];
        heap[at] = heap[child];
        heap[child] = swap;
    }
}

static int compare_ids(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static void select_largest(const struct pick *p)
{
    int32_t *heap = p->ids;
    for (int64_t i = 0; i < p->n; i++)
        heap[i] = (int32_t)i;
    for (int64_t i = p->n / 2; i-- > 0;)
        sift(p->z, heap, p->n, i);
    for (int64_t v = p->n, end; v < p->V; v = end) {
        end = min64(v + RUN, p->V);
        if (vec_largest(p->z + v, end - v) <= p->z[heap[0]])
            continue;
        for (; v < end; v++)
            if (p->z[v] > p->z[heap[0]]) {
                heap[0] = (int32_t)v;
                sift(p->z, heap, p->n, 0);
            }
    }
    qsort(heap, (size_t)p->n, sizeof *heap, compare_ids);
}

/* The largest logit that is not selected; -INFINITY: none. */
static float largest_other(const struct pick *p)
{
    float max = -INFINITY;
    for (int64_t v = 0, end, at = 0; v < p->V; v = end) {
        end = min64(v + RUN, p->V);
        if (at == p->n || p->ids[at] >= end) {
            max = fmaxf(max, vec_largest(p->z + v, end - v));
            continue;
        }
        for (int64_t i = v; i < end; i++)
            if (at < p->n && p->ids[at] == i)
                at++;
            else
                max = fmaxf(max, p->z[i]);
    }
    return max;
}

/* The rest is summed up relative to its own largest: it may be far below the selected ones. */
static void list_largest(struct pick *p)
{
    double top = (double)p->base, inv_temperature = (double)p->inv_temperature, sum = 0;
    select_largest(p);
    float other = largest_other(p);
    p->base = other > -INFINITY ? other * p->inv_temperature : 0;
    sum_runs(p, p->ids, p->n);
    for (int64_t i = 0; i < p->n; i++)
        sum += exp((double)p->z[p->ids[i]] * inv_temperature - top);
    double log_rest = log(p->total) + (double)p->base,
           log_all = top + log(sum + exp(log_rest - top));
    for (int64_t i = 0; i < p->n; i++)
        p->log_p[i] = (float)((double)p->z[p->ids[i]] * inv_temperature - log_all);
    p->log_p[p->n] = (float)(log_rest - log_all);
}

/* ---- rows */

static size_t pick_scratch(const struct op_args *c)
{
    return (size_t)(c->x->threads * runs_of(c->in[0].cols)) * sizeof(double);
}

static void pick_row(const struct op_args *c, int64_t t, double *ends)
{
    const struct pick_params *params = &c->p.pick;
    int64_t n = params->n, V = c->in[0].cols;
    int32_t *ids = (int32_t *)params->out + t * (2 * n + 1);
    struct pick p = {.z = (const float *)c->in[0].v + t * V,
                     .V = V,
                     .n = n,
                     .inv_temperature = 1 / params->temperature,
                     .ends = ends,
                     .ids = ids,
                     .log_p = (float *)ids + n};
    p.base = vec_largest(p.z, V) * p.inv_temperature;
    if (params->uniform) {
        p.uniform = params->uniform + t * n;
        draw(&p);
    } else {
        list_largest(&p);
    }
}

static void pick_fwd(const struct op_args *c)
{
    int64_t runs = runs_of(c->in[0].cols), shares = c->x->threads;
#pragma omp parallel for schedule(static, 1) num_threads(c->x->threads)
    for (int64_t i = 0; i < shares; i++)
        for (int64_t t = c->rows * i / shares; t < c->rows * (i + 1) / shares; t++)
            pick_row(c, t, (double *)c->scratch + i * runs);
}

const struct kernel pick_cpu = {.forward = pick_fwd, .scratch = pick_scratch};
