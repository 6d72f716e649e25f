/* The tape against the golden models: losses, logits, hidden states and every gradient of each
 * family; recomputation, shorter batches, parts, the key-value cache and the prediction of memory.
 * Reads tests/golden; run from the repository root. usage: tape [--cuda] [FAMILY]: all families, on
 * the CPU or in f32 on the CUDA device. */
#include <dirent.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/safetensors.h"
#include "../../lib/model/layout.h"
#include "../../lib/tape/tape_private.h"
#include "device.h"

static struct exec x;
static struct err e;
static int replayed; /* families whose generation was captured */

struct golden {
    struct safetensors *expected;
    int32_t *ids, *labels;
    int64_t B, T;
};

static float *golden_values(const struct golden *g, const char *name, int64_t *n)
{
    int i = sf_find(g->expected, name);
    if (i < 0)
        return NULL;
    const struct tensor *t = sf_tensor(g->expected, i);
    *n = tensor_count(t);
    void *raw = mem_alloc((size_t)tensor_bytes(t));
    float *v = mem_alloc((size_t)*n * 4);
    sf_read(g->expected, i, 0, raw, tensor_bytes(t), &e);
    to_f32(v, raw, t->dtype, *n);
    free(raw);
    return v;
}

static void golden_open(struct golden *g, const char *dir)
{
    char *path = mem_format("%s/expected.safetensors", dir);
    g->expected = sf_open(path, &e);
    stop_on_error(&e, path);
    free(path);
    const struct tensor *t = sf_tensor(g->expected, sf_find(g->expected, "input_ids"));
    g->B = t->shape[0];
    g->T = t->shape[1];
    int64_t n;
    float *v = golden_values(g, "input_ids", &n);
    g->ids = mem_alloc((size_t)n * 4);
    g->labels = mem_alloc((size_t)n * 4);
    for (int64_t i = 0; i < n; i++) {
        g->ids[i] = (int32_t)v[i];
        g->labels[i] = i % g->T == g->T - 1 ? -100 : (int32_t)v[i + 1];
    }
    free(v);
}

static void golden_close(struct golden *g)
{
    sf_close(g->expected);
    free(g->ids);
    free(g->labels);
}

static double worst(const float *a, const float *b, int64_t n, double *largest)
{
    double w = 0, m = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - b[i]);
        if (!(d <= w))
            w = d;
        if (fabs(b[i]) > m)
            m = fabs(b[i]);
    }
    *largest = m;
    return w;
}

/* The gradient of a canonical tensor, taken from the stored tensors that hold it. */
static float *golden_grad(const struct golden *g, const struct model *m, const struct layout *l,
                          int index)
{
    const struct param *p = &m->params[index];
    const struct view *v;
    float *foreign = NULL, *grad = mem_alloc((size_t)(p->rows * p->cols) * 4);
    for (int64_t r = 0, run, n, last = -1; r < p->rows; r++) {
        int64_t row = layout_row(l, index, r, &v, &run);
        if (v->stored != last) {
            char *name = mem_format("grad.%s", l->stored[v->stored].name);
            free(foreign);
            foreign = golden_values(g, name, &n);
            CHECK(foreign && n == v->stored_rows * v->cols, "%s: no %s", m->spec.family->name,
                  name);
            free(name);
            last = v->stored;
        }
        for (int64_t c = 0; foreign && c < p->cols; c++)
            grad[r * p->cols + c] =
                foreign[v->transposed ? layout_transposed_at(v, row, c) : row * v->cols + c];
    }
    free(foreign);
    return grad;
}

static void keep(void *user, const struct tapped *t)
{
    int64_t cols = t->values->cols, n = t->values->rows * cols;
    size_t bytes = (size_t)dtype_bytes(t->values->dtype, n);
    void *raw = mem_alloc(bytes);
    exec_get(t->x, raw, t->values->v, bytes);
    to_f32((float *)user + t->first * t->b->seq_len * cols, raw, t->values->dtype, n);
    free(raw);
}

static struct model *load(const char *dir, int how)
{
    struct model *m = mem_alloc(sizeof *m);
    load_model(m, dir, how, &x);
    return m;
}

static void release(struct model *m)
{
    model_free(m);
    free(m);
}

static struct tape *record(const struct tape_spec *s)
{
    struct tape *t = tape_record(&x, s, &e);
    stop_on_error(&e, "recording");
    return t;
}

