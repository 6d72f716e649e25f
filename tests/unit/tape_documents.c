/* Sequences that are split into documents (batch.starts): every family gives the logits, losses and
 * gradients of the documents run one by one, also where a device replays a graph with other
 * documents in it, and token by token with kept keys; and what a tape refuses. Reads tests/golden;
 * run from the repository root. usage: tape_documents [--cuda] [FAMILY]...: all families, on the
 * CPU or in f32 on the CUDA device. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../lib/base/rng.h"
#include "../../lib/tape/tape.h"
#include "device.h"
#include "distance.h"

/* TIMES: from the second time on a device replays a graph */
enum { N_SEQ = 2, SEQ_LEN = 37, T = N_SEQ * SEQ_LEN, CUTS = 3, TIMES = 3 };

static struct exec x;
static struct err e;

/* N_SEQ sequences of random ids, their documents, and labels within these. */
static int32_t ids[T], labels[T], starts[T];
static struct batch packed = {
    .n_seq = N_SEQ, .seq_len = SEQ_LEN, .ids = ids, .labels = labels, .starts = starts};

/* Places where documents begin, 0 included, by sequence and time. */
static const int cuts[TIMES][N_SEQ][CUTS] = {
    {{0, 12, 13}, {0, 26, 30}}, {{0, 1, 20}, {0, 17, 35}}, {{0, 0, 0}, {0, 5, 10}}};

static void draw_batch(int64_t vocab, int time)
{
    struct rng r = rng_open(7, (uint64_t)time);
    for (int i = 0; i < T; i++) {
        ids[i] = (int32_t)rng_below(&r, (uint64_t)vocab);
        starts[i] = 0;
        for (int k = 0; k < CUTS; k++)
            if (i % SEQ_LEN >= cuts[time][i / SEQ_LEN][k])
                starts[i] = cuts[time][i / SEQ_LEN][k];
    }
    for (int i = 0; i < T; i++)
        labels[i] = i % SEQ_LEN < SEQ_LEN - 1 && starts[i] == starts[i + 1] ? ids[i + 1] : -100;
}

/* The document that begins at row i as a batch of its own. */
static struct batch document_at(int i)
{
    struct batch b = {.n_seq = 1, .seq_len = 1, .ids = ids + i, .labels = labels + i};
    while (i % SEQ_LEN + b.seq_len < SEQ_LEN && starts[i + b.seq_len] == starts[i])
        b.seq_len++;
    return b;
}

static struct tape *open_tape(struct tape_spec s, struct model *m)
{
    s.model = m;
    struct tape *t = tape_record(&x, &s, &e);
    stop_on_error(&e, "recording");
    tape_open(t, &e);
    stop_on_error(&e, "opening");
    return t;
}

static void check_logits(const char *name, struct model *m)
{
    struct tape *t = open_tape(
        (struct tape_spec){.n_seq = N_SEQ, .seq_len = SEQ_LEN, .end = TAPE_LOGITS}, m);
    int64_t V = m->spec.vocab_size;
    float *got = malloc((size_t)(T * V) * sizeof *got);
    draw_batch(V, 0);
    tape_forward(t, &packed, &e);
    stop_on_error(&e, name);
    memcpy(got, tape_logits(t, 0, T), (size_t)(T * V) * sizeof *got);
    for (int i = 0; i < T;) {
        struct batch b = document_at(i);
        tape_forward(t, &b, &e);
        stop_on_error(&e, name);
        double off = distance(got + i * V, tape_logits(t, 0, b.seq_len), b.seq_len * V);
        CHECK(off < 1e-5, "%s: logits of the document of %d tokens at %d are off by %g", name,
              (int)b.seq_len, i, off);
        i += (int)b.seq_len;
    }
    free(got);
    tape_close(t);
}

/* Runs a batch forward and backward; adds its losses to losses[T] and its gradients to the model's.
 */
static void run(struct tape *t, const struct batch *b, double *losses)
{
    tape_forward(t, b, &e);
    memcpy(losses, tape_losses(t, 0), (size_t)(b->n_seq * b->seq_len) * sizeof *losses);
    tape_backward(t, b, &e);
    stop_on_error(&e, "a step");
}

static float *gradients(const struct model *m)
{
    size_t bytes = (size_t)m->n_values * sizeof(float);
    float *g = malloc(bytes);
    exec_get(&x, g, m->grads.base, bytes);
    return g;
}

static struct tape *open_training(struct model *m)
{
    return open_tape((struct tape_spec){.n_seq = N_SEQ,
                                        .seq_len = SEQ_LEN,
                                        .end = TAPE_LOSS,
                                        .train = 1,
                                        .losses = {{{.set = LOSS_BIT(ce)}, {[LOSS_ce] = 1}}}},
                     m);
}

