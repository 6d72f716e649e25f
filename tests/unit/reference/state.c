/* Losses on hidden states, the relations among the vectors of a sequence, and the ratio of two sums
 * of losses, in double precision. A gradient is compared with central differences of the reference
 * along directions. */
#include "reference.h"

#include <math.h>
#include <string.h>

enum { DIRECTIONS = 3 };

typedef void reference_fn(const struct trial *t, double *out);

static int is_bf16(const struct trial *t) { return t->call.x->compute == DT_BF16; }

static double *doubles(struct trial *t, int64_t n)
{
    return memset(test_buffer(t, (size_t)n * 8), 0, (size_t)n * 8);
}

static int is_padding(const struct trial *t, int64_t row)
{
    return t->batch.labels[row] == LABEL_PADDING;
}

/* Sequences of different lengths, among whose tokens some are not counted, but read. */
static void draw_batch(struct trial *t, int64_t most)
{
    int64_t n_seq = test_size(t, 1, 3), seq_len = test_size(t, 1, most);
    test_rows(t, n_seq, seq_len, 0);
    int32_t *labels = test_buffer(t, (size_t)t->call.rows * sizeof *labels);
    for (int64_t i = 0; i < n_seq; i++) {
        int64_t length = i ? test_size(t, 1, seq_len) : seq_len;
        for (int64_t j = 0; j < seq_len; j++) {
            int32_t label = j % 3 ? 5 : LABEL_UNCOUNTED;
            labels[i * seq_len + j] = j < length ? label : LABEL_PADDING;
        }
    }
    t->batch.labels = labels;
    float *step = test_buffer(t, STATE_STEP * sizeof *step);
    step[STATE_SCALE] = 0.37f;
    step[STATE_WEIGHT] = 1.9f;
    t->call.step = step;
}

/* The values of in0 and in1 as the kernel reads them. */
static void draw_states(struct trial *t)
{
    for (int i = 0; i < 2; i++) {
        struct operand *o = &t->call.in[i];
        int64_t n = o->rows * o->cols;
        float *f = test_buffer(t, (size_t)n * 4);
        test_fill(t, f, n, t->spread != 0 ? t->spread : 1);
        if (t->number == 3) /* a row of zeros */
            memset(f, 0, (size_t)o->cols * sizeof *f);
        o->dtype = t->call.x->compute;
        o->v = is_bf16(t) ? test_narrow(t, f, n) : f;
        t->v[IN0 + i] = doubles(t, n);
        for (int64_t j = 0; j < n; j++)
            t->v[IN0 + i][j] = (double)f[j];
    }
}

/* Sum of all losses, each with the weight of its gradient. */
static double weighted_sum(const struct trial *t, reference_fn *reference, double weight)
{
    double *out = doubles((struct trial *)t, t->call.rows), sum = 0;
    reference(t, out);
    for (int64_t i = 0; i < t->call.rows; i++)
        sum += out[i];
    return sum * weight * t->call.step[STATE_SCALE] * t->call.step[STATE_WEIGHT];
}

/* What the kernel says the sum changes by along a direction, against what the reference does. */
static const char *check_direction(struct trial *t, reference_fn *reference, double weight,
                                   const float *g)
{
    int64_t n = t->call.in[0].rows * t->call.in[0].cols;
    double *x = t->v[IN0], *d = doubles(t, n), sum[2], got = 0, norm = 0;
    double h = 1e-5, allowed = is_bf16(t) ? 0.03 : 1e-5;
    for (int64_t i = 0; i < n; i++) {
        d[i] = rng_normal(&t->rng);
        got += (double)g[i] * d[i];
        norm += (double)g[i] * (double)g[i];
    }
    for (int side = 0; side < 2; side++) {
        for (int64_t i = 0; i < n; i++)
            x[i] += (side ? -2 : 1) * h * d[i];
        sum[side] = weighted_sum(t, reference, weight);
    }
    for (int64_t i = 0; i < n; i++)
        x[i] += h * d[i];
    double want = (sum[0] - sum[1]) / (2 * h);
    return fabs(got - want) <= allowed * (sqrt(norm) + fabs(want) + 1e-3)
               ? NULL
               : "the gradient of in0 is not the slope of the losses";
}

