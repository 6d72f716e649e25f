/* See held_out.h. */
#include "held_out.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../formats/json.h"
#include "rows.h"

/* The model that is opened first and closed last: its memory is used by the others. */
static int64_t first_of(const struct trainer *t)
{
    return t->nested ? nested_largest(t->nested) : 0;
}

int held_out_open(struct held_out *h, struct trainer *t, const struct tokens *text, struct err *e)
{
    struct eval_options o = {.teacher.model = t->teacher};
    if (rows_cut(&o.windows, text, t->o.seq_length, &t->student->spec,
                 t->teacher ? &t->teacher->spec : NULL, e))
        return -1;
    int64_t n = t->nested ? t->o.nested.n : 1, first = first_of(t);
    *h = (struct held_out){.t = t, .n = n};
    h->of = mem_alloc((size_t)n * sizeof(struct eval *));
    h->figures = mem_alloc((size_t)n * sizeof *h->figures);
    for (int64_t k = 0; k < n; k++) {
        int64_t i = (first + k) % n;
        struct model *m = t->nested ? nested_model(t->nested, i) : t->student;
        if (!(h->of[i] = eval_open(t->x, m, text, &o, e)))
            return -1;
        o.beside = h->of[first];
    }
    return 0;
}

int64_t held_out_bytes(const struct held_out *h)
{
    int64_t bytes = 0;
    for (int64_t i = 0; i < h->n; i++)
        bytes += eval_bytes(h->of[i]);
    return bytes;
}

static int run(struct held_out *h, int64_t i, struct err *e)
{
    struct eval_sums sums;
    double mean[DIVERGENCE_COLUMNS];
    if (h->t->nested)
        nested_enter(h->t->nested, i);
    if (eval_run(h->of[i], &sums, NULL, NULL, e))
        return -1;
    h->figures[i] = (struct held_out_figures){sums.nll, NAN, NAN};
    const struct divergences *d = eval_divergences(h->of[i]);
    if (!d)
        return 0;
    divergences_mean(d, 0, d->n, mean);
    h->figures[i].kl = mean[DIVERGENCE_KL];
    h->figures[i].top1 = mean[DIVERGENCE_SAME];
    return 0;
}

/* Figures of all models, which lie `sizeof *h->figures` apart. */
static void put(const struct held_out *h, json_t *line, const char *key, const double *of)
{
    enum { STEP = sizeof(struct held_out_figures) / sizeof(double) };
    if (!h->t->nested) {
        json_put_number(line, key, *of);
        return;
    }
    json_t *all = json_object();
    for (int64_t i = 0; i < h->n; i++)
        json_put_number(all, h->t->o.nested.models[i].name, of[i * STEP]);
    json_object_set_new(line, key, all);
}

int held_out_run(struct held_out *h, json_t *line, struct err *e)
{
    for (int64_t i = 0; i < h->n; i++)
        if (run(h, i, e))
            return -1;
    h->was_run = 1;
    put(h, line, "eval_nll", &h->figures->nll);
    if (h->t->teacher) {
        put(h, line, "eval_kl", &h->figures->kl);
        put(h, line, "eval_top1", &h->figures->top1);
    }
    return 0;
}

void held_out_describe(const struct held_out *h, int64_t i, char text[80])
{
    const struct held_out_figures *f = &h->figures[i];
    if (h->t->teacher)
        snprintf(text, 80, "held out %.4f, KL %.4f, top-1 %.1f %%", f->nll, f->kl, 100 * f->top1);
    else
        snprintf(text, 80, "held out %.4f", f->nll);
}

void held_out_close(struct held_out *h)
{
    for (int64_t k = h->n; k-- > 0;)
        eval_close(h->of[(first_of(h->t) + k) % h->n]);
    free(h->of);
    free(h->figures);
    *h = (struct held_out){0};
}
