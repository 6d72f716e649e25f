/* One row of `make bench`: bench "eval L15" | "train S135" | "kd L110 L15" | "kd-stream S135 S90"
 * (the student taught by 12 drawn tokens a position in place of the teacher) ... prints one JSON
 * line. Each row is a process of its own, so that its memory can be measured. `bench fma` and
 * `bench bf16` print the speed of loops on registers, `bench library` the name of the matrix
 * library.
 *
 * Shapes, batches and accounting follow common PyTorch practice: random weights and tokens, T
 * predictions from T + 1 tokens; FLOPs are nominal, 2 per weight and token forward with full square
 * attention, three times that for training. The register FMA loop runs just before and after, to
 * show what the machine could do at that moment; a run with a reading under 90 % of the best is
 * repeated.
 *
 * --states adds losses on hidden states to kd, as of kd-train.
 *
 * With --device cuda (--compute) the shapes have the batches of GPU practice, FLOPs count half of
 * the square, and no FMA loop runs; --ops adds a line for each op, compared with the device's
 * limits measured in the same run, and --algorithms times the algorithms of products, as that of
 * the tools does, but keeps none. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../lib/base/rng.h"
#include "../../lib/base/usage.h"
#include "../../lib/train/train.h"
#include "../../lib/tape/tape.h"
#include "../../lib/tool/restart.h"
#include "../unit/token_stream.h"
#include "fma.h"
#include "profile.h"
#include "serial.h"
#include "shapes.h"

static struct err e;
static struct exec x;

static void must(int failed)
{
    if (failed || e.set) {
        fprintf(stderr, "bench: %s\n", e.set ? e.msg : x.err.msg);
        exit(1);
    }
}

/* No algorithm is known before, and none is kept after. */
static const char *find_none(void *unused, const char *product)
{
    (void)unused, (void)product;
    return NULL;
}

static void keep_none(void *unused, const char *product, const char *algorithm)
{
    (void)unused, (void)product, (void)algorithm;
}

static const struct algorithms timed = {find_none, keep_none, NULL};

static void tell(void *unused, const char *what)
{
    (void)unused;
    fprintf(stderr, "bench: %s\n", what);
}

static const struct shape *shape_named(const char *name)
{
    const struct shape *s = shape_find(name);
    if (!s) {
        fprintf(stderr, "bench: no shape \"%s\"\n", name);
        exit(2);
    }
    return s;
}

/* Attention is counted as the full square on the CPU, and as half of it on a device. */
static double flops(const struct footprint *f) /* forward, per token */
{
    return x.device == DEVICE_CPU ? f->decode_flops : f->prefill_flops;
}

static struct footprint footprint_of(const struct shape *s)
{
    struct model_spec h;
    must(shape_spec(&h, s, &e));
    struct footprint f = model_footprint(&h, &(struct footprint_options){DT_F32, DT_F32, s->T});
    model_spec_free(&h);
    return f;
}

static void make_model(struct model *m, const struct shape *s)
{
    struct model_spec h;
    must(shape_spec(&h, s, &e));
    model_spec_list_tensors(&h, DT_F32);
    must(model_init_random(m, &h, 1, &e));
    model_spec_free(&h);
}

struct options {
    char task[16], first[16], second[16];
    int steps, recompute, threads, ops, profile, algorithms;
    int64_t batch, length;
    enum device device;
    const char *compute, *states; /* NULL: none */
};

struct row {
    const struct shape *s, *teacher_shape;
    struct footprint cost, teacher_cost; /* zero without a teacher */
    struct model model, teacher;
    struct tokens tokens;
    struct train_stream stream; /* of kd-stream */
    int has_stream;
    struct data_sources data;
    struct trainer trainer;
    struct tape *tape; /* of an evaluation */
    struct data_batch batch;
    int64_t predicted, device; /* bytes; device memory used before */
    int64_t predicted_there;   /* of the device */
    double flops;              /* per token */
};

static void make_tokens(struct row *r)
{
    const struct shape *s = r->s;
    int64_t n = s->B * (s->T + 1);
    uint32_t *ids = mem_alloc((size_t)n * sizeof *ids);
    struct rng g = rng_open(7, 0);
    for (int64_t i = 0; i < n; i++)
        ids[i] = (uint32_t)rng_below(&g, (uint64_t)s->V);
    token_stream(&r->tokens, &(struct token_arrays){.ids = ids}, n, NULL, 0, s->T + 1);
    free(ids);
}