/* The gradient that the kernel adds to `before`, or with `set` overwrites, in f32. */
static float *run_backward(struct trial *t, float *before, int set)
{
    int64_t n = t->call.in[0].rows * t->call.in[0].cols;
    struct op_args c = t->call;
    float *g = memcpy(test_buffer(t, (size_t)n * 4), before, (size_t)n * 4);
    c.in[0].g = is_bf16(t) ? test_narrow(t, g, n) : g;
    c.in[0].overwrite = set;
    test_call(t, &c, 1);
    return test_widen(t, c.in[0].g, c.in[0].dtype, n);
}

static const char *check_gradient(struct trial *t, reference_fn *reference, double weight)
{
    int64_t n = t->call.in[0].rows * t->call.in[0].cols;
    float *zeros = memset(test_buffer(t, (size_t)n * 4), 0, (size_t)n * 4);
    float *ones = test_buffer(t, (size_t)n * 4);
    for (int64_t i = 0; i < n; i++)
        ones[i] = 1;
    float *g = run_backward(t, zeros, 0), *more = run_backward(t, ones, 0);
    for (int64_t i = 0; i < n; i++)
        if (!(fabsf(more[i] - 1 - g[i]) <= (is_bf16(t) ? 0.02f : 1e-6f) * (1 + fabsf(g[i]))))
            return "a gradient is not added to what there was";
    if (op_kernel(t->call.x, t->op)->sets) {
        float *set = run_backward(t, ones, 1);
        for (int64_t i = 0; i < n; i++)
            if (set[i] != g[i])
                return "a gradient is not overwritten";
    }
    for (int64_t row = 0; row < t->call.rows; row++)
        for (int64_t i = 0; i < t->call.in[0].cols && is_padding(t, row); i++)
            if (g[row * t->call.in[0].cols + i] != 0)
                return "padding has a gradient";
    const char *wrong = NULL;
    for (int i = 0; i < DIRECTIONS && !wrong && t->number != 3; i++)
        wrong = check_direction(t, reference, weight, g);
    return wrong;
}

static const char *check_values(struct trial *t, reference_fn *reference)
{
    int64_t rows = t->call.rows;
    double *want = doubles(t, rows), *got = doubles(t, rows), *again = doubles(t, rows);
    /* a relation is off by as much as its scores, which are sums in f32 */
    double allowed = t->op == OP_relation || is_bf16(t) ? 1e-5 : 1e-6;
    struct op_args c = t->call;
    reference(t, want);
    c.out.v = got;
    test_call(t, &c, 0);
    c.out.v = again;
    test_call(t, &c, 0);
    for (int64_t i = 0; i < rows; i++)
        if (!(fabs(got[i] - want[i]) <= allowed * (1 + fabs(want[i]))) ||
            (is_padding(t, i) && got[i] != 0))
            return "a loss differs";
    if (memcmp(got, again, (size_t)rows * sizeof *got))
        return "two runs differ";
    float *nan = &(float){NAN};
    from_f32(t->call.in[0].v, t->call.in[0].dtype, nan, 1);
    test_call(t, &c, 0);
    return isnan(again[0]) ? NULL : "a NaN leaves no trace in the loss";
}

static const char *check_all(struct trial *t, reference_fn *reference, double weight)
{
    t->call.out = test_operand(t->call.rows, 1);
    t->call.out.dtype = DT_F64;
    t->call.batch = &t->batch;
    const char *wrong = check_gradient(t, reference, weight);
    return wrong ? wrong : check_values(t, reference);
}

/* ---- state */