static double mean_loss(struct tape *t, int64_t B, int64_t T)
{
    const double *losses = tape_losses(t, 0);
    double sum = 0;
    for (int64_t i = 0; i < B * T; i++)
        sum += losses[i];
    return sum / (double)(B * (T - 1));
}

static void check_forward(const char *name, struct model *m, const struct golden *g)
{
    struct tape_spec s = {.model = m, .n_seq = g->B, .seq_len = g->T, .end = TAPE_LOGITS};
    struct tape *t = record(&s);
    int64_t L = m->spec.num_hidden_layers, n;
    int64_t hidden = g->B * g->T * m->spec.hidden_size;
    float *blocks = mem_alloc((size_t)((L + 1) * hidden) * sizeof *blocks),
          *normed = mem_alloc((size_t)hidden * sizeof *normed);
    for (int64_t l = 0; l <= L; l++)
        tape_tap(t, TAP_BLOCK_INPUT, l, NULL, keep, blocks + l * hidden, &e);
    tape_tap(t, TAP_INPUT_OF, -1, "lm_head", keep, normed, &e);
    tape_open(t, &e);
    struct batch b = {.n_seq = g->B, .seq_len = g->T, .ids = g->ids};
    tape_forward(t, &b, &e);
    stop_on_error(&e, name);
    double largest;
    for (int64_t l = 0; l <= L; l++) {
        char *key = l ? mem_format("hidden.block.%lld", (long long)l - 1)
                      : mem_string("hidden.embed");
        float *want = golden_values(g, key, &n);
        CHECK(want && n == hidden && worst(blocks + l * hidden, want, n, &largest) < 1e-4,
              "%s: %s is off", name, key);
        free(want);
        free(key);
    }
    float *want = golden_values(g, "hidden.final_norm", &n);
    CHECK(want && n == hidden && worst(normed, want, n, &largest) < 1e-4, "%s: final norm is off",
          name);
    free(want);
    want = golden_values(g, "logits", &n);
    double off = worst(tape_logits(t, 0, g->B * g->T), want, n, &largest);
    CHECK(off < 1e-4, "%s: logits are off by %g (largest %g)", name, off, largest);
    /* block by block gives the same bits */
    float *whole = mem_alloc((size_t)n * 4);
    memcpy(whole, tape_logits(t, 0, g->B * g->T), (size_t)n * 4);
    for (int64_t l = 0; l < L; l++)
        tape_forward_range(t, &b, l, l + 1, &e);
    stop_on_error(&e, name);
    CHECK(!memcmp(whole, tape_logits(t, 0, g->B * g->T), (size_t)n * 4),
          "%s: blocks run one by one give other logits", name);
    free(whole);
    free(want);
    free(normed);
    free(blocks);
    tape_close(t);
}

static float *gradients(const struct model *m)
{
    float *g = mem_alloc((size_t)m->n_values * 4);
    exec_get(&x, g, m->grads.base, (size_t)m->n_values * 4);
    return g;
}

static void check_backward(const char *name, struct model *m, const struct golden *g, int recompute)
{
    struct tape_spec s = {.model = m,
                          .n_seq = g->B,
                          .seq_len = g->T,
                          .end = TAPE_LOSS,
                          .train = 1,
                          .recompute = recompute,
                          .losses = {{.kind.set = LOSS_BIT(ce), .weights = {[LOSS_ce] = 1}}},
                          .loss_chunk = 13};
    struct tape *t = record(&s);
    tape_open(t, &e);
    exec_zero(&x, m->grads.base, (size_t)m->n_values * 4);
    tape_loss_scale(t, (float)(1.0 / (double)(g->B * (g->T - 1))));
    struct batch b = {.n_seq = g->B, .seq_len = g->T, .ids = g->ids, .labels = g->labels};
    tape_forward(t, &b, &e);
    tape_backward(t, &b, &e);
    stop_on_error(&e, name);
    int64_t n;
    float *nll = golden_values(g, "nll", &n);
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += nll[i];
    CHECK(fabs(mean_loss(t, g->B, g->T) - sum / (double)n) < 1e-5,
          "%s: mean loss %.7f, expected %.7f", name, mean_loss(t, g->B, g->T), sum / (double)n);
    free(nll);
    float *grads = gradients(m), *got = grads;
    struct layout layout;
    layout_make(&layout, &m->spec, m->spec.family->stored, 0, NULL, NULL, &e);
    stop_on_error(&e, name);
    for (int i = 0; i < m->spec.n_tensors; got += m->params[i].rows * m->params[i].cols, i++) {
        float *want = golden_grad(g, m, &layout, i);
        double largest = 0, off = worst(got, want, m->params[i].rows * m->params[i].cols, &largest);
        /* a k bias does not affect a softmax: its true gradient is zero, ours is the rounding error
         * of sums near 1 */
        CHECK(off <= 1e-4 * largest + 1e-7, "%s%s: gradient of %s is off by %g of %g", name,
              recompute ? " (recomputed)" : "", m->spec.tensors[i].name, off, largest);
        free(want);
    }
    layout_free(&layout);
    free(grads);
    tape_close(t);
}

