/* Importance by gradients: see taylor.h. */
#include "taylor.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../base/minmax.h"
#include "../base/text.h"
#include "unit_sums.h"

int taylor_plan(struct taylor *y, struct err *e)
{
    struct tape_spec spec = {.model = y->m,
                             .n_seq = min64(y->batch_size, y->w->n),
                             .seq_len = y->w->longest - 1,
                             .end = TAPE_LOSS,
                             .train = 1,
                             .losses = {{.kind.set = LOSS_BIT(ce), .weights = {[LOSS_ce] = 1}}}};
    y->tape = tape_record(y->x, &spec, e);
    return y->tape ? 0 : -1;
}

/* A tensor's values and their gradients, on the host. */
struct pair {
    void *host[2];
    const float *w, *g;
};

static void view(struct pair *p, const struct taylor *y, int64_t at, int64_t n)
{
    size_t bytes = (size_t)n * sizeof(float);
    p->w = exec_view(y->x, &p->host[0], (const float *)y->m->weights.base + at, bytes);
    p->g = exec_view(y->x, &p->host[1], (const float *)y->m->grads.base + at, bytes);
}

enum { COLUMNS = 64 }; /* that a thread adds up at a time */

/* Each sum is made by one thread, so their number changes nothing. */
static void add_products(struct unit_sums *u, const struct pair *p)
{
    int64_t rows = u->n_rows, cols = u->n_cols;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++)
            u->rows[r] += (double)p->w[r * cols + c] * p->g[r * cols + c];
#pragma omp parallel for schedule(static)
    for (int64_t from = 0; from < cols; from += COLUMNS)
        for (int64_t r = 0; r < rows; r++)
            for (int64_t c = from; c < min64(from + COLUMNS, cols); c++)
                u->cols[c] += (double)p->w[r * cols + c] * p->g[r * cols + c];
    for (int64_t r = 0; r < rows; r++)
        u->all += u->rows[r];
}

/* The sums of a sample, into entries that are zeros. */
static void add_sample(const struct taylor *y, struct scores *s)
{
    struct pair p = {0};
    const struct model_spec *h = &y->m->spec;
    int64_t at = 0;
    for (int i = 0; i < h->n_tensors; at += tensor_count(&h->tensors[i++])) {
        const struct tensor *t = &h->tensors[i];
        struct unit_sums u;
        if (t->ndim == 1 && !text_ends(t->name, ".bias"))
            continue;
        unit_sums_open(&u, h, i);
        view(&p, y, at, tensor_count(t));
        add_products(&u, &p);
        unit_sums_add(&u, s);
        unit_sums_close(&u);
    }
    free(p.host[0]);
    free(p.host[1]);
}

/* Adds the sizes of a sample's sums to the scores. */
static int take_sample(struct scores *to, struct scores *sample, struct err *e)
{
    struct tensor t;
    for (int64_t i = 0; i < axes_count(&to->axes); i++) {
        double *total = scores_entry(to, i), *sums = scores_entry(sample, i);
        axes_tensor(&to->axes, i, DT_F64, &t);
        for (int64_t j = 0; j < tensor_count(&t); j++) {
            if (!isfinite(sums[j]))
                return err_set(e, "the gradients are not finite (unit %" PRId64 " of %s)", j,
                               t.name);
            total[j] += fabs(sums[j]);
        }
        memset(sums, 0, (size_t)tensor_bytes(&t));
    }
    return 0;
}

static void divide(struct scores *s, int64_t n)
{
    struct tensor t;
    for (int64_t i = 0; i < axes_count(&s->axes); i++) {
        double *total = scores_entry(s, i);
        axes_tensor(&s->axes, i, DT_F64, &t);
        for (int64_t j = 0; j < tensor_count(&t); j++)
            total[j] /= (double)n;
    }
}

int taylor_run(struct taylor *y, struct scores *s, void (*progress)(void *, int64_t, int64_t),
               void *user, struct err *e)
{
    struct axes a;
    struct scores sample;
    struct data_batch batch;
    int64_t n = min64(y->batch_size, y->w->n);
    axes_from_model(&a, &y->m->spec);
    scores_open(s, &a);
    scores_open(&sample, &a);
    axes_free(&a);
    data_batch_open(&batch, n, y->w->longest);
    int failed = tape_open(y->tape, e);
    progress(user, 0, y->w->n);
    for (int64_t done = 0; !failed && done < y->w->n; done += batch.b.n_seq) {
        tape_clear_gradients(y->tape);
        failed = windows_fill(y->w, done, min64(n, y->w->n - done), &batch, e) ||
                 tape_forward(y->tape, &batch.b, e) || tape_backward(y->tape, &batch.b, e);
        if (failed)
            break;
        add_sample(y, &sample);
        failed = take_sample(s, &sample, e);
        progress(user, done + batch.b.n_seq, y->w->n);
    }
    divide(s, y->w->predictions);
    data_batch_close(&batch);
    scores_free(&sample);
    return failed ? -1 : 0;
}

void taylor_close(struct taylor *y)
{
    tape_close(y->tape);
    y->tape = NULL;
}
