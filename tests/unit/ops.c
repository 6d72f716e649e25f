/* Every row of kernels/ops.def against its twin in double precision (twins/), on random odd shapes with fixed seeds.
 *
 * A trial of an op: values and, for its backward, gradients along signed directions against central differences of the twin; gradients are
 * added to what stands there; each gradient alone gives the same bytes as all of them, none wanted is accepted; inputs, and whatever backward
 * does not read, stay untouched or may be garbage; two runs give the same bytes, one and two threads nearly the same values; guards around every
 * buffer stay whole; a NaN is not lost. Rows with a CUDA kernel are run against the CPU where the build and the machine have a device.
 * Also: the elementary functions of vecmath.h and the matrix product. usage: ops [NAME...] runs only these rows. */
#include <assert.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "../../kernels/cpu/vecmath.h"
#include "twins/twins.h"
#ifdef PARE_CUDA
#include "../../kernels/cuda/device.h"
#endif

enum { TRIALS = 20, FIRST_LARGE = 16, GUARD = 128, DIRECTIONS = 3, GARBAGE = 0xff };

static const struct op_test tests[OP_COUNT] = {
    [OP_embed] = {embed_shape, embed_twin, 1e-6, NULL},
    [OP_position] = {position_shape, position_twin, 1e-6, NULL},
    [OP_linear] = {linear_shape, linear_twin, 1e-6, NULL},
    [OP_rmsnorm] = {rmsnorm_shape, rmsnorm_twin, 1e-6, NULL},
    [OP_layernorm] = {layernorm_shape, layernorm_twin, 1e-6, NULL},
    [OP_rope] = {rope_shape, rope_twin, 1e-6, NULL},
    [OP_act] = {act_shape, act_twin, 1e-6, NULL},
    [OP_actmul] = {actmul_shape, actmul_twin, 1e-6, NULL},
    [OP_add] = {add_shape, add_twin, 1e-6, NULL},
    [OP_softcap] = {softcap_shape, softcap_twin, 1e-6, NULL},
    [OP_attention] = {attention_shape, attention_twin, 2e-6, NULL},
    [OP_loss] = {.whole = loss_whole},
    [OP_adamw] = {.whole = adamw_whole},
    [OP_sumsq] = {.whole = sumsq_whole},
    [OP_seqstats] = {.whole = seqstats_whole},
    [OP_rowcos] = {.whole = rowcos_whole},
};

/* ---- guarded buffers */

struct buffer {
    struct buffer *next;
    size_t bytes;
    unsigned char *base;
};

void *test_buffer(struct trial *t, size_t bytes)
{
    struct buffer *b = calloc(1, sizeof *b);
    size_t all = (bytes + 2 * GUARD + 63) & ~(size_t)63;
    assert(b);
    *b = (struct buffer){t->buffers, bytes, aligned_alloc(64, all)};
    assert(b->base);
    memset(b->base, GARBAGE, all);
    memset(b->base, 0xa5, GUARD);
    memset(b->base + GUARD + bytes, 0xa5, GUARD);
    t->buffers = b;
    return b->base + GUARD;
}

static int guards_whole(const struct trial *t)
{
    for (const struct buffer *b = t->buffers; b; b = b->next)
        for (size_t i = 0; i < GUARD; i++)
            if (b->base[i] != 0xa5 || b->base[GUARD + b->bytes + i] != 0xa5)
                return 0;
    return 1;
}

static void buffers_free(struct trial *t)
{
    for (struct buffer *b = t->buffers, *next; b; b = next) {
        next = b->next;
        free(b->base);
        free(b);
    }
    t->buffers = NULL;
}

/* ---- drawing a trial */

int64_t test_size(struct trial *t, int64_t low, int64_t high)
{
    int64_t n = low + (int64_t)rng_below(&t->rng, (uint64_t)(high - low + 1));
    return n % 2 == 0 && n < high && rng_below(&t->rng, 2) ? n + 1 : n;
}

void test_rows(struct trial *t, int64_t n_seq, int64_t seq_len, int64_t pos0)
{
    t->batch.n_seq = n_seq;
    t->batch.seq_len = seq_len;
    t->batch.pos0 = pos0;
    t->call.rows = n_seq * seq_len;
}

