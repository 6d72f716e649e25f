/* Every row of kernels/ops.def against its reference in double precision (reference/), on random
 * odd shapes with fixed seeds.
 *
 * A trial of an op: values and, for its backward, gradients along signed directions against central
 * differences of the reference; gradients are added to what the buffers hold; each gradient alone
 * gives the same bytes as all of them, and none at all is accepted; inputs are not modified, and
 * what backward does not read may be garbage; pieces of sequences with a state give what whole ones
 * do; two runs give the same bytes, one and two threads nearly the same values; guards around every
 * buffer stay intact; a NaN is not lost. Rows with a CUDA kernel are run against the CPU where the
 * build and the machine have a device. usage: ops [NAME...] runs only these rows. */
#include <assert.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "reference/reference.h"

enum { TRIALS = 20, FIRST_LARGE = 16, DIRECTIONS = 3 };
enum { ON_CPU, IN_F32, IN_BF16, MODES }; /* where and how a row that tests itself is run */

static const struct op_test *const tests[OP_COUNT] = {
#define OP(name, inputs, weights, cheap, reads, memo) &name##_test,
#include "../../kernels/ops.def"
#undef OP
};

/* ---- drawing a trial */

static struct operand *operand(struct op_args *c, int i)
{
    if (i < W0)
        return &c->in[i];
    return i < OUT ? &c->w[i - W0] : &c->out;
}
static int64_t count(struct op_args *c, int i) { return operand(c, i)->rows * operand(c, i)->cols; }
static size_t bytes_of(struct op_args *c, int i)
{
    return (size_t)dtype_bytes(operand(c, i)->dtype, count(c, i));
}
static enum dtype grad_dtype(struct op_args *c, int i)
{
    return i < W0 || i == OUT ? operand(c, i)->dtype : DT_F32;
}
static size_t grad_bytes(struct op_args *c, int i)
{
    return (size_t)dtype_bytes(grad_dtype(c, i), count(c, i));
}

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
        test_store(o->v, o->dtype, f, n);
        for (int64_t j = 0; j < n; j++)
            t->v[i][j] = (double)f[j];
    }
}

/* ---- running the kernel */

struct outcome { /* results of a run; g: gradients of inputs and weights */
    float *out, *memo, *g[OUT];
};

static void *copy(struct trial *t, const void *from, size_t bytes)
{
    return memcpy(test_buffer(t, bytes), from, bytes);
}

/* The trial's call on x; q8_0 is for the CPU, a device gets its values in f32. */
static struct op_args call_on(struct trial *t, struct exec *x)
{
    struct op_args c = t->call;
    c.x = x;
    for (int i = W0; i < OUT && x->device != DEVICE_CPU; i++)
        if (operand(&c, i)->dtype == DT_Q8_0) {
            operand(&c, i)->v = test_widen(t, operand(&c, i)->v, DT_Q8_0, count(&c, i));
            operand(&c, i)->dtype = DT_F32;
        }
    return c;
}

static void run_forward(struct trial *t, struct exec *x, struct outcome *o)
{
    struct op_args c = call_on(t, x);
    c.batch = &t->batch;
    int64_t memo = op_memo(t->op, &c) * c.rows;
    o->out = test_buffer(t, bytes_of(&c, OUT));
    o->memo = memo ? test_buffer(t, (size_t)memo * 4) : NULL;
    c.out.v = o->out;
    c.memo = o->memo;
    test_call(t, &c, 0);
}

/* Gradients, given `dy`, added to `before`; wanted: a bit for each input and weight. What backward
 * does not read is garbage. */
static void run_backward(struct trial *t, struct exec *x, struct outcome *o, float *dy,
                         float *const before[OUT], unsigned wanted)
{
    static const unsigned flag[OPERANDS] = {[IN0] = READS_IN0,
                                            [IN1] = READS_IN1,
                                            [IN2] = READS_IN2,
                                            [IN3] = READS_IN3,
                                            [OUT] = READS_OUT};
    struct op_args c = call_on(t, x);
    unsigned reads = ops[t->op].reads;
    c.out.v = o->out;
    c.out.g = dy;
    c.memo = reads & READS_MEMO ? o->memo : NULL;
    for (int i = 0; i < OPERANDS; i++) {
        struct operand *p = operand(&c, i);
        if (flag[i] && !(reads & flag[i]))
            p->v = test_buffer(t, bytes_of(&c, i));
        if (i < OUT)
            p->g = o->g[i] = p->rows && wanted >> i & 1 ? copy(t, before[i], grad_bytes(&c, i))
                                                        : NULL;
    }
    test_call(t, &c, 1);
}