/* Are all layers of the same kinds and sizes? */
static int layers_are_alike(const struct model_spec *h)
{
    const struct layer *first = &h->layers[0];
    for (int64_t l = 1; l < h->num_hidden_layers; l++)
        for (enum axis a = LAYER_AXES; a < AXIS_COUNT; a++)
            if (h->layers[l].kinds != first->kinds ||
                layer_size(&h->layers[l], a) != layer_size(first, a))
                return 0;
    return 1;
}

static void check_recompute(const char *name, struct model *m, const struct golden *g)
{
    float *kept = gradients(m);
    check_backward(name, m, g, 1);
    float *now = gradients(m);
    CHECK(!memcmp(kept, now, (size_t)m->n_values * 4), "%s: recomputation changes the gradients",
          name);
    free(kept);
    free(now);
    struct tape_spec s = {.model = m,
                          .n_seq = 4,
                          .seq_len = g->T,
                          .end = TAPE_LOSS,
                          .train = 1,
                          .losses = {{.kind.set = LOSS_BIT(ce), .weights = {[LOSS_ce] = 1}}},
                          .loss_chunk = 1};
    struct tape *a = record(&s);
    s.recompute = 1;
    struct tape *r = record(&s);
    /* recomputing the largest layer may take more than all the small ones save */
    CHECK(!layers_are_alike(&m->spec) || tape_bytes(r) < tape_bytes(a),
          "%s: recomputation takes %lld bytes, keeping %lld", name, (long long)tape_bytes(r),
          (long long)tape_bytes(a));
    tape_close(a);
    tape_close(r);
}

/* Both sequences, one token at a time with kept k and v, give the logits of whole sequences; half
 * way, the second takes the place of the first and goes on alone. */
static void check_generation(const char *name, struct model *m, const struct golden *g)
{
    enum { PIECE = 5 };
    struct tape_spec s = {
        .model = m, .n_seq = 2, .seq_len = PIECE, .kv_len = g->T, .end = TAPE_LOGITS};
    struct tape *t = record(&s);
    tape_open(t, &e);
    int64_t n, V = m->spec.vocab_size, rows = 2, length;
    float *want = golden_values(g, "logits", &n);
    double off = 0, largest;
    for (int64_t at = 0; at < g->T; at += length) {
        int32_t ids[2 * PIECE];
        length = at ? 1 : PIECE;
        if (rows == 2 && at > g->T / 2) {
            tape_move_cache(t, 0, 1);
            rows = 1;
        }
        for (int64_t i = 0; i < rows * length; i++)
            ids[i] = g->ids[(2 - rows + i / length) * g->T + at + i % length];
        struct batch b = {.n_seq = rows, .seq_len = length, .pos0 = at, .ids = ids};
        tape_forward(t, &b, &e);
        stop_on_error(&e, name);
        for (int64_t i = 0; i < rows; i++) {
            double w = worst(tape_logits(t, i * length, length),
                             want + ((2 - rows + i) * g->T + at) * V, length * V, &largest);
            off = w > off ? w : off;
        }
    }
    CHECK(off < 1e-4, "%s: logits of step-by-step generation are off by %g", name, off);
    replayed += t->captures[0][0].graph != NULL;
    free(want);
    tape_close(t);
}

