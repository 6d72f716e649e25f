/* Losses on hidden states on a tape: the first step of the golden trajectories; every place and
 * loss between families of other widths, depths and head counts, where the gradient of each tensor
 * and of the lift is the slope of the losses; recomputation; teacher lines that nothing reads;
 * refusals. Reads tests/golden. On the CPU, or with --cuda in f32 on a device. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/safetensors.h"
#include "../../lib/base/rng.h"
#include "../../lib/tape/tape_private.h"
#include "device.h"

enum { N_SEQ = 2, SEQ_LEN = 33, T = N_SEQ * SEQ_LEN, SUMS = 8 };

static struct exec x;
static struct err e;
static int each_param = 1; /* how many there are to one whose slope is taken */
static int32_t ids[T], labels[T];
static const struct batch batch = {
    .n_seq = N_SEQ, .seq_len = SEQ_LEN, .ids = ids, .labels = labels};

/* ---- a student with its lift, a teacher, and a tape of both */

struct pair {
    struct model student, teacher;
    struct param *lift;
    struct tape *tape;
    struct arena arena;
    double *sums;
};

/* lift: its values, NULL: drawn */
static void pair_load(struct pair *p, const char *student, const char *teacher, const float *lift)
{
    *p = (struct pair){0};
    load_model(&p->student, student, MODEL_TRAIN, NULL);
    load_model(&p->teacher, teacher, MODEL_FROZEN, NULL);
    int64_t rows = p->teacher.spec.hidden_size, cols = p->student.spec.hidden_size;
    if (lift || rows != cols) {
        struct rng rng = rng_open(3, 0);
        p->lift = model_add_matrix(&p->student, rows, cols, &e);
        stop_on_error(&e, "the lift");
        for (int64_t i = 0; i < rows * cols; i++)
            ((float *)p->lift->v)[i] = lift ? lift[i]
                                            : (float)(rng_normal(&rng) / sqrt((double)cols));
    }
    model_plan(&p->student, &x);
    model_plan(&p->teacher, &x);
    model_move(&p->student, &x, &e);
    model_move(&p->teacher, &x, &e);
    model_add_grads(&p->student, &e);
    exec_arena(&x, &p->arena, SUMS * sizeof *p->sums, &e);
    stop_on_error(&e, "moving the models");
    p->sums = arena_take(&p->arena, SUMS * sizeof *p->sums);
}

static struct tape_spec spec_of(struct pair *p, const struct tape_state *states, int n)
{
    struct tape_spec s = {.model = &p->student,
                          .teacher = &p->teacher,
                          .n_seq = N_SEQ,
                          .seq_len = SEQ_LEN,
                          .end = TAPE_LOSS,
                          .train = 1,
                          .losses = {{.kind.set = LOSS_BIT(ce)}},
                          .lift = p->lift};
    memcpy(s.states, states, sizeof *states * (size_t)n);
    return s;
}

static void pair_open(struct pair *p, const struct tape_spec *s)
{
    tape_close(p->tape);
    p->tape = tape_record(&x, s, &e);
    stop_on_error(&e, "recording");
    tape_open(p->tape, &e);
    stop_on_error(&e, "opening");
}

static void pair_close(struct pair *p)
{
    tape_close(p->tape);
    model_free(&p->student);
    model_free(&p->teacher);
    arena_close(&p->arena);
}

static void forward(struct pair *p, double sums[SUMS])
{
    exec_zero(&x, p->sums, SUMS * sizeof *sums);
    tape_forward(p->tape, &batch, &e);
    tape_add_losses(p->tape, &batch, p->sums);
    exec_get(&x, sums, p->sums, SUMS * sizeof *sums);
    stop_on_error(&e, "forward");
}

/* The gradient of a step whose forward pass has run, to be freed. */
static float *backward(struct pair *p)
{
    size_t bytes = (size_t)p->student.n_values * sizeof(float);
    float *g = mem_alloc(bytes);
    tape_backward(p->tape, &batch, &e);
    stop_on_error(&e, "backward");
    exec_get(&x, g, p->student.grads.base, bytes);
    return g;
}

static double norm(const float *g, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)g[i] * (double)g[i];
    return sqrt(sum);
}

/* ---- the first step of the golden trajectories: sums over B (T - 1) predictions, B T states */

static void golden_read(const char *name, void *values, int64_t bytes)
{
    struct safetensors *f = sf_open("tests/golden/train/data.safetensors", &e);
    stop_on_error(&e, "tests/golden/train/data.safetensors");
    sf_read(f, sf_find(f, name), 0, values, bytes, &e);
    stop_on_error(&e, name);
    sf_close(f);
}

static void golden_batch(void)
{
    golden_read("tokens", ids, sizeof ids);
    for (int i = 0; i < T; i++)
        labels[i] = i % SEQ_LEN == SEQ_LEN - 1 ? LABEL_UNCOUNTED : ids[i + 1];
}

static int near(double a, double b, double tolerance) { return fabs(a - b) <= tolerance * fabs(b); }

