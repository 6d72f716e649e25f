/* Gradients of a step at the lengths and head sizes of real models, where grids have several waves,
 * tiles are many and offsets large: the device in f32 and bf16 against the CPU, parameter by
 * parameter; without a device, two threads against one. usage: tape_lengths [--cuda [short]]: short
 * is for the emulator, which takes minutes for the long ones. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../lib/base/rng.h"
#include "../../lib/tape/tape.h"
#include "device.h"
#include "distance.h"

struct size {
    const char *name;
    int64_t E, H, K, D, F, L, V, T, B;
};
static const struct size sizes[] = {
    {"heads of 64 in groups of 3", 576, 9, 3, 64, 1536, 2, 4099, 2048, 2},
    {"heads of 128 in groups of 8", 1024, 16, 2, 128, 2816, 2, 4096, 2048, 1},
    {"heads of 80, odd sizes", 600, 6, 2, 80, 1001, 2, 1003, 1500, 2},
    {"heads of 256", 512, 4, 2, 256, 1024, 1, 1000, 1100, 1},
    {"8192 tokens", 512, 8, 1, 64, 512, 1, 512, 8192, 1},
    {"a vocabulary of 128256", 256, 4, 2, 64, 512, 1, 128256, 1100, 1}};
static const struct size short_sizes[] = {{"heads of 64", 96, 3, 1, 64, 160, 1, 331, 256, 1},
                                          {"heads of 80", 60, 2, 1, 80, 101, 1, 103, 150, 2}};

static struct err e;

/* The same values for the same size. */
static void make_model(struct model *m, const struct size *s)
{
    struct model_spec h = {0};
    json_t *config = json_pack(
        "{s:s, s:[s], s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:f, s:f}", "model_type",
        "llama", "architectures", "LlamaForCausalLM", "hidden_size", s->E, "num_hidden_layers",
        s->L, "num_attention_heads", s->H, "num_key_value_heads", s->K, "head_dim", s->D,
        "intermediate_size", s->F, "vocab_size", s->V, "max_position_embeddings", (json_int_t)8192,
        "tie_word_embeddings", 0, "rms_norm_eps", 1e-5, "initializer_range", 0.08);
    if (!model_spec_from_config(&h, config, &e))
        model_init_random(m, &h, 1, &e);
    stop_on_error(&e, "a model");
    model_spec_free(&h);
}

/* Few of the ids are frequent, as in text. */
static struct batch draw_batch(const struct size *s)
{
    int64_t n = s->B * s->T;
    int32_t *ids = malloc((size_t)n * sizeof *ids), *labels = malloc((size_t)n * sizeof *labels);
    struct rng r = rng_open(3, 0);
    for (int64_t i = 0; i < n; i++)
        ids[i] = (int32_t)((double)s->V * pow(rng_uniform(&r), 4));
    for (int64_t i = 0; i < n; i++)
        labels[i] = i % s->T < s->T - 1 ? ids[i + 1] : -100;
    return (struct batch){.n_seq = s->B, .seq_len = s->T, .ids = ids, .labels = labels};
}

static struct tape *record(const struct size *s, struct exec *x, struct model *m)
{
    make_model(m, s);
    if (!model_move(m, x, &e))
        model_add_grads(m, &e);
    struct tape_spec spec = {.model = m,
                             .n_seq = s->B,
                             .seq_len = s->T,
                             .end = TAPE_LOSS,
                             .train = 1,
                             .losses = {{{.set = LOSS_BIT(ce)}, {[LOSS_ce] = 1}}}};
    return tape_record(x, &spec, &e);
}

/* Losses in losses[B * T]; returns the gradients of all parameters, on the host. */
static float *run(const struct size *s, struct exec *x, const struct batch *b, double *losses)
{
    struct model m;
    struct tape *t = record(s, x, &m);
    stop_on_error(&e, s->name);
    if (!tape_open(t, &e) && !tape_forward(t, b, &e)) {
        memcpy(losses, tape_losses(t, 0), (size_t)(s->B * s->T) * sizeof *losses);
        tape_backward(t, b, &e);
    }
    stop_on_error(&e, s->name);
    float *g = malloc((size_t)m.n_values * sizeof *g);
    exec_get(x, g, m.grads.base, (size_t)m.n_values * sizeof *g);
    tape_close(t);
    model_free(&m);
    return g;
}