/* Gradients that the op overwrites: whatever they held, the result is that of adding to zeros. */
static const char *check_overwrite(struct trial *t, struct exec *x, const struct outcome *o,
                                   float *dy)
{
    struct outcome added = *o, set = *o;
    float *zeros[OUT], *garbage[OUT];
    int sets = op_kernel(x, t->op)->sets;
    for (int i = 0; i < OUT; i++) {
        size_t bytes = grad_bytes(&t->call, i);
        zeros[i] = memset(test_buffer(t, bytes), 0, bytes);
        garbage[i] = sets && i <= W0 ? test_buffer(t, bytes) : zeros[i];
    }
    run_backward(t, x, &added, dy, zeros, ~0u);
    for (int i = 0; i <= W0 && sets; i++)
        operand(&t->call, i)->overwrite = 1;
    run_backward(t, x, &set, dy, garbage, ~0u);
    for (int i = 0; i <= W0; i++) {
        operand(&t->call, i)->overwrite = 0;
        int64_t n = added.g[i] ? count(&t->call, i) : 0;
        const float *want = n ? test_widen(t, added.g[i], grad_dtype(&t->call, i), n) : NULL;
        const float *got = n ? test_widen(t, set.g[i], grad_dtype(&t->call, i), n) : NULL;
        for (int64_t j = 0; j < n; j++)
            if (!(want[j] == got[j]))
                return i < W0 ? "an input's gradient is not overwritten"
                              : "the gradient of w0 is not overwritten";
    }
    return NULL;
}

/* ---- comparing */

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

static double reference_loss(struct trial *t, const float *dy, double *out)
{
    double s = 0;
    tests[t->op]->reference(t, out);
    for (int64_t i = 0; i < count(&t->call, OUT); i++)
        s += (double)dy[i] * out[i];
    return s;
}

/* Change of sum(dy * reference) along a direction of operand i, a normal one or one single value's,
 * against the gradient that the kernel added: the difference in units of what the direction is
 * expected to give. */
static double gradient_error(struct trial *t, int i, const float *dy, const float *g,
                             const float *before, int single)
{
    int64_t n = count(&t->call, i);
    double *out = test_buffer(t, (size_t)count(&t->call, OUT) * 8),
           *direction = test_buffer(t, (size_t)n * 8);
    double *x = t->v[i], *origin = copy(t, x, (size_t)n * 8), loss[2], got = 0, norm = 0,
           h = 1e-5 * (t->spread != 0 ? t->spread : 1);
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
        loss[side] = reference_loss(t, dy, out);
    }
    memcpy(x, origin, (size_t)n * 8);
    /* relative to what it was added to, whose last digits are lost */
    double before_norm = single ? 1 : sqrt((double)n);
    double want = (loss[0] - loss[1]) / (2 * h),
           unit = sqrt(single ? norm / (double)n : norm) + fabs(want) + 0.01 * before_norm;
    double error = fabs(got - want) / unit;
    return isfinite(error) ? error : 1;
}

/* ---- the checks of a trial: each returns NULL or what is wrong */

static char complaint[800];
static double worst_value, worst_gradient, worst_bf16;

#define COMPLAIN(...) (snprintf(complaint, sizeof complaint, __VA_ARGS__), complaint)

static const char *const names[OPERANDS] = {"in0", "in1", "in2", "in3", "w0",
                                            "w1",  "w2",  "w3",  "out"};