/* step 0 in MODE.json */
static void check_golden(int raw, double state, double grad_norm)
{
    float lift[36 * 24];
    golden_read("lift", lift, sizeof lift);
    struct pair p;
    const struct tape_state third = {STATE_BLOCK, 1, 0, 1};
    pair_load(&p, "tests/golden/slice/llama/all", "tests/golden/families/llama", lift);
    struct tape_spec s = spec_of(&p, &third, 1);
    s.losses[0].kind.set |= LOSS_BIT(kl);
    s.losses[0].weights[LOSS_ce] = s.losses[0].weights[LOSS_kl] = 1;
    s.raw_states = raw;
    float *kept = NULL;
    for (s.recompute = 0; s.recompute < 2; s.recompute++) {
        pair_open(&p, &s);
        double sums[SUMS], n = T - N_SEQ;
        tape_clear_gradients(p.tape);
        tape_loss_scale(p.tape, (float)(1 / n));
        forward(&p, sums);
        double ce = sums[0] / n, kl = sums[1] / n, got = sums[2] / T;
        CHECK(near(ce, 5.728633919511535, 1e-5) && near(kl, 1.7422058501105036, 1e-5),
              "golden: ce %.9g, kl %.9g", ce, kl);
        CHECK(near(got, state, 1e-5), "golden: a state of %.9g, not %.9g", got, state);
        tape_state_step(p.tape, 1.0f / T, (float)(kl / got));
        float *g = backward(&p);
        double length = norm(g, p.student.n_values);
        CHECK(near(length, grad_norm, 1e-5), "golden: a gradient of %.9g, not %.9g", length,
              grad_norm);
        CHECK(!kept || !memcmp(kept, g, (size_t)p.student.n_values * sizeof *g),
              "recomputation changes the gradient");
        free(kept);
        kept = g;
    }
    free(kept);
    pair_close(&p);
}

/* ---- gradients against slopes */

static double states_sum(struct pair *p, const struct tape_spec *s)
{
    double sums[SUMS], sum = 0;
    forward(p, sums);
    for (int i = 0; i < TAPE_STATES && s->states[i].place; i++)
        sum += (double)s->states[i].weight * sums[1 + i] / T;
    return sum;
}

/* Moves the n values from `at` on of the weights by `by` times g. */
static void move(struct pair *p, const float *weights, const float *g, int64_t at, int64_t n,
                 double by)
{
    float *moved = mem_alloc((size_t)n * sizeof *moved);
    for (int64_t i = 0; i < n; i++)
        moved[i] = (float)((double)weights[at + i] + by * (double)g[at + i]);
    model_weights_put(&p->student, &(struct model_run){.first = at, .n = n}, moved);
    free(moved);
}

/* The change of the states along the gradient of one parameter is the square of its length. */
static void check_param(struct pair *p, const struct tape_spec *s, const char *what,
                        const float *weights, const float *g, int64_t at, int64_t n)
{
    double length = norm(g + at, n), h = 2e-3 / length, sums[2];
    if (length < 1e-4)
        return;
    h = fmin(h, 1e-3 * fmax(norm(weights + at, n), 1e-2) / length);
    move(p, weights, g, at, n, h);
    sums[0] = states_sum(p, s);
    move(p, weights, g, at, n, -h);
    sums[1] = states_sum(p, s);
    move(p, weights, g, at, n, 0);
    double slope = (sums[0] - sums[1]) / (2 * h) / length,
           allowed = 0.02 * length + 3e-7 / (h * length);
    CHECK(fabs(slope - length) <= allowed, "%s: a gradient of %g, a slope of %g", what, length,
          slope);
}

static void check_slopes(struct pair *p, const struct tape_spec *s, const char *name)
{
    int n_params = p->student.spec.n_tensors + p->student.n_added;
    size_t bytes = (size_t)p->student.n_values * sizeof(float);
    float *weights = mem_alloc(bytes);
    exec_get(&x, weights, p->student.weights.base, bytes);
    tape_clear_gradients(p->tape);
    tape_state_step(p->tape, 1.0f / T, 1);
    states_sum(p, s);
    float *g = backward(p);
    int64_t at = 0;
    for (int i = 0; i < n_params; i++) {
        int64_t n = p->student.params[i].rows * p->student.params[i].cols;
        const char *tensor = i < p->student.spec.n_tensors ? p->student.spec.tensors[i].name
                                                           : "lift";
        char *what = mem_format("%s, %s", name, tensor);
        if (i % each_param == 0)
            check_param(p, s, what, weights, g, at, n);
        at += n;
        free(what);
    }
    CHECK(norm(g, at) > 1e-4, "%s: no gradient", name);
    int64_t lifted = p->lift ? p->lift->rows * p->lift->cols : 0;
    CHECK(!lifted || s->states[0].place == STATE_QKV || norm(g + at - lifted, lifted) > 1e-4,
          "%s: the lift has no gradient", name);
    free(weights);
    free(g);
}