struct operand test_operand(int64_t rows, int64_t cols) { return (struct operand){.dtype = DT_F32, .rows = rows, .cols = cols}; }

void test_fill(struct trial *t, float *to, int64_t n, double spread)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = (float)(spread * rng_normal(&t->rng));
}

static struct operand *operand(struct call *c, int i) { return i < W0 ? &c->in[i] : i < OUT ? &c->w[i - W0] : &c->out; }
static int64_t count(struct call *c, int i) { return operand(c, i)->rows * operand(c, i)->cols; }
static size_t bytes_of(struct call *c, int i) { return (size_t)dtype_bytes(operand(c, i)->dtype, count(c, i)); }

/* Values of inputs and weights, rounded to their dtype; the double ones are exactly the same. */
static void draw_values(struct trial *t)
{
    for (int i = 0; i < OUT; i++) {
        struct operand *o = operand(&t->call, i);
        int64_t n = count(&t->call, i);
        if (!n)
            continue;
        float *f = test_buffer(t, (size_t)n * 4);
        o->v = test_buffer(t, bytes_of(&t->call, i));
        t->v[i] = test_buffer(t, (size_t)n * 8);
        test_fill(t, f, n, t->spread != 0 ? t->spread : 1);
        from_f32(o->v, o->dtype, f, n);
        to_f32(f, o->v, o->dtype, n);
        for (int64_t j = 0; j < n; j++)
            t->v[i][j] = (double)f[j];
    }
}

/* ---- running the kernel */

struct outcome {                    /* what a run left; g: gradients of inputs and weights */
    float *out, *memo, *g[OUT];
};

static void *copy(struct trial *t, const void *from, size_t bytes) { return memcpy(test_buffer(t, bytes), from, bytes); }

/* Where the kernel sees a host buffer: the buffer itself, or a copy on the device. */
static void *lend(enum device d, void *host, size_t bytes)
{
#ifdef PARE_CUDA
    if (d == DEVICE_CUDA && host) {
        void *p = device_alloc(bytes);
        device_put(p, host, bytes);
        return p;
    }
#endif
    return (void)d, (void)bytes, host;
}

static void give_back(enum device d, void *host, void *lent, size_t bytes)
{
#ifdef PARE_CUDA
    if (d == DEVICE_CUDA && host) {
        device_get(host, lent, bytes);
        device_free(lent);
    }
#endif
    (void)d, (void)host, (void)lent, (void)bytes;
}

/* One call in one direction on x: c holds host buffers throughout. */
static void call_op(struct trial *t, struct exec *x, const struct call *host, int back)
{
    struct call c = *host, h = *host;
    c.x = h.x = x;
    c.batch = &t->batch;
    size_t memo = (size_t)(op_memo(t->op, &c) * c.rows) * 4, scratch = op_scratch(t->op, &c);
    for (int i = 0; i < OPERANDS; i++) {
        struct operand *o = operand(&c, i);
        o->v = lend(x->device, o->v, bytes_of(&h, i));
        o->g = lend(x->device, o->g, (size_t)count(&h, i) * 4);
    }
    c.memo = lend(x->device, h.memo, memo);
    h.scratch = scratch ? test_buffer(t, scratch) : NULL;
    c.scratch = lend(x->device, h.scratch, scratch);
    omp_set_num_threads(x->threads);            /* exec_open did so for the last handle; here there are several */
    (back ? op_backward : op_forward)(t->op, &c);
    for (int i = 0; i < OPERANDS; i++) {
        give_back(x->device, operand(&h, i)->v, operand(&c, i)->v, bytes_of(&h, i));
        give_back(x->device, operand(&h, i)->g, operand(&c, i)->g, (size_t)count(&h, i) * 4);
    }
    give_back(x->device, h.memo, c.memo, memo);
    give_back(x->device, h.scratch, c.scratch, scratch);
}