static double mean(const double *losses, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += losses[i];
    return sum / (double)n;
}

/* The bound for bf16: its gradients add up roundings of all layers. */
static void check_against(const struct size *s, struct exec *x, const struct batch *b,
                          const float *want, double want_loss, const char *who)
{
    int is_bf16 = x->compute == DT_BF16;
    double *losses = calloc((size_t)(s->B * s->T), sizeof *losses), worst = 0;
    float *got = run(s, x, b, losses);
    const char *where = "";
    struct model m;
    make_model(&m, s);
    for (int64_t i = 0, at = 0; i < m.spec.n_tensors; i++) {
        int64_t n = m.params[i].rows * m.params[i].cols;
        double off = distance(got + at, want + at, n);
        if (!(off <= worst)) {
            worst = off;
            where = m.spec.tensors[i].name;
        }
        at += n;
    }
    double loss = mean(losses, s->B * s->T), off = fabs(loss / want_loss - 1);
    printf("%s, %s: gradients off by %.1e at most (%s), loss by %.1e\n", s->name, who, worst, where,
           off);
    CHECK(worst < (is_bf16 ? 0.06 : 1e-4), "%s, %s: the gradient of %s is off by %g", s->name, who,
          where, worst);
    CHECK(off < (is_bf16 ? 2e-3 : 1e-6), "%s, %s: the loss is %g, not %g", s->name, who, loss,
          want_loss);
    model_free(&m);
    free(losses);
    free(got);
}

static void check_size(const struct size *s, struct exec *cpu, struct exec *x)
{
    struct batch b = draw_batch(s);
    double *losses = calloc((size_t)(s->B * s->T), sizeof *losses);
    float *want = run(s, cpu, &b, losses);
    double loss = mean(losses, s->B * s->T);
    x->compute = DT_F32;
    check_against(s, x, &b, want, loss, x->device == DEVICE_CPU ? "two threads" : "f32");
    if (x->device != DEVICE_CPU) {
        x->compute = DT_BF16;
        check_against(s, x, &b, want, loss, "bf16");
    }
    free(want);
    free(losses);
    free((void *)b.ids);
    free((void *)b.labels);
}

/* What no kernel can do is refused before any memory is taken. */
static void check_refused(struct exec *x, struct size s, const char *want)
{
    struct model m;
    struct tape *t = record(&s, x, &m);
    CHECK(!t && strstr(e.msg, want), "%s: refused by \"%s\"", want, e.msg);
    tape_close(t);
    model_free(&m);
    e = (struct err){0};
}

int main(int argc, char **argv)
{
    struct exec x, cpu;
    device_open(&x, &argc, &argv);
    int is_cpu = x.device == DEVICE_CPU, is_short = argc > 1 && !strcmp(argv[1], "short");
    CHECK(!exec_open(&cpu, DEVICE_CPU, is_cpu), "%s", cpu.err.msg); /* 0: all processors */
    if (is_cpu)
        check_size(&sizes[3], &cpu, &x);
    for (size_t i = 0; !is_cpu && is_short && i < sizeof short_sizes / sizeof *sizes; i++)
        check_size(&short_sizes[i], &cpu, &x);
    for (size_t i = 0; !is_cpu && !is_short && i < sizeof sizes / sizeof *sizes; i++)
        check_size(&sizes[i], &cpu, &x);
    if (!is_cpu) {
        check_refused(&x, (struct size){"", 8, 1, 1, 264, 8, 1, 8, 4, 1},
                      "heads of at most 256 channels, not 264");
        check_refused(&x, (struct size){"", 8, 64, 1, 2, 8, 1, 8, 1 << 20, 1},
                      "at most 524287 tokens with 64 query heads a KV head, not 1048576");
    }
    exec_close(&x);
    exec_close(&cpu);
    return check_report();
}