/* Draws of a teacher that gives all tokens the same probability. */
static void make_stream(struct row *r)
{
    enum { DRAWS = 12 };
    struct logits_spec s = {.form = LOGITS_SAMPLE,
                            .n = DRAWS,
                            .temperature = 1,
                            .vocab_size = r->s->V,
                            .seq_length = r->s->T + 1,
                            .count = r->s->B};
    char path[] = "/tmp/pare-logits-XXXXXX";
    double u[DRAWS];
    close(mkstemp(path));
    struct st_out *out = st_create(path, 0, &e);
    json_t *head = json_pack("{s:s, s:s, s:[]}", "kind", "logits", "id", "", "hist"),
           *meta = logits_meta(&s);
    json_object_update(head, meta);
    st_begin(out, head);
    unsigned char *rows = mem_alloc((size_t)(s.seq_length * logits_row_bytes(&s)));
    for (int64_t w = 0; w < s.count; w++) {
        for (int64_t t = 0; t < s.seq_length; t++) {
            int32_t ids[DRAWS];
            float log_p[DRAWS + 1];
            logits_uniform(&s, w, t, u);
            for (int i = 0; i < DRAWS; i++) {
                ids[i] = (int32_t)(u[i] * (double)s.vocab_size);
                log_p[i] = logf(1.0f / DRAWS);
            }
            logits_pack(&s, &(struct loss_listing){ids, log_p}, rows + t * logits_row_bytes(&s));
        }
        struct tensor record = logits_record(&s, w, s.seq_length);
        st_put(out, &record, rows);
    }
    st_end(out);
    must(st_publish(out));
    must(train_stream_open(&r->stream, st_open(path, &e), "auto", &e));
    unlink(path);
    json_decref(head);
    json_decref(meta);
    free(rows);
}

static void open_eval(struct row *r)
{
    const struct shape *s = r->s;
    struct tape_spec spec = {.model = &r->model,
                             .n_seq = s->B,
                             .seq_len = s->T,
                             .end = TAPE_LOSS,
                             .losses = {{.kind.set = LOSS_BIT(ce)}}};
    r->model.how = MODEL_FROZEN;
    r->predicted_there = model_plan(&r->model, &x);
    r->tape = tape_record(&x, &spec, &e);
    must(!r->tape || model_move(&r->model, &x, &e));
    r->predicted += tape_bytes(r->tape);
    r->predicted_there += tape_bytes(r->tape);
    must(tape_open(r->tape, &e));
    struct windows w;
    must(windows_open(&w, &r->tokens, &(struct window_options){0}, &e));
    data_batch_open(&r->batch, s->B, s->T + 1);
    must(windows_fill(&w, 0, s->B, &r->batch, &e));
    windows_close(&w);
}

static void open_training(struct row *r, const struct options *asked)
{
    struct train_options o = {
        .schedule = {.max_steps = 1000,
                     .warmup_steps = 10,
                     .decay_steps = -1,
                     .learning_rate = 1e-4,
                     .min_learning_rate = 1e-5},
        .batch_size = r->s->B,
        .seq_length = r->s->T + 1,
        .accumulation = 1,
        .seed = 1,
        .weight_decay = 0.1,
        .beta1 = 0.9,
        .beta2 = 0.95,
        .epsilon = 1e-8,
        .max_grad_norm = 1,
        .temperature = 1,
        .jsd_beta = NAN,
        .weights = {[LOSS_ce] = !r->teacher_shape, [LOSS_kl] = r->teacher_shape != NULL},
        .recompute = asked->recompute};
    struct states_options states = {.sum = asked->states};
    if (r->has_stream) {
        o.stream = &r->stream;
        o.weights[LOSS_ce] = 0;
        o.weights[LOSS_kl] = 1;
    }
    must(train_states_resolve(&o.states, &states, &e) || train_options_resolve(&o, &e));
    if (states.sum)
        must(train_states_check(&o.states, &r->model.spec, &r->teacher.spec, NULL, &e));
    data_sources_one(&r->data, &r->tokens);
    char note[200];
    must(rows_open(&r->data, &o, &r->model.spec, r->teacher_shape ? &r->teacher.spec : NULL, note,
                   &e));
    must(train_open(&r->trainer, &x, &o, &r->model, r->teacher_shape ? &r->teacher : NULL, &r->data,
                    &e));
    /* gradients and two moments */
    r->predicted += 12 * r->model.n_values + train_activation_bytes(&r->trainer);
    r->predicted_there = train_bytes(&r->trainer);
}