static void run_forward(struct trial *t, struct exec *x, struct outcome *o)
{
    struct call c = t->call;
    c.x = x;
    c.batch = &t->batch;
    int64_t memo = op_memo(t->op, &c) * c.rows;
    o->out = test_buffer(t, bytes_of(&c, OUT));
    o->memo = memo ? test_buffer(t, (size_t)memo * 4) : NULL;
    c.out.v = o->out;
    c.memo = o->memo;
    call_op(t, x, &c, 0);
}

/* Gradients: `dy` comes in, `before` stands there already; wanted: a bit for each of inputs and weights. What backward does not read is garbage. */
static void run_backward(struct trial *t, struct exec *x, struct outcome *o, float *dy, float *const before[OUT], unsigned wanted)
{
    static const unsigned flag[OPERANDS] = {[IN0] = READS_IN0, [IN1] = READS_IN1, [IN2] = READS_IN2, [OUT] = READS_OUT};
    struct call c = t->call;
    unsigned reads = ops[t->op].reads;
    c.out.v = o->out;
    c.out.g = dy;
    c.memo = reads & READS_MEMO ? o->memo : NULL;
    for (int i = 0; i < OPERANDS; i++) {
        struct operand *p = operand(&c, i);
        if (flag[i] && !(reads & flag[i]))
            p->v = test_buffer(t, bytes_of(&c, i));
        if (i < OUT)
            p->g = o->g[i] = p->rows && wanted >> i & 1 ? copy(t, before[i], (size_t)count(&c, i) * 4) : NULL;
    }
    call_op(t, x, &c, 1);
}

/* ---- comparing */

double test_error(const float *got, const double *want, int64_t n)
{
    double difference = 0, norm = 0, worst = 0;
    for (int64_t i = 0; i < n; i++) {
        difference += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        norm += want[i] * want[i];
    }
    double rms = sqrt(norm / (double)(n ? n : 1)) + 1e-30;
    for (int64_t i = 0; i < n; i++)
        worst = fmax(worst, fabs((double)got[i] - want[i]) / (rms + fabs(want[i])));
    double error = fmax(sqrt(difference) / (sqrt(norm) + 1e-30), worst / 8);
    return isfinite(difference) ? error : 1;
}

static double distance(const float *a, const float *b, int64_t n)
{
    double *wide = calloc((size_t)n + 1, sizeof *wide);
    assert(wide);
    for (int64_t i = 0; i < n; i++)
        wide[i] = (double)b[i];
    double error = test_error(a, wide, n);
    free(wide);
    return error;
}

static double twin_loss(struct trial *t, const float *dy, double *out)
{
    double s = 0;
    tests[t->op].twin(t, out);
    for (int64_t i = 0; i < count(&t->call, OUT); i++)
        s += (double)dy[i] * out[i];
    return s;
}

/* Change of sum(dy * twin) along a direction of operand i, a normal one or one single value's, against the gradient that the kernel added:
 * the difference in units of what the direction is expected to give. */
static double gradient_error(struct trial *t, int i, const float *dy, const float *g, const float *before, int single)
{
    int64_t n = count(&t->call, i);
    double *out = test_buffer(t, (size_t)count(&t->call, OUT) * 8), *direction = test_buffer(t, (size_t)n * 8);
    double *x = t->v[i], *origin = copy(t, x, (size_t)n * 8), loss[2], got = 0, norm = 0, h = 1e-5 * (t->spread != 0 ? t->spread : 1);
    int64_t one = single ? (int64_t)rng_below(&t->rng, (uint64_t)n) : -1;
    for (int64_t j = 0; j < n; j++) {
        double added = (double)g[j] - (double)before[j];
        direction[j] = !single ? rng_normal(&t->rng) : j == one;
        got += added * direction[j];
        norm += added * added;
    }
    for (int side = 0; side < 2; side++) {
        for (int64_t j = 0; j < n; j++)
            x[j] = origin[j] + (side ? -h : h) * direction[j];
        loss[side] = twin_loss(t, dy, out);
    }
    memcpy(x, origin, (size_t)n * 8);
    double want = (loss[0] - loss[1]) / (2 * h), unit = sqrt(single ? norm / (double)n : norm) + fabs(want) + 1e-6;
    double error = fabs(got - want) / unit;
    return isfinite(error) ? error : 1;
}