static double dot(const double *a, const double *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

static double mean_square(const double *a, const double *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sum / (double)n;
}

static void state_reference(const struct trial *t, double *out)
{
    int64_t n = t->call.in[0].cols;
    for (int64_t i = 0; i < t->call.rows; i++) {
        const double *a = t->v[IN0] + i * n, *b = t->v[IN1] + i * n;
        double norms = sqrt(dot(a, a, n) * dot(b, b, n));
        if (is_padding(t, i))
            out[i] = 0;
        else if (t->call.p.state.loss == STATE_mse)
            out[i] = mean_square(a, b, n);
        else
            out[i] = norms == 0 ? 1 : 1 - dot(a, b, n) / norms;
    }
}

static const char *state_whole(struct trial *t)
{
    int64_t cols = t->large ? 577 : test_size(t, 2, 90);
    draw_batch(t, t->large ? 150 : 20);
    t->call.in[0] = t->call.in[1] = test_operand(t->call.rows, cols);
    t->call.p.state = (struct state_params){0.6f, t->number % 2 ? STATE_cosine : STATE_mse};
    t->spread = t->number % 3 ? 1 : 4;
    draw_states(t);
    return check_all(t, state_reference, 0.6f);
}

const struct op_test state_test = {.whole = state_whole};

/* ---- relation */

/* Where the document of a row begins in its sequence. */
static int64_t start_of(const struct trial *t, int64_t row)
{
    return t->batch.starts ? t->batch.starts[row] : 0;
}

/* Several documents in each sequence. */
static void draw_starts(struct trial *t)
{
    int32_t *starts = test_buffer(t, (size_t)t->call.rows * sizeof *starts);
    for (int64_t i = 0; i < t->call.rows; i++) {
        int64_t j = i % t->batch.seq_len;
        starts[i] = j ? starts[i - 1] : 0;
        if (rng_below(&t->rng, 7) == 0)
            starts[i] = (int32_t)j;
    }
    t->batch.starts = starts;
}

/* Logarithms of the relations of token j of a sequence to those of its document up to itself, in
 * one head. */
static void log_relations(const struct trial *t, int i, int64_t first, int64_t j, int64_t head,
                          double *r)
{
    int64_t ld = t->call.in[i].cols, width = ld / t->call.p.relation.heads;
    const double *a = t->v[IN0 + i] + first * ld + head * width;
    double most = -INFINITY, sum = 0;
    int64_t start = start_of(t, first + j);
    for (int64_t k = start; k <= j; k++) {
        r[k] = dot(a + j * ld, a + k * ld, width) / sqrt((double)width);
        most = fmax(most, r[k]);
    }
    for (int64_t k = start; k <= j; k++)
        sum += exp(r[k] - most);
    for (int64_t k = start; k <= j; k++)
        r[k] -= most + log(sum);
}

static void relation_reference(const struct trial *t, double *out)
{
    int64_t N = t->batch.seq_len, heads = t->call.p.relation.heads;
    double *s = doubles((struct trial *)t, N), *r = doubles((struct trial *)t, N);
    for (int64_t i = 0; i < t->call.rows; i++) {
        out[i] = 0;
        for (int64_t head = 0; head < heads && !is_padding(t, i); head++) {
            log_relations(t, 0, i / N * N, i % N, head, s);
            log_relations(t, 1, i / N * N, i % N, head, r);
            for (int64_t k = start_of(t, i); k <= i % N; k++)
                out[i] += exp(r[k]) * (r[k] - s[k]) / (double)heads;
        }
    }
}

static const char *relation_whole(struct trial *t)
{
    int64_t heads = test_size(t, 1, 4);
    draw_batch(t, t->large ? 140 : 20); /* more than one block of rows */
    t->call.in[0] = test_operand(t->call.rows, heads * test_size(t, 1, 9));
    t->call.in[1] = test_operand(t->call.rows, heads * test_size(t, 1, 9));
    t->call.p.relation = (struct relation_params){0.6f, heads};
    if (t->number % 3 == 2)
        draw_starts(t);
    t->spread = t->number % 3 ? 1 : 2;
    draw_states(t);
    return check_all(t, relation_reference, 0.6f);
}

const struct op_test relation_test = {.whole = relation_whole};

/* ---- ratio */

static const char *ratio_whole(struct trial *t)
{
    int64_t n = test_size(t, 2, 12);
    int is_zero = t->number % 4 == 0;
    double *x = doubles(t, n), over = 0, under = 0;
    float *a = test_buffer(t, (size_t)n * 4), *b = test_buffer(t, (size_t)n * 4);
    float *got = test_buffer(t, sizeof *got);
    test_fill(t, a, n, 1);
    test_fill(t, b, n, is_zero ? 0 : 1);
    for (int64_t i = 1; i < n; i++) {
        x[i] = rng_normal(&t->rng);
        over += (double)a[i] * x[i];
        under += (double)b[i] * x[i];
    }
    x[0] = NAN; /* a term without a factor does not count */
    a[0] = b[0] = 0;
    t->call.rows = 1;
    t->call.in[0] = (struct operand){.v = x, .dtype = DT_F64, .rows = 1, .cols = n};
    double want = is_zero ? 0 : over / under;
    float most = t->number % 3 ? 1e9f : 0.5f;
    t->call.p.ratio = (struct ratio_params){a, b, most, got};
    test_call(t, &t->call, 0);
    want = want > most ? most : want;
    return fabs(*got - want) <= 1e-6 * fabs(want) ? NULL : "the ratio differs";
}

const struct op_test ratio_test = {.whole = ratio_whole};
