/* Low-rank adapters on a tape, of every golden family: losses and gradients are those of the model
 * with W + scale B A in place of W, by the chain rule in double precision; of adapters alone there
 * are gradients, and the weights beneath them stay as they are, bit for bit; recomputation. Reads
 * tests/golden; run from the repository root. usage: adapters [--cuda] [FAMILY] */
#include <math.h>

#include "../../lib/base/rng.h"
#include "../../lib/tape/tape_private.h"
#include "device.h"

enum { N_SEQ = 4, SEQ_LEN = 19, T = N_SEQ * SEQ_LEN, RANK = 3 };

static struct exec x;
static struct err e;
static int32_t ids[T], labels[T];
static const struct batch batch = {
    .n_seq = N_SEQ, .seq_len = SEQ_LEN, .ids = ids, .labels = labels};

static void fill_batch(int64_t vocabulary)
{
    struct rng r = rng_open(5, 0);
    for (int i = 0; i < T; i++)
        ids[i] = (int32_t)rng_below(&r, (uint64_t)vocabulary);
    for (int i = 0; i < T; i++)
        labels[i] = i % SEQ_LEN == SEQ_LEN - 1 ? LABEL_UNCOUNTED : ids[i + 1];
}

/* Adapters of every other matrix, or of all, with values in both factors. */
static void attach(struct adapters *s, struct model *m, int every)
{
    struct rng r = rng_open(9, 0);
    int k = 0;
    adapters_open(s, &m->spec);
    for (int i = 0; i < s->n; i++)
        if (adapters_stem(&m->spec, i) && k++ % every == 0)
            s->of[i] = (struct adapter){.rank = RANK, .scale = 0.75};
    adapters_allocate(s, &m->spec, &e);
    stop_on_error(&e, "adapters");
    adapters_draw(s, 7);
    float *v = (float *)s->values.weights.base;
    for (int64_t i = 0; i < s->values.n_values; i++)
        v[i] = v[i] != 0 ? v[i] : (float)(0.05 * rng_normal(&r));
    m->adapters = s;
}

/* The same function without adapters. */
static void merge(struct model *to, const struct model *m)
{
    for (int i = 0; i < m->spec.n_tensors; i++) {
        const struct adapter *a = adapter_of(m, &m->params[i]);
        if (!a)
            continue;
        const struct param *w = adapter_params(m->adapters, a), *p = &to->params[i];
        for (int64_t r = 0; r < p->rows; r++)
            adapter_add_row((float *)p->v + r * p->cols, (float *)w[1].v + r * a->rank, w[0].v,
                            a->rank, p->cols, a->scale);
    }
}

/* One pass of the cross-entropy; its mean. The gradient is in model_trained(m)->grads. */
static double pass(struct model *m, int recompute)
{
    struct tape_spec s = {.model = m,
                          .n_seq = N_SEQ,
                          .seq_len = SEQ_LEN,
                          .end = TAPE_LOSS,
                          .train = 1,
                          .recompute = recompute,
                          .losses = {{.kind.set = LOSS_BIT(ce), .weights = {[LOSS_ce] = 1}}}};
    struct tape *t = tape_record(&x, &s, &e);
    stop_on_error(&e, "recording");
    tape_open(t, &e);
    tape_clear_gradients(t);
    tape_loss_scale(t, 1.0f / T);
    tape_forward(t, &batch, &e);
    tape_backward(t, &batch, &e);
    stop_on_error(&e, "a step");
    const double *losses = tape_losses(t, 0);
    double sum = 0;
    for (int i = 0; i < T; i++)
        sum += losses[i];
    tape_close(t);
    return sum / T;
}

static void *copy_of(const struct arena *a, size_t bytes)
{
    void *copy = mem_alloc(bytes);
    exec_get(&x, copy, a->base, bytes);
    return copy;
}

static float *gradients(struct model *m)
{
    return copy_of(&m->grads, (size_t)m->n_values * sizeof(float));
}