/* ---- the checks of a trial: each returns NULL or what is wrong */

static char complaint[800];
static double worst_value, worst_gradient;

#define COMPLAIN(...) (snprintf(complaint, sizeof complaint, __VA_ARGS__), complaint)

static const char *const names[OPERANDS] = {"in0", "in1", "in2", "w0", "w1", "w2", "w3", "out"};

static const char *check_backward(struct trial *t, struct exec *x, struct outcome *o, float *dy, float *const before[OUT])
{
    struct outcome again = *o, alone = *o;
    double tolerance = 10 * tests[t->op].tolerance;
    run_backward(t, x, o, dy, before, ~0u);
    run_backward(t, x, &again, dy, before, ~0u);
    run_backward(t, x, &alone, dy, before, 0);
    for (int i = 0; i < OUT; i++) {
        size_t bytes = (size_t)count(&t->call, i) * 4;
        if (!o->g[i])
            continue;
        if (memcmp(o->g[i], again.g[i], bytes))
            return COMPLAIN("gradient of %s: two runs differ", names[i]);
        run_backward(t, x, &alone, dy, before, 1u << i);
        if (memcmp(o->g[i], alone.g[i], bytes))
            return COMPLAIN("gradient of %s alone differs from that with the others", names[i]);
        for (int d = 0; d < 2 * DIRECTIONS; d++) {
            double e = gradient_error(t, i, dy, o->g[i], before[i], d % 2);
            worst_gradient = fmax(worst_gradient, e);
            if (e > tolerance)
                return COMPLAIN("gradient of %s: error %.2g, allowed %.2g", names[i], e, tolerance);
        }
    }
    return NULL;
}

/* Another device or number of threads must come close to `o`. */
static const char *check_against(struct trial *t, struct exec *x, const struct outcome *o, float *dy, float *const before[OUT], const char *who)
{
    struct outcome other = {0};
    double tolerance = tests[t->op].tolerance, e;
    run_forward(t, x, &other);
    if ((e = distance(other.out, o->out, count(&t->call, OUT))) > tolerance)
        return COMPLAIN("%s: output differs by %.2g, allowed %.2g", who, e, tolerance);
    if (!ops[t->op].backward[x->device])
        return x->err.set ? COMPLAIN("%s: %s", who, x->err.msg) : NULL;
    run_backward(t, x, &other, dy, before, ~0u);
    for (int i = 0; i < OUT; i++)
        if (o->g[i] && (e = distance(other.g[i], o->g[i], count(&t->call, i))) > tolerance)
            return COMPLAIN("%s: gradient of %s differs by %.2g, allowed %.2g", who, names[i], e, tolerance);
    return x->err.set ? COMPLAIN("%s: %s", who, x->err.msg) : NULL;
}

/* A NaN among the inputs must be seen in the output: training relies on it to stop. Last of all, since it spoils the input. */
static const char *check_nan(struct trial *t, struct exec *x)
{
    struct outcome o = {0};
    int64_t n = count(&t->call, IN0), seen = 0;
    if (!n)
        return NULL;
    ((float *)t->call.in[0].v)[rng_below(&t->rng, (uint64_t)n)] = NAN;
    run_forward(t, x, &o);
    for (int64_t i = 0; i < count(&t->call, OUT); i++)
        seen += isnan(o.out[i]);
    return seen ? NULL : "a NaN in in0 leaves no trace in the output";
}

