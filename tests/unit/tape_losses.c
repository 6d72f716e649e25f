/* Loss lines of a tape: weights that change between steps, several lines, refusals, and per-token
 * data in a batch. On the CPU, or with --cuda in f32 on a device. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../lib/tape/tape.h"
#include "device.h"
#include "distance.h"

enum { N_SEQ = 4, SEQ_LEN = 7, T = N_SEQ * SEQ_LEN, STEPS = 3 };

static struct exec x;
static struct err e;
static struct model student, teacher;
static int32_t ids[T], labels[T];
static const struct batch batch = {
    .n_seq = N_SEQ, .seq_len = SEQ_LEN, .ids = ids, .labels = labels};

static void draw_batch(void)
{
    for (int i = 0; i < T; i++) {
        ids[i] = i * 7 % 40;
        labels[i] = i % 5 == 4 ? -100 : i * 11 % 40;
    }
}

static struct tape *open_tape(struct tape_spec s)
{
    s.model = &student;
    s.n_seq = N_SEQ;
    s.seq_len = SEQ_LEN;
    s.end = TAPE_LOSS;
    s.train = 1;
    struct tape *t = tape_record(&x, &s, &e);
    stop_on_error(&e, "recording");
    tape_open(t, &e);
    stop_on_error(&e, "opening");
    return t;
}

/* The gradient of a step, to be freed. */
static float *step_of(struct tape *t, const struct batch *b)
{
    size_t bytes = (size_t)student.n_values * sizeof(float);
    float *g = malloc(bytes);
    tape_clear_gradients(t);
    tape_loss_scale(t, 1.0f / T);
    tape_forward(t, b, &e);
    tape_backward(t, b, &e);
    stop_on_error(&e, "a step");
    exec_get(&x, g, student.grads.base, bytes);
    return g;
}

static float *step(struct tape *t) { return step_of(t, &batch); }

static double apart(const float *a, const float *b) { return distance(a, b, student.n_values); }

/* Uses a tape recorded with the weights, for several steps, so that a device replays it. */
static float *recorded(unsigned set, const float weights[LOSS_COUNT])
{
    struct tape_spec s = {.teacher = &teacher, .losses = {{.kind.set = set}}};
    memcpy(s.losses[0].weights, weights, sizeof s.losses[0].weights);
    struct tape *t = open_tape(s);
    float *g = NULL;
    for (int i = 0; i < STEPS; i++) {
        free(g);
        g = step(t);
    }
    tape_close(t);
    return g;
}

/* A tape takes new weights at each step: gradients are those of tapes recorded with them. */
static void check_weights_change(void)
{
    static const float weights[][LOSS_COUNT] = {{[LOSS_kl] = 1},
                                                {[LOSS_ce] = 0.5f, [LOSS_kl] = 1},
                                                {[LOSS_ce] = 2},
                                                {[LOSS_rkl] = 0.1f, [LOSS_jsd] = 1},
                                                {[LOSS_mse] = 1, [LOSS_cosine] = -1}};
    enum { CASES = sizeof weights / sizeof *weights };
    const unsigned all = (1u << LOSS_COUNT) - 1;
    struct tape *t = open_tape(
        (struct tape_spec){.teacher = &teacher, .losses = {{.kind.set = all}}});
    float *now[CASES];
    for (int i = 0; i < STEPS; i++)
        free(step(t));
    for (int i = 0; i < CASES; i++) {
        tape_loss_weights(t, 0, weights[i]);
        now[i] = step(t);
    }
    tape_close(t);
    for (int i = 0; i < CASES; i++) {
        float *want = recorded(all, weights[i]);
        CHECK(!memcmp(now[i], want, (size_t)student.n_values * sizeof *want),
              "weights %d set between steps: the gradient is off by %g", i, apart(now[i], want));
        CHECK(i == 0 || apart(now[i - 1], want) > 1e-3, "weights %d make no difference", i);
        free(want);
    }
    for (int i = 0; i < CASES; i++)
        free(now[i]);
}

/* Lines with ce, and with kl and rkl, against one line with all three. */
static void check_lines(void)
{
    static const float weights[LOSS_COUNT] = {[LOSS_ce] = 0.5f, [LOSS_kl] = 1, [LOSS_rkl] = 0.25f};
    const unsigned ce = LOSS_BIT(ce), both = LOSS_BIT(kl) | LOSS_BIT(rkl);
    struct tape_spec s = {.teacher = &teacher, .losses = {{.kind.set = ce}, {.kind.set = both}}};
    for (int i = 0; i < 2; i++)
        memcpy(s.losses[i].weights, weights, sizeof weights);
    struct tape *two = open_tape(s);
    float *g = step(two), *want = recorded(ce | both, weights);
    CHECK(apart(g, want) < 1e-5, "two lines: the gradient is off by %g", apart(g, want));
    struct arena a;
    double sums[3] = {0}, by_hand[3] = {0};
    exec_arena(&x, &a, sizeof sums, &e);
    stop_on_error(&e, "sums");
    double *there = arena_take(&a, sizeof sums);
    tape_add_losses(two, &batch, there);
    exec_get(&x, sums, there, sizeof sums);
    for (int line = 0; line < 2; line++) {
        const double *values = tape_losses(two, line);
        for (int i = 0; i < T; i++) {
            by_hand[line] += values[line ? 2 * i : i];
            by_hand[2] += line ? values[2 * i + 1] : 0;
        }
    }
    for (int i = 0; i < 3; i++)
        CHECK(sums[i] > 0 && fabs(sums[i] - by_hand[i]) <= 1e-12 * by_hand[i],
              "sum %d of two lines is %g, not %g", i, sums[i], by_hand[i]);
    arena_close(&a);
    tape_close(two);
    free(g);
    free(want);
}