static void check_refusals(struct model *m, const struct golden *g)
{
    struct tape_spec s = {.model = m, .n_seq = 1, .seq_len = 4, .end = TAPE_LOGITS};
    struct tape *t = record(&s);
    tape_open(t, &e);
    int32_t ids[] = {0, 1, (int32_t)m->spec.vocab_size, 2};
    struct err bad = {0};
    CHECK(tape_forward(t, &(struct batch){.n_seq = 1, .seq_len = 4, .ids = ids}, &bad) < 0 &&
              strstr(bad.msg, "outside the vocabulary"),
          "an id beyond the vocabulary runs");
    bad = (struct err){0};
    CHECK(tape_forward(t, &(struct batch){.n_seq = 1, .seq_len = 5, .ids = g->ids}, &bad) < 0,
          "a batch larger than recorded runs");
    tape_close(t);
    s = (struct tape_spec){
        .model = m, .n_seq = 1, .seq_len = m->spec.max_position_embeddings + 1, .end = TAPE_LOGITS};
    bad = (struct err){0};
    struct tape *long_one = tape_record(&x, &s, &bad);
    CHECK((long_one == NULL) == m->spec.learned_positions, "%s: sequences beyond the positions: %s",
          m->spec.family->name, bad.msg);
    tape_close(long_one);
}

/* Embeddings times sqrt(24), in the compute type: 4.899 in f32, 4.90625 in bf16. */
static void check_embed_scale(void)
{
    static const struct {
        enum dtype compute;
        float scale;
    } rows[] = {{DT_F32, 4.89897948557f}, {DT_BF16, 4.90625f}};
    struct model *m = load("tests/golden/slice/gemma2/all", MODEL_FROZEN);
    for (int i = 0; i < 2; i++) {
        x.compute = rows[i].compute;
        struct tape *t = record(
            &(struct tape_spec){.model = m, .n_seq = 1, .seq_len = 4, .end = TAPE_NO_HEAD});
        float scale = t->lines[0].sizes.p.scale.scale;
        CHECK(t->lines[0].op == OP_embed && scale == rows[i].scale,
              "embeddings times %.9g, expected %.9g", (double)scale, (double)rows[i].scale);
        tape_close(t);
    }
    x.compute = DT_F32;
    release(m);
}

static int sums_of(const struct tape_spec *s)
{
    struct tape *t = record(s);
    int n = 0;
    for (int i = 0; i < t->n_lines; i++)
        n += t->lines[i].op == OP_add;
    tape_close(t);
    return n;
}

/* Residual sums are part of the products before them, but not where taps may look at those. */
static void check_sums(void)
{
    struct model *m = load("tests/golden/families/llama", MODEL_TRAIN);
    struct tape_spec s = {.model = m, .n_seq = 1, .seq_len = 4, .end = TAPE_NO_HEAD};
    int alone = sums_of(&s);
    s.train = 1;
    int joined = sums_of(&s);
    CHECK(alone == 2 * m->spec.num_hidden_layers && joined == 0,
          "llama: %d sums in a forward pass, %d in training, expected 2 a layer and 0", alone,
          joined);
    release(m);
}

static void check_family(const char *name)
{
    char *dir = mem_format("tests/golden/families/%s", name);
    struct golden g = {0};
    golden_open(&g, dir);
    struct model *m = load(dir, MODEL_TRAIN);
    model_add_grads(m, &e);
    stop_on_error(&e, name);
    check_forward(name, m, &g);
    check_backward(name, m, &g, 0);
    check_recompute(name, m, &g);
    check_generation(name, m, &g);
    check_refusals(m, &g);
    release(m);
    struct model *frozen = load(dir, MODEL_FROZEN);
    check_forward(name, frozen, &g);
    omp_set_max_active_levels(0); /* parallel regions get one thread although x has two */
    check_forward(name, frozen, &g);
    omp_set_max_active_levels(1);
    release(frozen);
    golden_close(&g);
    free(dir);
}

int main(int argc, char **argv)
{
    device_open(&x, &argc, &argv);
    DIR *d = opendir("tests/golden/families");
    for (struct dirent *f = d ? readdir(d) : NULL; f; f = readdir(d))
        if (f->d_name[0] != '.' && (argc < 2 || !strcmp(argv[1], f->d_name)))
            check_family(f->d_name);
    if (d)
        closedir(d);
    check_embed_scale();
    check_sums();
    CHECK(replayed || x.device == DEVICE_CPU, "no generation on a device is replayed");
    CHECK(check_passed > 0, "no golden families found: run from the repository root");
    exec_close(&x);
    return check_report();
}