static const char *check_backward(struct trial *t, struct exec *x, struct outcome *o, float *dy,
                                  float *const before[OUT])
{
    struct outcome again = *o, alone = *o;
    double tolerance = 10 * tests[t->op]->tolerance;
    run_backward(t, x, o, dy, before, ~0u);
    run_backward(t, x, &again, dy, before, ~0u);
    run_backward(t, x, &alone, dy, before, 0);
    const char *wrong = check_overwrite(t, x, o, dy);
    if (wrong)
        return wrong;
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
static const char *check_against(struct trial *t, struct exec *x, const struct outcome *o,
                                 float *dy, float *const before[OUT], const char *who)
{
    struct outcome other = {0}, again = {0};
    /* sums in another order: both may be off */
    double tolerance = tests[t->op]->tolerance * (x->device == DEVICE_CPU ? 1 : 2), e;
    run_forward(t, x, &other);
    if (x->err.set)
        return COMPLAIN("%s: %s", who, x->err.msg);
    if ((e = distance(other.out, o->out, count(&t->call, OUT))) > tolerance)
        return COMPLAIN("%s: output differs by %.2g, allowed %.2g", who, e, tolerance);
    if (x->device == DEVICE_CUDA) {
        run_forward(t, x, &again);
        if (memcmp(other.out, again.out, bytes_of(&t->call, OUT)))
            return COMPLAIN("%s: output: two runs differ", who);
    }
    if (!op_kernel(x, t->op)->backward)
        return x->err.set ? COMPLAIN("%s: %s", who, x->err.msg) : NULL;
    const char *wrong = x->device == DEVICE_CUDA ? check_overwrite(t, x, &other, dy) : NULL;
    if (wrong)
        return COMPLAIN("%s: %s", who, wrong);
    run_backward(t, x, &other, dy, before, ~0u);
    for (int i = 0; i < OUT && x->device == DEVICE_CUDA; i++) {
        run_backward(t, x, &again, dy, before, 1u << i);
        if (other.g[i] && memcmp(other.g[i], again.g[i], grad_bytes(&t->call, i)))
            return COMPLAIN("%s: gradient of %s alone differs from that with the others", who,
                            names[i]);
    }
    for (int i = 0; i < OUT; i++)
        if (o->g[i] && (e = distance(other.g[i], o->g[i], count(&t->call, i))) > tolerance)
            return COMPLAIN("%s: gradient of %s differs by %.2g, allowed %.2g", who, names[i], e,
                            tolerance);
    return x->err.set ? COMPLAIN("%s: %s", who, x->err.msg) : NULL;
}

/* ---- bf16 on a device: activations and matrices of weights rounded to bf16, vectors f32 */

/* Two copies of the trial's call: `narrow` with bf16 operands, `wide` with the same values in f32.
 * Also of dy and of the initial gradients. */
static void narrow_call(struct trial *t, struct op_args *wide, struct op_args *narrow, float *dy[2],
                        float *before[2][OUT])
{
    for (int i = 0; i < OPERANDS; i++) {
        struct operand *w = operand(wide, i), *n = operand(narrow, i);
        int64_t count_i = count(&t->call, i);
        int is_matrix = i == W0 && tests[t->op]->matrix;
        int is_vector = i >= W0 && i < OUT && !is_matrix;
        if (!count_i)
            continue;
        w->dtype = DT_F32;
        n->dtype = is_vector ? DT_F32 : DT_BF16;
        if (i < OUT) {
            float *f = test_buffer(t, (size_t)count_i * 4);
            to_f32(f, operand(&t->call, i)->v, operand(&t->call, i)->dtype, count_i);
            w->v = f;
            n->v = is_vector ? f : test_narrow(t, f, count_i);
            before[0][i] = copy(t, before[1][i], (size_t)count_i * 4);
            before[1][i] = i < W0 ? test_narrow(t, before[0][i], count_i) : before[0][i];
        }
    }
    dy[0] = copy(t, dy[1], (size_t)count(&t->call, OUT) * 4);
    dy[1] = test_narrow(t, dy[0], count(&t->call, OUT));
}

/* The device in bf16 against the CPU in f32 on the same values. Bound: 2^-9, the rounding to bf16,
 * for each time that a value is rounded between the inputs and the result, where the result of a
 * sum of rounded values is taken to be as far off as one of them. */
static const char *check_bf16(struct trial *t, struct exec *cpu, struct exec *cuda, float *dy,
                              float *const before[OUT])
{
    struct op_args whole = t->call, narrow = t->call, wide = t->call;
    struct outcome want = {0}, got = {0};
    float *dys[2] = {NULL, dy}, *befores[2][OUT];
    int64_t n = count(&t->call, OUT);
    double tolerance = tests[t->op]->roundings / 512.0, e;
    memcpy(befores[1], before, sizeof befores[1]);
    narrow_call(t, &wide, &narrow, dys, befores);
    t->call = narrow;
    cuda->compute = DT_BF16;
    run_forward(t, cuda, &got);
    if (op_kernel(cuda, t->op)->backward)
        run_backward(t, cuda, &got, dys[1], befores[1], ~0u);
    const char *wrong = op_kernel(cuda, t->op)->backward ? check_overwrite(t, cuda, &got, dys[1])
                                                         : NULL;
    cuda->compute = DT_F32;
    if (wrong)
        return COMPLAIN("CUDA in bf16: %s", wrong);
    t->call = wide;
    run_forward(t, cpu, &want);
    float *out = test_widen(t, got.out, DT_BF16, n);
    e = distance(out, want.out, n) / tolerance;
    /* backward is compared on the same values, too */
    want.out = out;
    if (op_kernel(cpu, t->op)->backward)
        run_backward(t, cpu, &want, dys[0], befores[0], ~0u);
    t->call = whole;
    worst_bf16 = fmax(worst_bf16, e);
    if (e > 1)
        return COMPLAIN("CUDA in bf16: output differs by %.2g, allowed %.2g", e * tolerance,
                        tolerance);
    for (int i = 0; i < OUT; i++) {
        if (!got.g[i])
            continue;
        e = distance(test_widen(t, got.g[i], grad_dtype(&narrow, i), count(&wide, i)), want.g[i],
                     count(&wide, i)) /
            tolerance;
        worst_bf16 = fmax(worst_bf16, e);
        if (e > 1)
            return COMPLAIN("CUDA in bf16: gradient of %s differs by %.2g, allowed %.2g", names[i],
                            e * tolerance, tolerance);
    }
    return cuda->err.set ? COMPLAIN("CUDA in bf16: %s", cuda->err.msg) : NULL;
}

/* Rows of tokens first .. first + n - 1 of each sequence. */
static void *piece_rows(struct trial *t, const char *v, size_t row, int64_t first, int64_t n)
{
    char *to = test_buffer(t, (size_t)(t->batch.n_seq * n) * row);
    for (int64_t s = 0; s < t->batch.n_seq; s++)
        memcpy(to + (size_t)(s * n) * row, v + (size_t)(s * t->batch.seq_len + first) * row,
               (size_t)n * row);
    return to;
}

/* An op with a state, called piece by piece, gives what it gives in one call. */
static const char *check_state(struct trial *t, struct exec *x, const struct outcome *o)
{
    const struct op_args whole = t->call;
    const struct batch b = t->batch;
    float *state = test_buffer(t, (size_t)(b.n_seq * op_state(t->op, &whole)) * 4);
    for (int64_t first = 0, n; op_state(t->op, &whole) && first < b.seq_len; first += n) {
        struct outcome piece = {0};
        n = first + 2 < b.seq_len ? test_size(t, 1, b.seq_len - first) : 1;
        for (int i = 0; i < OP_INPUTS; i++) {
            struct operand *in = &t->call.in[i];
            if (in->cols)
                in->v = piece_rows(t, whole.in[i].v, (size_t)in->cols * 4, first, n);
        }
        if (b.starts)
            t->batch.starts = piece_rows(t, (const char *)b.starts, sizeof *b.starts, first, n);
        test_rows(t, b.n_seq, n, first);
        t->call.state = state;
        t->call.out.rows = t->call.rows;
        run_forward(t, x, &piece);
        t->call = whole;
        t->batch = b;
        float *want = piece_rows(t, (const char *)o->out, (size_t)whole.out.cols * 4, first, n);
        double e = distance(piece.out, want, b.n_seq * n * whole.out.cols);
        if (e > tests[t->op]->tolerance)
            return COMPLAIN("%lld tokens from the state after %lld differ by %.2g, allowed %.2g",
                            (long long)n, (long long)first, e, tests[t->op]->tolerance);
    }
    return NULL;
}

/* A NaN among the inputs must be seen in the output: training relies on it to stop. Last of all,
 * since it spoils the input. */
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
    tests[t->op]->shape(t);
    draw_values(t);
    int64_t n = count(&t->call, OUT);
    double *want = test_buffer(t, (size_t)n * 8), tolerance = tests[t->op]->tolerance;
    dy = test_buffer(t, (size_t)n * 4);
    test_fill(t, dy, n, 1);
    for (int i = 0; i < OUT; i++)
        if (t->v[i]) {
            kept[i] = copy(t, operand(&t->call, i)->v, bytes_of(&t->call, i));
            test_fill(t, before[i] = test_buffer(t, (size_t)count(&t->call, i) * 4),
                      count(&t->call, i), 1);
        }
    tests[t->op]->reference(t, want);
    run_forward(t, &x[t->number % 2], &o);
    run_forward(t, &x[t->number % 2], &again);
    double e = test_error(o.out, want, n);
    worst_value = fmax(worst_value, e);
    if (e > tolerance)
        return COMPLAIN("output: error %.2g, allowed %.2g", e, tolerance);
    if (memcmp(o.out, again.out, (size_t)n * 4))
        return "output: two runs differ";
    const char *wrong = check_state(t, &x[t->number % 2], &o);
    if (!wrong && op_kernel(&x[0], t->op)->backward)
        wrong = check_backward(t, &x[t->number % 2], &o, dy, before);
    if (!wrong)
        wrong = check_against(t, &x[1 - t->number % 2], &o, dy, before, "one or two threads");
    if (!wrong && cuda && op_kernel(cuda, t->op)->forward)
        wrong = check_against(t, cuda, &o, dy, before, "CUDA");
    if (!wrong && cuda && op_kernel(cuda, t->op)->forward)
        wrong = check_state(t, cuda, &o);
    if (!wrong && cuda && op_kernel(cuda, t->op)->forward)
        wrong = check_bf16(t, &x[0], cuda, dy, before);
    for (int i = 0; i < OUT && !wrong; i++)
        if (kept[i] && memcmp(kept[i], operand(&t->call, i)->v, bytes_of(&t->call, i)))
            wrong = COMPLAIN("the values of %s were changed", names[i]);
    if (!wrong)
        wrong = check_nan(t, &x[t->number % 2]);
    return wrong || !cuda || !op_kernel(cuda, t->op)->forward ? wrong : check_nan(t, cuda);
}

