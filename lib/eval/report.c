/* See report.h. */
#include "report.h"

#include <math.h>
#include <stdlib.h>

#include "../../formats/json.h"
#include "../base/mem.h"
#include "divergence.h"

static void put_estimate(json_t *j, const char *key, struct estimate x)
{
    char error[40];
    snprintf(error, sizeof error, "%s_error", key);
    json_put_number(j, key, x.mean);
    json_put_number(j, error, x.error);
}

/* ---- beside a teacher */

static const double percents[] = {0, 0.1, 1, 5, 10, 25, 50, 75, 90, 95, 99, 99.9, 100};

static json_t *quantiles(const double *sorted, int64_t n)
{
    json_t *j = json_object();
    for (size_t i = 0; i < sizeof percents / sizeof *percents; i++) {
        char key[16];
        snprintf(key, sizeof key, "%g", percents[i]);
        json_put_number(j, key, quantile(sorted, n, percents[i] / 100));
    }
    return j;
}

static void put_agreement(json_t *j, const double same[AGREEMENTS])
{
    for (int i = 0; i < AGREEMENTS; i++) {
        char key[16];
        snprintf(key, sizeof key, "same_top%d", agreement_ranks[i]);
        json_put_number(j, key, same[i]);
    }
}

/* Of the mean KL over windows, as that of the loss. */
static double kl_standard_error(const struct eval *v)
{
    const struct windows *w = eval_windows(v);
    double *kl = mem_alloc((size_t)w->n * sizeof *kl), mean, error;
    int64_t *counts = mem_alloc((size_t)w->n * sizeof *counts), at = 0;
    for (int64_t i = 0; i < w->n; i++) {
        counts[i] = windows_row(w, i).predictions;
        for (int64_t end = at + counts[i]; at < end; at++)
            kl[i] += eval_divergences(v)->of[at][DIVERGENCE_KL];
    }
    eval_statistics(kl, counts, w->n, &mean, &error);
    free(kl);
    free(counts);
    return error;
}

json_t *report_divergences(const struct eval *v)
{
    struct divergence_figures f;
    json_t *j = json_object();
    divergence_figures(&f, eval_divergences(v));
    json_put_number(j, "nll", f.teacher_nll.mean);
    json_put_number(j, "ppl", exp(f.teacher_nll.mean));
    put_estimate(j, "kl", f.kl);
    json_put_number(j, "kl_standard_error", kl_standard_error(v));
    json_object_set_new(j, "kl_percentiles", quantiles(f.sorted_kl, f.n));
    put_agreement(j, (double[]){f.same[0].mean, f.same[1].mean, f.same[2].mean});
    json_put_number(j, "same_top1_error", f.same[0].error);
    put_estimate(j, "ln_ppl_ratio", f.log_ratio);
    json_put_number(j, "nll_correlation", f.correlation);
    put_estimate(j, "delta_p", f.delta_p);
    put_estimate(j, "delta_p_rms", f.delta_p_rms);
    json_object_set_new(j, "delta_p_percentiles", quantiles(f.sorted_delta_p, f.n));
    divergence_figures_free(&f);
    return j;
}

/* ---- sequences */

/* Sums over windows of a sequence. */
struct sums {
    int64_t windows, tokens, predictions, bytes;
    double nll;
};

static void add_window(const struct report_sequences *r, struct sums *s, struct err *e)
{
    const struct windows *w = eval_windows(r->of);
    struct data_row row = windows_row(w, r->window);
    s->windows++;
    s->tokens += data_row_text(&row);
    s->predictions += row.predictions;
    s->nll += eval_window_nll(r->of, r->window);
    s->bytes += windows_part_bytes(w, r->window, 1, e);
}

static json_t *sequence(const struct report_sequences *r, const struct sums *s)
{
    double n = (double)s->predictions, nll = s->nll / n;
    const struct divergences *d = eval_divergences(r->of);
    json_t *j = json_pack("{s:I, s:I, s:I}", r->joined ? "window" : "sequence",
                          (json_int_t)r->sequence, "tokens", (json_int_t)s->tokens, "predictions",
                          (json_int_t)s->predictions);
    json_put_number(j, "nll", nll);
    json_put_number(j, "ppl", exp(nll));
    json_put_number(j, "bits_per_byte", s->bytes > 0 ? s->nll / M_LN2 / (double)s->bytes : NAN);
    if (d) {
        double mean[DIVERGENCE_COLUMNS];
        divergences_mean(d, r->prediction, r->prediction + s->predictions, mean);
        json_put_number(j, "teacher_nll", mean[DIVERGENCE_TEACHER_NLL]);
        json_put_number(j, "kl", mean[DIVERGENCE_KL]);
        put_agreement(j, mean + DIVERGENCE_SAME);
    }
    return j;
}

/* The sequence of the next window. */
static int64_t sequence_of(const struct report_sequences *r)
{
    struct data_row row = windows_row(eval_windows(r->of), r->window);
    int64_t i = r->sequence;
    while (tokens_start(row.from, i + 1) <= row.at)
        i++;
    return i;
}

json_t *report_sequence_next(struct report_sequences *r, struct err *e)
{
    const struct windows *w = eval_windows(r->of);
    struct sums s = {0};
    if (r->window >= w->n)
        return NULL;
    r->sequence = r->joined ? r->window : sequence_of(r);
    do {
        add_window(r, &s, e);
        r->window++;
    } while (!r->joined && r->window < w->n && sequence_of(r) == r->sequence);
    if (e->set)
        return NULL;
    json_t *j = sequence(r, &s);
    r->prediction += s.predictions;
    return j;
}