static void run_once(struct row *r)
{
    static const volatile sig_atomic_t go_on = 0;
    struct train_record record;
    if (r->tape)
        must(tape_forward(r->tape, &r->batch.b, &e));
    else
        must(train_step(&r->trainer, &go_on, &record, &e) != 1);
}

static int by_value(const void *a, const void *b)
{
    double p = *(const double *)a, q = *(const double *)b;
    return (p > q) - (p < q);
}

static void sort_times(double *seconds, int steps, double *median, double *best)
{
    qsort(seconds, (size_t)steps, sizeof *seconds, by_value);
    *best = seconds[0];
    *median = steps % 2 ? seconds[steps / 2] : (seconds[steps / 2 - 1] + seconds[steps / 2]) / 2;
}

/* On a device: three runs first, in which algorithms are chosen and graphs captured. */
static void measure_device(struct row *r, int steps, double *median, double *best)
{
    double *seconds = mem_alloc(sizeof *seconds * (size_t)steps);
    for (int i = -3; i < steps; i++) {
        double t = usage_seconds();
        run_once(r);
        if (r->tape)
            tape_losses(r->tape, 0); /* waits for the device, as a step does anyway */
        if (i >= 0)
            seconds[i] = usage_seconds() - t;
    }
    sort_times(seconds, steps, median, best);
    free(seconds);
}

static void print_device(struct row *r, const char *name, int steps, int with_ops, int recompute)
{
    double median, best, tokens = (double)(r->s->B * r->s->T);
    measure_device(r, steps, &median, &best);
    struct ceiling c = {0};
    if (with_ops) {
        must(profile_ceiling(&x, &c, &e));
        double of_ops = profile_print(r->tape ? r->tape : r->trainer.tape,
                                      r->tape ? &r->batch.b : &r->trainer.batch.b, &c);
        /* AdamW, the norm of the gradients, gaps; negative where a graph is faster than its ops */
        printf("{\"op\":\"rest of the\",\"direction\":\"step\",\"calls\":1,\"ms\":%.3f,"
               "\"share\":%.3f,\"of\":\"step\"}\n",
               1e3 * (median - of_ops), (median - of_ops) / median);
    }
    const struct slow_products slow = exec_slow_products(&x);
    const char *algorithms = x.algorithms ? "timed" : "first";
    const char *yes_or_no = recompute ? "true" : "false";
    printf("{\"row\":\"%s\",\"compute\":\"%s\",\"recompute\":%s,\"batch\":%lld,\"seq\":%lld,"
           "\"algorithms\":\"%s\",\"tokens_per_second\":%.1f,\"step_ms\":%.2f,\"tflops\":%.2f,"
           "\"mfu_of_989\":%.4f,\"used_gb\":%.6f,\"predicted_gb\":%.6f,\"product_tflops\":%.1f,"
           "\"copy_gb_per_second\":%.1f,\"slow_size\":%lld,\"refused_products\":%lld}\n",
           name, x.tf32 ? "tf32" : dtype_name(x.compute), yes_or_no, (long long)r->s->B,
           (long long)r->s->T, algorithms, tokens / median, 1e3 * median,
           r->flops * tokens / median / 1e12, r->flops * tokens / median / 989e12,
           1e-9 * (double)(r->device - exec_available(&x)), 1e-9 * (double)r->predicted_there,
           c.product / 1e12, c.copy / 1e9, (long long)slow.size, (long long)slow.refused);
    if (slow.refused)
        exit(1);
}

/* The share of the processor time since `start` that was spent on one thread alone. */
static double alone_since(struct serial start)
{
    struct serial now = serial_now();
    return (now.alone - start.alone) / (now.all - start.all);
}

/* Times `steps` runs after two for warming up, with FMA readings before and after. Repeats all of
 * it while these say that the machine was busy. Returns the share of them that ran on one thread
 * alone. */