/* In every fourth trial parallel regions get one thread although x has more: work must be shared by
 * the threads that a region really has. */
static const char *run_trial(struct trial *t, struct exec x[2], struct exec *cuda, int mode)
{
    t->call.x = mode == ON_CPU ? &x[t->number % 2] : cuda;
    t->call.batch = &t->batch;
    omp_set_max_active_levels(t->number % 4 == 3 ? 0 : 1);
    if (!tests[t->op]->whole)
        return check_op(t, x, cuda);
    if (mode != ON_CPU)
        cuda->compute = mode == IN_BF16 ? DT_BF16 : DT_F32;
    const char *wrong = tests[t->op]->whole(t);
    if (mode == ON_CPU)
        return wrong;
    cuda->compute = DT_F32;
    if (cuda->err.set)
        return COMPLAIN("CUDA: %s", cuda->err.msg);
    if (wrong)
        return COMPLAIN("CUDA%s: %s", mode == IN_BF16 ? " in bf16" : "", wrong);
    return NULL;
}

static void test_op(enum op op, struct exec x[2], struct exec *cuda)
{
    const struct op_test *test = tests[op];
    int failed = check_failed;
    worst_value = worst_gradient = worst_bf16 = 0;
    int modes = test->whole && cuda && op_kernel(cuda, op)->forward ? MODES : 1,
        trials = TRIALS * modes;
    for (int i = 0; i < trials && check_failed == failed; i++) {
        int number = i / modes;
        struct trial t = {.op = op,
                          .number = number,
                          .large = number >= FIRST_LARGE,
                          .rng = rng_open(1, (uint64_t)(op * 100 + number))};
        const char *wrong = run_trial(&t, x, cuda, i % modes);
        if (!wrong)
            wrong = t.wrong;
        if (!wrong && !test_guards_whole(&t))
            wrong = "something was written past the end of a buffer";
        CHECK(!wrong, "%s, trial %d (%lld rows, in0 %lld, w0 %lld x %lld, out %lld): %s",
              ops[op].name, number, (long long)t.call.rows, (long long)t.call.in[0].cols,
              (long long)t.call.w[0].rows, (long long)t.call.w[0].cols, (long long)t.call.out.cols,
              wrong);
        test_buffers_free(&t);
    }
    printf("%-10s worst error of values %.1e, of gradients %.1e; CUDA: %s", ops[op].name,
           worst_value, worst_gradient, cuda ? "run" : "not run\n");
    if (cuda && op_kernel(cuda, op)->forward)
        printf(", %.2f of what bf16 may be off\n", worst_bf16);
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
    if (exec_open(&device, DEVICE_CUDA, 0) == 0) {
        cuda = &device;
        cuda->compute = DT_F32;
    } else {
        printf("no CUDA: %s\n", device.err.msg);
    }
    CHECK(exec_open(&x[0], DEVICE_CPU, 1) == 0 && exec_open(&x[1], DEVICE_CPU, 2) == 0,
          "cannot open the CPU");
    for (int op = 0; op < OP_COUNT; op++)
        if (chosen(argc, argv, ops[op].name))
            test_op((enum op)op, x, cuda);
    if (cuda)
        exec_close(cuda);
    return check_report();
}