static const char *check_op(struct trial *t, struct exec x[2], struct exec *cuda)
{
    struct outcome o = {0}, again = {0};
    float *before[OUT] = {0}, *dy;
    void *kept[OUT] = {0};
    tests[t->op].shape(t);
    draw_values(t);
    int64_t n = count(&t->call, OUT);
    double *want = test_buffer(t, (size_t)n * 8), tolerance = tests[t->op].tolerance;
    dy = test_buffer(t, (size_t)n * 4);
    test_fill(t, dy, n, 1);
    for (int i = 0; i < OUT; i++)
        if (t->v[i]) {
            kept[i] = copy(t, operand(&t->call, i)->v, bytes_of(&t->call, i));
            test_fill(t, before[i] = test_buffer(t, (size_t)count(&t->call, i) * 4), count(&t->call, i), 1);
        }
    tests[t->op].twin(t, want);
    run_forward(t, &x[t->number % 2], &o);
    run_forward(t, &x[t->number % 2], &again);
    double e = test_error(o.out, want, n);
    worst_value = fmax(worst_value, e);
    if (e > tolerance)
        return COMPLAIN("output: error %.2g, allowed %.2g", e, tolerance);
    if (memcmp(o.out, again.out, (size_t)n * 4))
        return "output: two runs differ";
    const char *wrong = ops[t->op].backward[DEVICE_CPU] ? check_backward(t, &x[t->number % 2], &o, dy, before) : NULL;
    if (!wrong)
        wrong = check_against(t, &x[1 - t->number % 2], &o, dy, before, "one or two threads");
    if (!wrong && cuda && ops[t->op].forward[DEVICE_CUDA])
        wrong = check_against(t, cuda, &o, dy, before, "CUDA");
    for (int i = 0; i < OUT && !wrong; i++)
        if (kept[i] && memcmp(kept[i], operand(&t->call, i)->v, bytes_of(&t->call, i)))
            wrong = COMPLAIN("the values of %s were changed", names[i]);
    return wrong ? wrong : check_nan(t, &x[t->number % 2]);
}

static void test_op(enum op op, struct exec x[2], struct exec *cuda)
{
    const struct op_test *test = &tests[op];
    int failed = check_failed;
    worst_value = worst_gradient = 0;
    CHECK(test->shape || test->whole, "%s has no test", ops[op].name);
    for (int number = 0; number < TRIALS && (test->shape || test->whole) && check_failed == failed; number++) {
        struct trial t = {.op = op, .number = number, .large = number >= FIRST_LARGE, .rng = rng_open(1, (uint64_t)(op * 100 + number))};
        t.call.x = &x[number % 2];
        t.call.batch = &t.batch;
        const char *wrong = test->whole ? test->whole(&t) : check_op(&t, x, cuda);
        if (!wrong && !guards_whole(&t))
            wrong = "something was written past the end of a buffer";
        CHECK(!wrong, "%s, trial %d (%lld rows, in0 %lld, w0 %lld x %lld, out %lld): %s", ops[op].name, number, (long long)t.call.rows,
              (long long)t.call.in[0].cols, (long long)t.call.w[0].rows, (long long)t.call.w[0].cols, (long long)t.call.out.cols, wrong);
        buffers_free(&t);
    }
    printf("%-10s worst error of values %.1e, of gradients %.1e; CUDA: %s\n", ops[op].name, worst_value, worst_gradient,
           !ops[op].forward[DEVICE_CUDA] ? "no kernel in this build" : cuda ? "run" : "not run, no device");
}

/* ---- below the ops */

/* Largest distance in units in the last place over a grid of [low, high]. */
static double ulps(float (*f)(float), double (*exact)(double), double low, double high)
{
    enum { POINTS = 200000 };
    double worst = 0;
    for (int i = 0; i <= POINTS; i++) {
        float x = (float)(low + (high - low) * i / POINTS), want = (float)exact((double)x);
        double ulp = (double)nextafterf(fabsf(want), INFINITY) - (double)fabsf(want), e = fabs((double)f(x) - exact((double)x)) / ulp;
        worst = fmax(worst, isfinite(e) ? e : 1e9);
    }
    return worst;
}

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double cdf(double x) { return 0.5 * erfc(-x / sqrt(2)); }