static double measure(struct row *r, int steps, double *median, double *best, double fma[2])
{
    double alone = 0;
    double *seconds = mem_alloc(sizeof *seconds * (size_t)steps), peak = 0;
    run_once(r);
    run_once(r);
    for (int attempt = 0; attempt < 5; attempt++) {
        fma[0] = fma_gflops(x.threads);
        struct serial start = serial_now();
        for (int i = 0; i < steps; i++) {
            double t = usage_seconds();
            run_once(r);
            seconds[i] = usage_seconds() - t;
        }
        alone = alone_since(start);
        fma[1] = fma_gflops(x.threads);
        peak = fmax(peak, fmax(fma[0], fma[1]));
        if (fmin(fma[0], fma[1]) >= 0.9 * peak)
            break;
    }
    sort_times(seconds, steps, median, best);
    free(seconds);
    return alone;
}

/* The shape with the device's batch, or the requested one. */
static const struct shape *shape_for(const char *name, int64_t B, int64_t T)
{
    static struct shape both[2];
    static int used;
    struct shape *s = &both[used++ % 2];
    *s = *shape_named(name);
    if (x.device != DEVICE_CPU && s->B_gpu) {
        s->B = s->B_gpu;
        s->T = s->T_gpu;
    }
    s->B = B ? B : s->B;
    s->T = T ? T : s->T;
    return s;
}

/* Prints where the time of a step goes, on stderr: milliseconds and shares of the ops, forward and
 * backward, and the time between them. */
static void profile(struct row *r, int steps)
{
    memset(x.seconds, 0, sizeof x.seconds);
    double start = usage_seconds(), rest = 1;
    for (int i = 0; i < steps; i++)
        run_once(r);
    double all = usage_seconds() - start;
    for (int op = 0; op < OP_COUNT; op++) {
        const double *s = x.seconds[op];
        rest -= (s[0] + s[1]) / all;
        if (s[0] + s[1] > 0)
            fprintf(stderr, "%-10s forward %8.2f ms %5.1f %%   backward %8.2f ms %5.1f %%\n",
                    ops[op].name, 1e3 * s[0] / steps, 100 * s[0] / all, 1e3 * s[1] / steps,
                    100 * s[1] / all);
    }
    fprintf(stderr, "%-10s         %8.2f ms %5.1f %%   a step   %8.2f ms\n", "between",
            1e3 * rest * all / steps, 100 * rest, 1e3 * all / steps);
}

static int is_task(const struct options *o, int words)
{
    return !strcmp(o->task, "fma") || !strcmp(o->task, "bf16") ||
           (words >= 2 && (!strcmp(o->task, "eval") || !strcmp(o->task, "train") ||
                           !strcmp(o->task, "kd") || !strcmp(o->task, "kd-stream")));
}

static void parse(struct options *o, int argc, char **argv)
{
    const struct {
        const char *name;
        int *to;
    } flags[] = {{"--recompute", &o->recompute},
                 {"--profile", &o->profile},
                 {"--ops", &o->ops},
                 {"--algorithms", &o->algorithms}};
    *o = (struct options){.steps = 5, .compute = ""};
    for (int i = 2; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        for (size_t k = 0; k < sizeof flags / sizeof *flags; k++)
            *flags[k].to |= !strcmp(argv[i], flags[k].name);
        if (!strcmp(argv[i], "--steps"))
            o->steps = atoi(value);
        else if (!strcmp(argv[i], "--threads"))
            o->threads = atoi(value);
        else if (!strcmp(argv[i], "--batch"))
            o->batch = atoi(value);
        else if (!strcmp(argv[i], "--seq"))
            o->length = atoi(value);
        else if (!strcmp(argv[i], "--compute"))
            o->compute = value;
        else if (!strcmp(argv[i], "--states"))
            o->states = value;
        else if (!strcmp(argv[i], "--device"))
            o->device = strcmp(value, "cuda") ? DEVICE_CPU : DEVICE_CUDA;
    }
    if (argc >= 2 && is_task(o, sscanf(argv[1], "%15s %15s %15s", o->task, o->first, o->second)) &&
        o->steps >= 1)
        return;
    fprintf(
        stderr,
        "usage: bench 'eval SHAPE' | 'train SHAPE' | 'kd[-stream] TEACHER STUDENT' | fma | bf16 | "
        "library [--steps N] [--threads N] [--recompute] [--profile] [--states SUM]\n"
        "       [--device cuda [--compute bf16|tf32|f32] [--ops]] [--batch B] [--seq T]\n");
    exit(2);
}

/* Checked before minutes are spent on random weights: a trained parameter takes 18 bytes on a
 * device (16 in f32), a frozen one 2 or 4. */