static void check_families(void)
{
    static const struct {
        const char *student, *teacher;
        struct tape_state state;
        enum state_loss loss;
        int raw;
    } cases[] = {
        {"families/gpt2", "families/llama", {STATE_BLOCK, 3, 1, 1}, STATE_cosine, 0},
        {"families/gpt2", "families/gemma2", {STATE_EMB, 0, 0, 0.5f}, STATE_cosine, 0},
        {"families/gpt_neox", "families/qwen3", {STATE_BLOCK, 0, 2, 1}, STATE_mse, 0},
        {"families/qwen2", "families/olmo2", {STATE_BLOCK, 1, 1, 2}, STATE_cosine, 1},
        {"families/olmo2", "families/nemotron", {STATE_MLP_IN, 2, 1, 1}, STATE_mse, 0},
        {"families/llama_bias", "families/phi3", {STATE_MLP_IN, 0, 2, 1}, STATE_cosine, 0},
        {"families/gpt2", "families/llama", {STATE_QKV, 3, 1, 1}, STATE_cosine, 0},
        {"families/llama_bias", "families/gpt_neox", {STATE_QKV, 2, 0, 1}, STATE_cosine, 0},
        {"slice/llama/depth", "families/llama", {STATE_BLOCK, 3, 2, 1}, STATE_cosine, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *student = mem_format("tests/golden/%s", cases[i].student),
             *teacher = mem_format("tests/golden/%s", cases[i].teacher),
             *name = mem_format("%s from %s, place %d", cases[i].student, cases[i].teacher,
                                (int)cases[i].state.place);
        struct pair p;
        pair_load(&p, student, teacher, NULL);
        struct tape_spec s = spec_of(&p, &cases[i].state, 1);
        s.state_loss = cases[i].loss;
        s.raw_states = cases[i].raw;
        pair_open(&p, &s);
        check_slopes(&p, &s, name);
        pair_close(&p);
        free(student);
        free(teacher);
        free(name);
    }
}

/* All places at once, whose lines share slots and the lift. */
static void check_sum(void)
{
    static const struct tape_state all[] = {{STATE_EMB, 0, 0, 1},
                                            {STATE_BLOCK, 2, 1, 0.5f},
                                            {STATE_BLOCK, 3, 1, 2},
                                            {STATE_MLP_IN, 2, 1, 1},
                                            {STATE_QKV, 2, 1, 1}};
    struct pair p;
    pair_load(&p, "tests/golden/slice/llama/all", "tests/golden/families/llama", NULL);
    struct tape_spec s = spec_of(&p, all, 5);
    pair_open(&p, &s);
    check_slopes(&p, &s, "five states");
    pair_close(&p);
}

/* ---- what is not run, what is refused */

static int forward_events(const struct tape *t, int is_teacher)
{
    int n = 0;
    for (int i = 0; i < t->n_events; i++)
        n += t->events[i].kind == EVENT_FORWARD &&
             t->lines[t->events[i].line].is_teacher == is_teacher;
    return n;
}

/* Without a loss on the teacher's logits its last lines are not run. */
static void check_unread(void)
{
    struct pair p;
    const struct tape_state first = {STATE_BLOCK, 0, 0, 1};
    pair_load(&p, "tests/golden/slice/llama/depth", "tests/golden/families/llama", NULL);
    struct tape_spec s = spec_of(&p, &first, 1);
    pair_open(&p, &s);
    int few = forward_events(p.tape, 1), own = forward_events(p.tape, 0);
    s.losses[0].kind.set |= LOSS_BIT(kl);
    pair_open(&p, &s);
    int all = forward_events(p.tape, 1);
    CHECK(all > 3 * few && few > 10,
          "%d lines of the teacher for its first block, %d for its logits", few, all);
    CHECK(own == forward_events(p.tape, 0), "the student has other lines");
    pair_close(&p);
}

static void check_refused(const char *student, const char *teacher, struct tape_state state,
                          const char *words)
{
    struct pair p;
    struct err bad = {0};
    pair_load(&p, student, teacher, NULL);
    struct tape_spec s = spec_of(&p, &state, 1);
    if (state.place == STATE_EMB)
        s.lift = NULL;
    struct tape *t = tape_record(&x, &s, &bad);
    CHECK(!t && strstr(bad.msg, words), "\"%s\" expected, not \"%s\"", words, bad.msg);
    tape_close(t);
    pair_close(&p);
}

int main(int argc, char **argv)
{
    device_open(&x, &argc, &argv);
    each_param = x.device == DEVICE_CUDA ? 4 : 1; /* an emulated device is slow */
    golden_batch();
    check_golden(0, 0.982558293806672, 4.06448932371493);
    check_golden(1, 0.9819198083498465, 4.060228663279555);
    if (x.device == DEVICE_CPU)
        check_families();
    check_sum();
    check_unread();
    check_refused("tests/golden/families/qwen2", "tests/golden/families/olmo2",
                  (struct tape_state){STATE_BLOCK, 1, 1, 1},
                  "no norm reads what block 1 of the teacher (olmo2) writes");
    check_refused("tests/golden/families/gpt2", "tests/golden/families/llama",
                  (struct tape_state){STATE_EMB, 0, 0, 1}, "without a lift");
    exec_close(&x);
    return check_report();
}
