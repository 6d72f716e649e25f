/* A model that comes section by section gives the logits and the digest of the same model in
 * memory: batches of several shapes, one of them of packed documents, with hidden states in memory
 * and in a file, those that entered earlier sections among them. And what sections cost: no more
 * than the largest, and a tied embedding. Reads tests/golden; run from the repository root. usage:
 * tape_sections [--cuda] [FAMILY]...: all families, on the CPU or in f32 on the CUDA device. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../lib/base/rng.h"
#include "../../lib/tape/tape.h"
#include "device.h"

enum { N_SEQ = 2, SEQ_LEN = 17, T = N_SEQ * SEQ_LEN, BATCHES = 3, EARLIER = 1 };

static struct exec x;
static struct err e;
static int32_t ids[BATCHES][T], starts[T];
static const struct batch shapes[BATCHES] = {
    {.n_seq = 2, .seq_len = 9}, {.n_seq = 1, .seq_len = SEQ_LEN}, {.n_seq = 2, .seq_len = SEQ_LEN}};

/* A run of all batches, and the logits of each. */
struct run {
    struct batches batches;
    struct batch batch;                        /* the one that was filled */
    float *logits[BATCHES], *entered[BATCHES]; /* the latter: every section, [last + 1, states] */
    int64_t vocab, hidden, last, told, of;
};

static const struct batch *fill(void *user, int64_t i, struct err *error)
{
    struct run *r = user;
    (void)error;
    r->batch = shapes[i];
    r->batch.ids = ids[i];
    r->batch.starts = i == BATCHES - 1 ? starts : NULL;
    return &r->batch;
}

/* What entered a section and those before it is still there. */
static void check_states(struct run *r, int64_t i, int64_t section)
{
    int64_t n = r->batch.n_seq * r->batch.seq_len * r->hidden, next = section + 1;
    size_t bytes = (size_t)n * sizeof(float);
    for (int64_t s = section; s >= 0 && s >= section - EARLIER; s--) {
        const float *kept = batches_states(&r->batches, i, s, &e);
        CHECK(kept && !memcmp(kept, r->entered[i] + s * n, bytes),
              "batch %lld, after section %lld: other states entered %lld", (long long)i,
              (long long)section, (long long)s);
    }
    if (!r->entered[i])
        r->entered[i] = mem_alloc((size_t)(r->last + 1) * bytes);
    if (next <= r->last)
        exec_get(&x, r->entered[i] + next * n, tape_boundary(r->batches.tape, next), bytes);
}

static int done(void *user, int64_t i, int64_t from, int64_t to, struct err *error)
{
    struct run *r = user;
    int64_t rows = r->batch.n_seq * r->batch.seq_len;
    (void)error;
    if (from == to)
        check_states(r, i, to);
    if (to < r->last)
        return 0;
    r->logits[i] = mem_alloc((size_t)(rows * r->vocab) * sizeof(float));
    memcpy(r->logits[i], tape_logits(r->batches.tape, 0, rows),
           (size_t)(rows * r->vocab) * sizeof(float));
    return 0;
}

static void progress(void *user, int64_t n, int64_t of)
{
    struct run *r = user;
    r->told = n;
    r->of = of;
}

static void run(struct run *r, struct model *m, int in_file)
{
    struct tape_spec spec = {.model = m, .n_seq = N_SEQ, .seq_len = SEQ_LEN, .end = TAPE_LOGITS};
    struct tape *t = tape_record(&x, &spec, &e);
    stop_on_error(&e, "recording");
    tape_open(t, &e);
    *r = (struct run){.vocab = m->spec.vocab_size,
                      .hidden = m->spec.hidden_size,
                      .last = m->spec.num_hidden_layers};
    r->batches = (struct batches){.tape = t,
                                  .n = BATCHES,
                                  .fill = fill,
                                  .done = done,
                                  .progress = progress,
                                  .user = r,
                                  .earlier = EARLIER,
                                  .in_file = in_file};
    if (!batches_plan(&r->batches, &e))
        batches_run(&r->batches, &e);
    stop_on_error(&e, "running");
    tape_close(t);
}

static void run_close(struct run *r)
{
    batches_close(&r->batches);
    for (int i = 0; i < BATCHES; i++) {
        free(r->logits[i]);
        free(r->entered[i]);
    }
}

static double distance(const float *a, const float *b, int64_t n)
{
    double most = 0;
    for (int64_t i = 0; i < n; i++)
        most = fmax(most, fabs((double)a[i] - (double)b[i]));
    return most;
}

static void compare(const char *name, const struct run *sectiond, const struct run *whole)
{
    for (int i = 0; i < BATCHES; i++) {
        int64_t n = shapes[i].n_seq * shapes[i].seq_len * whole->vocab;
        double off = distance(sectiond->logits[i], whole->logits[i], n);
        CHECK(x.device == DEVICE_CPU ? off == 0 : off < 1e-5, "%s, batch %d: %g apart", name, i,
              off);
    }
}

static void check_sections(const char *name, const char *dir, const struct run *whole,
                           const struct model *loaded, int in_file)
{
    struct model m;
    struct run r;
    struct model_in *in = model_open(dir, NULL, &e);
    stop_on_error(&e, dir);
    int64_t bytes = model_sections_memory(model_in_spec(in));
    model_open_sections(&m, in, &x, &e);
    stop_on_error(&e, dir);
    run(&r, &m, in_file);
    compare(name, &r, whole);
    CHECK(!strcmp(m.spec.digest, loaded->spec.digest), "%s: the digest is %s", name, m.spec.digest);
    CHECK(bytes < model_memory(&m.spec, MODEL_FROZEN, 0), "%s: %lld bytes", name, (long long)bytes);
    CHECK(r.batches.bytes == (1 + EARLIER) * 4 * m.spec.hidden_size * (18 + 17 + 34),
          "%s: %lld bytes of states", name, (long long)r.batches.bytes);
    CHECK(r.told == r.last + 2 && r.of == r.told, "%s: told of %lld", name, (long long)r.told);
    run_close(&r);
    model_close(in);
    model_free(&m);
}

static void check_family(const char *name)
{
    struct model m;
    struct run whole;
    struct rng rng = rng_open(11, 0);
    char *dir = mem_format("tests/golden/%s", name);
    load_model(&m, dir, MODEL_FROZEN, &x);
    for (int i = 0; i < BATCHES * T; i++)
        ids[i / T][i % T] = (int32_t)rng_below(&rng, (uint64_t)m.spec.vocab_size);
    for (int i = 0; i < T; i++)
        starts[i] = i % SEQ_LEN < 5 ? 0 : 5;
    run(&whole, &m, 0);
    CHECK(!whole.batches.bytes && whole.told == BATCHES, "%s: states of a model in memory", name);
    for (int in_file = 0; in_file < 2; in_file++)
        check_sections(name, dir, &whole, &m, in_file);
    run_close(&whole);
    model_free(&m);
    free(dir);
}

int main(int argc, char **argv)
{
    device_open(&x, &argc, &argv);
    each_family(argc, argv, check_family);
    exec_close(&x);
    return check_report();
}