static void check_room(const struct row *r, int is_eval)
{
    double narrow = x.compute == DT_BF16 ? 2 : 4;
    double trained = x.compute == DT_BF16 ? 18 : 16;
    double needed = (double)r->cost.parameters * (is_eval ? narrow : trained) +
                    (double)r->teacher_cost.parameters * narrow;
    if (needed > (double)exec_available(&x))
        must(err_set(&e,
                     "weights, gradients and moments take %.1f GB, and the device has %.1f GB left",
                     1e-9 * needed, 1e-9 * (double)exec_available(&x)));
}

static void open_row(struct row *r, const struct options *o)
{
    int is_kd = !strcmp(o->task, "kd"), is_eval = !strcmp(o->task, "eval");
    r->has_stream = !strcmp(o->task, "kd-stream");
    r->s = shape_for(is_kd || r->has_stream ? o->second : o->first, o->batch, o->length);
    r->teacher_shape = is_kd ? shape_for(o->first, o->batch, o->length) : NULL;
    r->cost = footprint_of(r->s);
    if (is_kd)
        r->teacher_cost = footprint_of(r->teacher_shape);
    check_room(r, is_eval);
    r->device = exec_available(&x);
    r->predicted = usage_resident_bytes() + exec_library_bytes(&x);
    make_model(&r->model, r->s);
    r->predicted += 4 * r->model.n_values;
    r->flops = flops(&r->cost) * (is_eval ? 1 : 3) + flops(&r->teacher_cost);
    if (is_kd) {
        make_model(&r->teacher, r->teacher_shape);
        r->predicted += 4 * r->teacher.n_values;
    }
    make_tokens(r);
    if (r->has_stream)
        make_stream(r);
    if (is_eval)
        open_eval(r);
    else
        open_training(r, o);
}

static void print_row(struct row *r, const char *name, const struct options *o)
{
    double median, best, fma[2], tokens = (double)(r->s->B * r->s->T);
    double alone = measure(r, o->steps, &median, &best, fma);
    if (o->profile)
        profile(r, o->steps);
    double fma_mean = (fma[0] + fma[1]) / 2, gflops = r->flops * tokens / median / 1e9;
    const struct tape *tape = r->tape ? r->tape : r->trainer.tape;
    printf("{\"row\":\"%s\",\"recompute\":%s,\"threads\":%d,\"tokens_per_second\":%.1f,\"tokens_"
           "per_second_best\":%.1f,\"gflops\":%.1f,\"gflops_best\":%.1f,"
           "\"fma_gflops_before\":%.1f,\"fma_gflops_after\":%.1f,\"share_of_fma\":%.3f,\"rss_mb\":%"
           "ld,\"predicted_mb\":%lld,\"tape_mb\":%.1f,\"activations_mb\":%.1f,\"serial_share\":%."
           "4f}\n",
           name, o->recompute ? "true" : "false", x.threads, tokens / median, tokens / best, gflops,
           r->flops * tokens / best / 1e9, fma[0], fma[1], gflops / fma_mean,
           (long)(usage_peak_bytes() / 1000000), (long long)(r->predicted / 1000000),
           1e-6 * (double)tape_bytes(tape), 1e-6 * (double)tape_activation_bytes(tape), alone);
}

int main(int argc, char **argv)
{
    restart_tuned(argv);
    if (argc == 2 && !strcmp(argv[1], "library"))
        return puts(exec_math_library()) < 0;
    struct options o;
    struct row r = {0};
    parse(&o, argc, argv);
    must(exec_open(&x, o.device, o.threads));
    x.tell = tell;
    x.algorithms = o.algorithms ? &timed : NULL;
    if (!strcmp(o.task, "fma"))
        return printf("{\"fma_gflops\":%.1f}\n", fma_gflops(x.threads)) < 0;
    if (!strcmp(o.task, "bf16"))
        return printf("{\"bf16_gflops\":%.1f}\n", bf16_gflops(x.threads)) < 0;
    x.tf32 = !strcmp(o.compute, "tf32");
    if (x.tf32 || !strcmp(o.compute, "f32"))
        x.compute = DT_F32;
    open_row(&r, &o);
    if (o.device == DEVICE_CPU)
        print_row(&r, argv[1], &o);
    else
        print_device(&r, argv[1], o.steps, o.ops, o.recompute);
    exec_close(&x);
    return 0;
}