static void check_refused(struct tape_spec s, const struct batch *b, const char *words)
{
    struct err bad = {0};
    s.model = &student;
    s.n_seq = N_SEQ;
    s.seq_len = SEQ_LEN;
    s.end = TAPE_LOSS;
    struct tape *t = tape_record(&x, &s, &bad);
    if (t && !tape_open(t, &bad))
        tape_forward(t, b, &bad);
    CHECK(bad.set && strstr(bad.msg, words), "\"%s\" expected, not \"%s\"", words, bad.msg);
    tape_close(t);
}

/* ---- data of tokens */

struct seen {
    int calls, wrong;
};

/* Each token's data, a row of three numbers that say which token it is. */
static void look(void *user, const struct tapped *t)
{
    struct seen *seen = user;
    int64_t tokens = t->b->n_seq * t->b->seq_len;
    int32_t *rows = malloc((size_t)tokens * 12);
    exec_get(t->x, rows, t->b->token_data, (size_t)tokens * 12);
    int wrong = t->b->token_bytes != 12;
    for (int64_t i = 0; i < 3 * tokens; i++)
        wrong += rows[i] != 3 * t->first * t->b->seq_len + i;
#pragma omp atomic
    seen->wrong += wrong;
#pragma omp atomic
    seen->calls++;
    free(rows);
}

static void check_token_data(void)
{
    int32_t data[3 * T];
    for (int i = 0; i < 3 * T; i++)
        data[i] = i;
    struct batch with = batch;
    with.token_data = data;
    with.token_bytes = 12;
    struct tape_spec s = {.model = &student,
                          .n_seq = N_SEQ,
                          .seq_len = SEQ_LEN,
                          .end = TAPE_LOSS,
                          .losses = {{.kind.set = LOSS_BIT(ce)}},
                          .token_bytes = 12};
    struct seen seen = {0};
    struct tape *t = tape_record(&x, &s, &e);
    tape_tap(t, TAP_BLOCK_INPUT, 1, NULL, look, &seen, &e);
    stop_on_error(&e, "a tap");
    tape_open(t, &e);
    tape_forward(t, &with, &e);
    stop_on_error(&e, "data of tokens");
    CHECK(seen.calls == exec_workers(&x) && !seen.wrong, "data of tokens: %d calls, %d wrong",
          seen.calls, seen.wrong);
    tape_close(t);
    check_refused(s, &batch, "bytes of data a token");
    s.token_bytes = 0;
    check_refused(s, &with, "bytes of data a token");
}

/* The teacher's logits of the batch, to be freed. */
static float *teacher_logits(void)
{
    struct tape_spec s = {
        .model = &teacher, .n_seq = N_SEQ, .seq_len = SEQ_LEN, .end = TAPE_LOGITS};
    struct tape *t = tape_record(&x, &s, &e);
    stop_on_error(&e, "recording the teacher");
    tape_open(t, &e);
    tape_forward(t, &batch, &e);
    stop_on_error(&e, "the teacher's logits");
    size_t bytes = (size_t)(T * teacher.spec.vocab_size) * sizeof(float);
    float *logits = memcpy(malloc(bytes), tape_logits(t, 0, T), bytes);
    tape_close(t);
    return logits;
}

/* The teacher's logits with the tokens are as good as the teacher. */
static void check_given(void)
{
    static const float weights[LOSS_COUNT] = {[LOSS_kl] = 1, [LOSS_mse] = 0.3f, [LOSS_jsd] = 0.5f};
    const unsigned set = LOSS_BIT(kl) | LOSS_BIT(mse) | LOSS_BIT(jsd);
    struct tape_spec s = {.given = {TEACHER_LOGITS, teacher.spec.vocab_size},
                          .losses = {{.kind.set = set}}};
    memcpy(s.losses[0].weights, weights, sizeof weights);
    float *logits = teacher_logits(), *want = recorded(set, weights), *g = NULL;
    struct batch with = batch;
    with.token_data = logits;
    with.token_bytes = loss_token_bytes(s.given);
    struct tape *t = open_tape(s);
    for (int i = 0; i < STEPS; i++) {
        free(g);
        g = step_of(t, &with);
    }
    CHECK(apart(g, want) < 1e-5, "logits with the tokens: the gradient is off by %g",
          apart(g, want));
    tape_close(t);
    s.given.form = TEACHER_TERMS;
    check_refused(s, &with, "loss jsd needs more of the teacher");
    s.given.form = TEACHER_REST;
    check_refused(s, &with, "loss mse needs more of the teacher");
    free(logits);
    free(want);
    free(g);
}

int main(int argc, char **argv)
{
    device_open(&x, &argc, &argv);
    draw_batch();
    load_model(&student, "tests/golden/slice/llama/all", MODEL_TRAIN, &x);
    load_model(&teacher, "tests/golden/families/llama", MODEL_FROZEN, &x);
    model_add_grads(&student, &e);
    stop_on_error(&e, "gradients");
    check_weights_change();
    check_lines();
    check_refused((struct tape_spec){.losses = {{.kind.set = LOSS_BIT(kl)}}}, &batch,
                  "loss kl needs a teacher");
    check_token_data();
    check_given();
    model_free(&student);
    model_free(&teacher);
    exec_close(&x);
    return check_report();
}