static void check_training(const char *name, struct model *m)
{
    struct tape *t = open_training(m), *other = open_training(m);
    double losses[T], want[T], off = 0;
    for (int time = 0; time < TIMES; time++) {
        draw_batch(m->spec.vocab_size, time);
        tape_clear_gradients(t);
        run(t, &packed, losses);
        float *g = gradients(m);
        tape_clear_gradients(other);
        for (int i = 0; i < T;) {
            struct batch b = document_at(i);
            run(other, &b, want + i);
            i += (int)b.seq_len;
        }
        float *by_one = gradients(m);
        for (int i = 0; i < T; i++)
            off = fmax(off, fabs(losses[i] - want[i]));
        CHECK(off < 1e-5, "%s: losses, time %d: off by %g", name, time, off);
        off = distance(g, by_one, m->n_values);
        CHECK(off < 1e-5, "%s: gradients, time %d: off by %g", name, time, off);
        free(g);
        free(by_one);
    }
    /* sequences without documents, of the same size, after those */
    struct batch plain = packed;
    plain.starts = NULL;
    run(t, &plain, losses);
    run(other, &plain, want);
    CHECK(!memcmp(losses, want, sizeof want), "%s: sequences are still split", name);
    tape_close(t);
    tape_close(other);
}

/* A document after some padding, read piece by piece. */
static void check_cached(const char *name, struct model *m)
{
    enum { FRONT = 5, PIECE = 8 };
    struct tape *t = open_tape(
                    (struct tape_spec){
                        .n_seq = 1, .seq_len = PIECE, .kv_len = SEQ_LEN, .end = TAPE_LOGITS},
                    m),
                *whole = open_tape(
                    (struct tape_spec){.n_seq = 1, .seq_len = SEQ_LEN, .end = TAPE_LOGITS}, m);
    int64_t V = m->spec.vocab_size;
    int32_t front[SEQ_LEN];
    draw_batch(V, 0);
    for (int i = 0; i < SEQ_LEN; i++)
        front[i] = i < FRONT ? 0 : FRONT;
    struct batch b = {.n_seq = 1, .seq_len = SEQ_LEN - FRONT, .ids = ids + FRONT};
    tape_forward(whole, &b, &e);
    stop_on_error(&e, name);
    const float *want = tape_logits(whole, 0, SEQ_LEN - FRONT);
    for (int at = 0; at < SEQ_LEN; at += (int)b.seq_len) {
        b = (struct batch){.n_seq = 1,
                           .seq_len = at ? 1 : PIECE,
                           .pos0 = at,
                           .ids = ids + at,
                           .starts = front + at};
        tape_forward(t, &b, &e);
        stop_on_error(&e, name);
        int64_t last = at + b.seq_len - 1;
        double off = distance(tape_logits(t, b.seq_len - 1, 1), want + (last - FRONT) * V, V);
        CHECK(off < 1e-5, "%s: logits of token %d are off by %g", name, (int)last, off);
    }
    tape_close(t);
    tape_close(whole);
}

static void check_refused(struct tape *t, int row, int32_t start, const char *words)
{
    struct err bad = {0};
    int32_t right = starts[row];
    starts[row] = start;
    tape_forward(t, &packed, &bad);
    starts[row] = right;
    CHECK(bad.set && strstr(bad.msg, words), "\"%s\" expected, not \"%s\"", words, bad.msg);
}

static void check_refusals(struct model *m)
{
    struct rope_table *r = &m->spec.ropes[0];
    draw_batch(m->spec.vocab_size, 0);
    struct tape *t = open_training(m);
    check_refused(t, 14, 12, "token 14 cannot start at 12");
    check_refused(t, 14, 15, "token 14 cannot start at 15");
    check_refused(t, SEQ_LEN, -1, "cannot start at -1");
    tape_close(t);
    r->long_inv_freq = mem_alloc((size_t)r->dims / 2 * sizeof *r->long_inv_freq);
    for (r->long_after = SEQ_LEN - 1; r->long_after <= SEQ_LEN; r->long_after++) {
        struct err none = {0};
        t = open_training(m);
        if (r->long_after == SEQ_LEN)
            CHECK(!tape_forward(t, &packed, &none), "%s", none.msg);
        else
            check_refused(t, 0, 0, "cannot be packed");
        tape_close(t);
    }
    r->long_after = 0;
}

static void check_family(const char *name)
{
    char *dir = mem_format("tests/golden/%s", name);
    struct model m;
    load_model(&m, dir, MODEL_TRAIN, &x);
    model_add_grads(&m, &e);
    stop_on_error(&e, dir);
    check_logits(name, &m);
    check_training(name, &m);
    check_cached(name, &m);
    if (!strcmp(name, "families/llama"))
        check_refusals(&m);
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