static void to_device(struct model *m)
{
    model_plan(m, &x);
    model_move(m, &x, &e);
    model_add_grads(model_trained(m), &e);
    stop_on_error(&e, "moving a model");
}

/* The largest deviation of g [rows, cols] from scale * (a b), where entry (i, k) of a is
 * a[i * ai + k * ak], and (k, j) of b is b[k * bk + j * bj]; relative to the largest of those. */
static double deviation(const float *g, int64_t rows, int64_t cols, int64_t depth, double scale,
                        const float *a, int64_t ai, int64_t ak, const float *b, int64_t bk,
                        int64_t bj)
{
    double most = 0, largest = 0;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++) {
            double want = 0;
            for (int64_t k = 0; k < depth; k++)
                want += scale * (double)a[i * ai + k * ak] * (double)b[k * bk + j * bj];
            most = fmax(most, fabs((double)g[i * cols + j] - want));
            largest = fmax(largest, fabs(want));
        }
    return most / (largest + 1e-9);
}

/* dA = scale B^T dW, dB = scale dW A^T; dW [M,N] is the gradient of the merged matrix. values, g:
 * of the adapters. */
static void check_gradients(const char *name, const struct model *m, const float *values,
                            const float *g, const float *whole, const struct model *merged)
{
    const float *dW = whole;
    for (int i = 0; i < m->spec.n_tensors; i++) {
        const struct adapter *a = adapter_of(m, &m->params[i]);
        int64_t M = merged->params[i].rows, N = merged->params[i].cols;
        if (a) {
            const float *A = values, *B = values + RANK * N, *dA = g, *dB = g + RANK * N;
            double of_a = deviation(dA, RANK, N, M, a->scale, B, 1, RANK, dW, N, 1),
                   of_b = deviation(dB, M, RANK, N, a->scale, dW, N, 1, A, 1, N);
            CHECK(of_a < 2e-4 && of_b < 2e-4,
                  "%s: gradients of the adapter of %s are off by %g, %g", name,
                  m->spec.tensors[i].name, of_a, of_b);
            g += RANK * (M + N);
            values += RANK * (M + N);
        }
        dW += M * N;
    }
}

static void check_family(const char *name, int every)
{
    char *dir = mem_format("tests/golden/%s", name);
    struct model m, merged;
    struct adapters s;
    load_model(&m, dir, MODEL_FROZEN, NULL);
    load_model(&merged, dir, MODEL_TRAIN, NULL);
    fill_batch(m.spec.vocab_size);
    attach(&s, &m, every);
    merge(&merged, &m);
    to_device(&m);
    to_device(&merged);
    char *before = copy_of(&m.weights, m.weights.used), *after;
    float *values = copy_of(&s.values.weights, (size_t)s.values.n_values * sizeof *values);
    double loss = pass(&m, 0), want = pass(&merged, 0);
    CHECK(fabs(loss - want) < 1e-5, "%s: a loss of %.7f, merged %.7f", name, loss, want);
    CHECK(!m.grads.base, "%s: the model has gradients of its own", name);
    float *g = gradients(&s.values), *whole = gradients(&merged);
    check_gradients(name, &m, values, g, whole, &merged);
    pass(&m, 1);
    float *again = gradients(&s.values);
    CHECK(!memcmp(g, again, (size_t)s.values.n_values * sizeof *g),
          "%s: recomputation changes the gradient", name);
    after = copy_of(&m.weights, m.weights.used);
    CHECK(!memcmp(before, after, m.weights.used), "%s: frozen weights changed", name);
    free(g);
    free(again);
    free(whole);
    free(before);
    free(after);
    free(values);
    free(dir);
    adapters_close(&s);
    model_free(&m);
    model_free(&merged);
}

static void check_all(const char *name) { check_family(name, 1); }
static void check_some(const char *name) { check_family(name, 2); }

int main(int argc, char **argv)
{
    device_open(&x, &argc, &argv);
    each_family(argc, argv, check_all);
    each_family(argc, argv, check_some);
    exec_close(&x);
    return check_report();
}