static void test_elementary(void)
{
    static const struct { const char *name; float (*f)(float); double (*exact)(double); double low, high, limit; } rows[] = {
        {"vec_exp", vec_exp, exp, -104, 88.7, 1.2}, {"vec_expm1", vec_expm1, expm1, -30, 88, 2}, {"vec_expm1", vec_expm1, expm1, -0.5, 0.5, 2},
        {"vec_tanh", vec_tanh, tanh, -12, 12, 2.5}, {"vec_tanh", vec_tanh, tanh, -0.3, 0.3, 2.5}, {"vec_sigmoid", vec_sigmoid, sigmoid, -80, 30, 2.5},
        {"vec_cdf", vec_cdf, cdf, -1, 8, 8}, {"vec_cdf", vec_cdf, cdf, -13, -1, 70},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        double e = ulps(rows[i].f, rows[i].exact, rows[i].low, rows[i].high);
        CHECK(e <= rows[i].limit, "%s is %.2f units in the last place off in [%g, %g]", rows[i].name, e, rows[i].low, rows[i].high);
        CHECK(isnan(rows[i].f(NAN)), "%s of NaN is %g", rows[i].name, (double)rows[i].f(NAN));
    }
    CHECK(vec_exp(-INFINITY) == 0 && vec_exp(INFINITY) == INFINITY && vec_exp(0) == 1, "vec_exp at its ends");
    int wrong = 0;
    for (int h = 0; h < 65536; h++)
        wrong += vec_bits(vec_from_f16((uint16_t)h)) != vec_bits(f16_to_f32((uint16_t)h));
    CHECK(!wrong, "vec_from_f16 differs from f16_to_f32 for %d numbers", wrong);
}

static void test_product(void)
{
    struct trial t = {.rng = rng_open(2, 0)};
    for (int number = 0; number < 40; number++) {
        int64_t M = number < 8 ? 1 : test_size(&t, 1, 40), N = test_size(&t, 1, number % 3 ? 70 : 300), K = test_size(&t, 1, 60), extra = number % 3;
        char ta = number & 1 ? 'T' : 'N', tb = number & 2 ? 'T' : 'N';
        int64_t lda = (ta == 'N' ? K : M) + extra, ldb = (tb == 'N' ? N : K) + extra, ldc = N + extra;
        int add = !(number & 8);
        float *A = test_buffer(&t, (size_t)(M * K + (M + K) * extra) * 4), *B = test_buffer(&t, (size_t)(K * N + (K + N) * extra) * 4);
        float *C = test_buffer(&t, (size_t)(M * ldc) * 4);
        double *want = test_buffer(&t, (size_t)(M * ldc) * 8);
        test_fill(&t, A, M * K + (M + K) * extra, 1);
        test_fill(&t, B, K * N + (K + N) * extra, 1);
        if (add)                    /* else what stands there, NaN, must not be read */
            test_fill(&t, C, M * ldc, 1);
        for (int64_t i = 0; i < M * ldc; i++) {
            if (i % ldc >= N)
                C[i] = 7;
            want[i] = i % ldc >= N ? 7 : add ? (double)C[i] : 0;
            for (int64_t k = 0; k < K && i % ldc < N; k++)
                want[i] += (double)(ta == 'N' ? A[i / ldc * lda + k] : A[k * lda + i / ldc]) * (tb == 'N' ? B[k * ldb + i % ldc] : B[i % ldc * ldb + k]);
        }
#pragma omp parallel num_threads(1 + number % 6)
        mm_share(ta, tb, M, N, K, A, lda, B, ldb, add, C, ldc);
        CHECK(test_error(C, want, M * ldc) < 1e-6 && guards_whole(&t), "mm %c%c %lld x %lld x %lld, add %d, with %s", ta, tb, (long long)M,
              (long long)N, (long long)K, add, exec_math_library());
        buffers_free(&t);
    }
}

static int chosen(int argc, char **argv, const char *name)
{
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], name))
            return 1;
    return argc < 2;
}

int main(int argc, char **argv)
{
    struct exec x[2], device, *cuda = NULL;
    if (exec_open(&device, DEVICE_CUDA, 0) == 0)
        cuda = &device;
    else
        printf("no CUDA: %s\n", device.err.msg);
    CHECK(exec_open(&x[0], DEVICE_CPU, 1) == 0 && exec_open(&x[1], DEVICE_CPU, 2) == 0, "cannot open the CPU");
    if (chosen(argc, argv, "vecmath"))
        test_elementary();
    if (chosen(argc, argv, "mm"))
        test_product();
    for (int op = 0; op < OP_COUNT; op++)
        if (chosen(argc, argv, ops[op].name))
            test_op((enum op)op, x, cuda);
    if (cuda)
        exec_close(cuda);
    return check_report();
}
