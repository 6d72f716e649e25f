/* Evaluation: see eval.h. */
#include "loss.h"

#include <math.h>
#include <stdlib.h>

#include "../base/mem.h"
#include "../base/text.h"

int eval_options_check(const struct eval_options *o, struct err *e)
{
    if (o->context < 0 || o->context == 1)
        return err_set(e, "--context must be at least 2 to predict a token, not %lld",
                       (long long)o->context);
    if (o->seq_length < 0 || o->seq_length == 1)
        return err_set(e, "--seq-length must be at least 2 to predict a token, not %lld",
                       (long long)o->seq_length);
    if (o->context && o->seq_length)
        return err_set(
            e, "--context cuts the joined text and --seq-length each sequence by itself: give one");
    if (o->stride && !o->context)
        return err_set(e, "--stride needs --context, the length of a window");
    if (o->stride < 0 || o->stride > o->context)
        return err_set(e, "--stride %lld leaves gaps between windows of --context %lld",
                       (long long)o->stride, (long long)o->context);
    int64_t window = o->context + o->seq_length; /* one of them is 0 */
    if (o->score_from < 0 || (window && o->score_from >= window))
        return err_set(e, "windows of %lld tokens have no position %lld (--score-from)",
                       (long long)window, (long long)o->score_from);
    return 0;
}

/* Windows of joined text: every `stride` tokens one of `context`. */
static int64_t eval_cut(const struct tokens *t, const struct eval_options *o, struct data_row *rows)
{
    int64_t total = t->start[t->n], stride = o->stride ? o->stride : o->context, n = 0;
    for (int64_t at = 0; at + o->context <= total; at += stride, n++) {
        int64_t first = max64(1, o->score_from);
        if (n)
            first = max64(first, o->context - stride);
        rows[n] = (struct data_row){t->ids + at, o->context, first};
    }
    return n;
}

/* The sequences as they are, or each in pieces of at most seq_length. */
static int64_t eval_sequences(const struct tokens *t, const struct eval_options *o,
                              struct data_row *rows)
{
    int64_t n = 0, most = o->seq_length ? o->seq_length : INT64_MAX;
    for (int64_t i = 0; i < t->n; i++)
        for (int64_t at = t->start[i], len; at < t->start[i + 1]; at += len) {
            len = min64(most, t->start[i + 1] - at);
            rows[n] = (struct data_row){t->ids + at, len, max64(1, o->score_from)};
            n += data_predictions(&rows[n]) > 0;
        }
    return n;
}

static void eval_count(const struct tokens *t, const struct eval_options *o,
                       const struct data_row *rows, struct eval_sums *s)
{
    int64_t stride = o->stride ? o->stride : o->context;
    s->bytes = t->bytes ? 0 : -1;
    for (int64_t i = 0; i < s->windows; i++) {
        s->tokens += i && stride ? stride : rows[i].n;
        s->predictions += data_predictions(&rows[i]);
        for (int64_t j = rows[i].first; t->bytes && j < rows[i].n; j++)
            s->bytes += t->bytes[rows[i].ids - t->ids + j];
    }
    s->left_out = t->start[t->n] - s->tokens;
}

int eval_windows(const struct tokens *t, const struct eval_options *o, struct data_row **rows,
                 struct eval_sums *s, struct err *e)
{
    *rows = NULL;
    *s = (struct eval_sums){0};
    if (eval_options_check(o, e))
        return -1;
    int64_t total = t->start[t->n], stride = o->stride ? o->stride : o->context;
    int64_t most = t->n;
    if (o->context)
        most = total / stride;
    else if (o->seq_length)
        most += total / o->seq_length;
    *rows = mem_alloc((size_t)(most + 1) * sizeof **rows);
    s->windows = o->context ? eval_cut(t, o, *rows) : eval_sequences(t, o, *rows);
    eval_count(t, o, *rows, s);
    if (s->predictions)
        return 0;
    free(*rows);
    *rows = NULL;
    return err_set(e, "the %lld tokens have no window with a prediction to score",
                   (long long)total);
}

/* Windows may count different numbers of predictions: the mean is a ratio of sums, its error that
 * of a ratio (Cochran, Sampling Techniques, 6.19). */
void eval_statistics(const double *nll, const int64_t *counts, int64_t windows, double *mean,
                     double *standard_error)
{
    double sum = 0, n = 0, squares = 0;
    for (int64_t i = 0; i < windows; i++) {
        sum += nll[i];
        n += (double)counts[i];
    }
    *mean = sum / n;
    for (int64_t i = 0; i < windows; i++) {
        double d = nll[i] - *mean * (double)counts[i];
        squares += d * d;
    }
    *standard_error = windows > 1 ? sqrt(squares * (double)windows / (double)(windows - 1)) / n
                                  : NAN;
}

struct eval {
    struct tape *tape;
    struct data_row *rows;
    struct data_batch batch;
    struct eval_sums sums;
    int64_t batch_size, *counts;
    double *nll;
};

struct eval *eval_open(struct exec *x, struct model *m, const struct tokens *t,
                       const struct eval_options *o, struct err *e)
{
    struct eval *v = mem_alloc(sizeof *v);
    if (eval_windows(t, o, &v->rows, &v->sums, e)) {
        eval_close(v);
        return NULL;
    }
    int64_t n = 2, windows = v->sums.windows;
    for (int64_t i = 0; i < windows; i++)
        n = max64(n, v->rows[i].n);
    v->batch_size = min64(o->batch_size ? o->batch_size : max64(1, 1024 / n), windows);
    v->counts = mem_alloc((size_t)windows * sizeof *v->counts);
    v->nll = mem_alloc((size_t)windows * sizeof *v->nll);
    data_batch_open(&v->batch, v->batch_size, n);
    struct tape_spec spec = {.model = m,
                             .n_seq = v->batch_size,
                             .seq_len = n - 1,
                             .end = TAPE_LOSS,
                             .losses = {{.kind.set = LOSS_BIT(ce)}}};
    v->tape = tape_record(x, &spec, e);
    if (!v->tape || tape_open(v->tape, e)) {
        eval_close(v);
        return NULL;
    }
    return v;
}

int64_t eval_bytes(const struct eval *v) { return tape_bytes(v->tape); }

int eval_run(struct eval *v, struct eval_sums *s, eval_progress *progress, void *user,
             struct err *e)
{
    *s = v->sums;
    const struct batch *b = &v->batch.b;
    for (int64_t done = 0; done < s->windows; done += b->n_seq) {
        data_batch_fill(&v->batch, v->rows + done, min64(v->batch_size, s->windows - done));
        if (tape_forward(v->tape, b, e))
            return -1;
        const double *losses = tape_losses(v->tape, 0);
        for (int64_t i = 0; i < b->n_seq; i++) {
            v->counts[done + i] = data_predictions(&v->rows[done + i]);
            v->nll[done + i] = 0;
            for (int64_t t = 0; t < b->seq_len; t++)
                v->nll[done + i] += losses[i * b->seq_len + t];
        }
        if (progress)
            progress(user, done + b->n_seq, s->windows);
    }
    eval_statistics(v->nll, v->counts, s->windows, &s->nll, &s->standard_error);
    return 0;
}

void eval_close(struct eval *v)
{
    if (!v)
        return;
    if (v->tape)
        tape_close(v->tape);
    data_batch_close(&v->batch);
    free(v->rows);
    free(v->counts);
    free(v->nll);
    free(v);
}
